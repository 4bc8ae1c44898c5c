"""A backend of 2026-07-28: requests that stand alone, input it asks for by its answers, one stream for its news.

Theory of operation. Every request carries mcpd's envelope with what the caller can do. A backend that needs input
answers `input_required`: to a modern client that answer passes through, and its retry is a call like any other; for a
legacy client the call is carried through its rounds here (`rounds`). What the backend has to say of its own accord
comes by `subscriptions/listen` (`listens`).

Rules.
1. A call is sent again only with answers to what the backend asked for, or because the backend says that the headers
   did not fit, which it checks before anything else.
2. A backend that does not speak the version any more is lost, to be opened anew: if it says so itself, or if it answers
   as legacy servers do and another look shows it.
3. A resource that the backend lets be kept is read once (`reads`), whoever asks; the end of the link forgets it.

Source: 2026-07-28 "Versioning", "Multi Round-Trip Requests", "Streamable HTTP", "Cancellation", "Caching".
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends import rounds
from mcpd.backends.legacy import FIRST
from mcpd.backends.listens import Listens
from mcpd.backends.notifications import Notifications
from mcpd.backends.reads import Reads, uri_of
from mcpd.backends.replies import NotUnderstood
from mcpd.errors import (
    HEADER_MISMATCH,
    INVALID_REQUEST,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
    BackendError,
    BackendUnavailable,
    ProtocolError,
    RpcError,
)
from mcpd.protocol import jsonrpc, mirror
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import EVERYTHING, TASKS_EXTENSION, ClientCapability, encode_client_capabilities
from mcpd.protocol.discover import Verdict, judge_error, read_discover
from mcpd.protocol.envelope import stamp
from mcpd.protocol.inputs import INPUT_REQUIRED
from mcpd.protocol.jsonrpc import Message
from mcpd.protocol.modern import own_server_info
from mcpd.protocol.versions import MODERN
from mcpd.types import IMPLEMENTATION

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer, Members

log = logging.getLogger("mcpd.backends")

READ: Final = "resources/read"
GET_TASK: Final = "tasks/get"

VERSION_HEADER: Final = b"MCP-Protocol-Version: %b\r\n" % MODERN.text.encode()

EXTENSIONS_KEPT: Final = 1024
"""Bytes of a client's extensions with which the text of its capabilities is kept to be used again."""

NOT_MODERN: Final = frozenset((INVALID_REQUEST, *range(-32019, -31999))) - {RESOURCE_NOT_FOUND}
"""Errors that no modern server answers to a request as mcpd sends it, but legacy ones do."""


class Modern:
    """The dialect of 2026-07-28. Implements `link.Dialect`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._notifications = Notifications(link.peer, owner=link.owner, listener=link.listener, questions=None)
        self._reads = Reads()
        self._listens = Listens(link, self._reads)
        self._looking = False

    # ---- what mcpd sends -----------------------------------------------------------------------------------

    def call(self, call: Call, method: str, members: Members) -> Awaitable[Message]:
        send = self._read if method == READ else self._send
        if call.caller.stateless:
            return self._relay(send, call, method, members)
        return rounds.carry_out(self._link, send, call, method, members)

    def request(self, method: str, members: Members, timeout: float) -> Awaitable[Message]:
        return self._send(self._link.waiter(method, None, timeout, timeout), members)

    def params(self, waiter: Waiter, members: Members) -> Buffer:
        link = self._link
        call = waiter.call
        if not link.carrier.shared:
            parameters = mirror.NO_PARAMETERS
            if waiter.method == "tools/call":
                parameters = link.listener.tools.parameters.get(bytes(members["name"]), parameters)
            waiter.headers = VERSION_HEADER + mirror.request_headers(waiter.method, members, parameters)
        if call is None:
            stamped = stamp(members, capabilities=OWN, client_info=IMPLEMENTATION, log_level=None, token=None)
        else:
            caller = call.caller
            stamped = stamp(
                members,
                capabilities=declared(caller.capabilities, caller.extensions),
                client_info=caller.client_info or IMPLEMENTATION,
                log_level=LOG_LEVELS[caller.log_level] if caller.log_level is not None else None,
                token=waiter.id if call.token is not None else None,
            )
        return jsonrpc.encode_members(stamped)

    def refused(self, waiter: Waiter, error: RpcError) -> None:
        """Nothing that an error announces concerns anybody but its caller."""

    def cancel(self, waiter: Waiter, reason: str) -> None:
        link = self._link
        link.carrier.forgo(waiter)
        if link.carrier.shared and waiter.method not in FIRST:  # over HTTP the end of the stream tells
            params = msgspec.json.encode({"requestId": waiter.id, "reason": reason})
            link.notify("notifications/cancelled", params)

    async def replay(self) -> None:
        """Open the stream for news, and wait until the backend says what it will send."""
        await self._listens.start()

    async def set_level(self, level: str) -> None:
        """Every request says its own level."""

    async def subscribe(self, call: Call, uri: str, members: Members) -> None:
        await self._listens.add(uri, members)

    async def unsubscribe(self, uri: str, members: Members) -> None:
        await self._listens.drop(uri)

    async def watch(self, task: str) -> None:
        await self._listens.watch(task)

    async def unwatch(self) -> None:
        await self._listens.unwatch()

    def announces(self, kind: str) -> bool:
        return self._listens.announces(kind)

    def roots_changed(self) -> None:
        """Roots are asked for when they are needed."""

    def check(self) -> None:
        self._link.errands.start(self._look)

    async def renewed(self, generation: int) -> None:
        """There is no session to lose."""

    async def wait_settled(self) -> None:
        """Nor to open."""

    async def _relay(self, send: rounds.Send, call: Call, method: str, members: Members) -> Message:
        """A modern client's call; its result is as the backend gave it, but for who says to have given it."""
        link = self._link
        timeouts = link.timeouts
        answer = await send(link.waiter(method, call, timeouts.call_idle, timeouts.call_max), members)
        result = answer.members["result"]
        kind = rounds.kind_of(result, call, method, link.name)
        if link.label.text and (kind == INPUT_REQUIRED or method == GET_TASK):
            result = msgspec.Raw(rounds.relabelled(result, link.label.text))
        answer.members["result"] = msgspec.Raw(own_server_info(result, IMPLEMENTATION, method=method))
        return answer

    async def _read(self, waiter: Waiter, members: Members) -> Message:
        """A resource as it was kept, or from the backend, and then kept if it may be (rule 3). Raises as `_send`."""
        uri = uri_of(members)
        if uri is None:
            return await self._send(waiter, members)
        assert waiter.call is not None
        principal, reads = waiter.call.caller.principal, self._reads
        fresh = reads.get(uri, principal, trio.current_time())
        if fresh is not None:
            return Message({"result": msgspec.Raw(fresh)}, None, None)
        changes = reads.changes
        answer = await self._send(waiter, members)
        if reads.changes == changes:
            reads.keep(uri, principal, answer.members["result"], trio.current_time())
        return answer

    async def _send(self, waiter: Waiter, members: Members) -> Message:
        """One request and its answer, once more if its headers did not fit (rule 1). Raises: RpcError, BackendError."""
        link = self._link
        if waiter.call is not None:
            link.last_used = waiter.begun
        try:
            return await link.once(waiter, members)
        except RpcError as error:
            if error.code == UNSUPPORTED_VERSION:
                raise self._changed() from None
            if error.code != HEADER_MISMATCH or waiter.method != "tools/call":
                doubtful = error.code in NOT_MODERN or isinstance(error, BackendUnavailable)
                if doubtful and not link.carrier.shared:  # a child does not change while it runs
                    self.check()
                raise
        log.info("backend=%s event=headers_refused action=list_tools", link.name)
        await link.listener.relist("tools")
        waiter.again()
        return await link.once(waiter, members)

    # ---- what the backend is -------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Ask again; a backend that is not modern any more is lost (rule 2)."""
        if self._looking:
            return
        link = self._link
        self._looking = True
        try:
            answer = await link.once(link.own("server/discover"), {})
            changed = read_discover(answer.members["result"]) is None
        except BackendError as error:
            changed = isinstance(error, NotUnderstood) and error.sure
        except ProtocolError:
            changed = True
        except RpcError as error:
            changed = judge_error(error) is not Verdict.RESEND
        finally:
            self._looking = False
        if changed:
            self._changed()

    def _changed(self) -> BackendError:
        """The backend is not what it was: the link is lost. Returns the reason."""
        reason = f"it does not speak {MODERN.text} any more"
        failure = BackendUnavailable(self._link.name, reason, remedy="it is looked at anew; call again")
        self._link.fail(failure)
        return failure

    # ---- what the backend sends ----------------------------------------------------------------------------

    def notification(self, message: Message, related: Waiter | None) -> None:
        if not self._listens.take(message, related):
            self._notifications.take(message, related)

    def question(self, message: Message, related: Waiter | None) -> None:
        """No server of this version sends requests; what is no server's is not answered."""
        log.warning("backend=%s event=unexpected_request method=%s", self._link.name, message.method)


def declared(capabilities: ClientCapability, extensions: bytes | None) -> bytes:
    """What a request says that its client can do."""
    if extensions is not None and len(extensions) > EXTENSIONS_KEPT:
        return encode_client_capabilities(capabilities, MODERN, extensions)
    return _declared(capabilities, extensions)


@lru_cache(maxsize=256)
def _declared(capabilities: ClientCapability, extensions: bytes | None) -> bytes:
    return encode_client_capabilities(capabilities, MODERN, extensions)


OWN: Final = declared(EVERYTHING, b'{"%b":{}}' % TASKS_EXTENSION.encode())
"""What mcpd's own requests declare: lists must not leave out what somebody could use, and tasks are told of to those
only who declared them."""
