"""A backend of 2026-07-28: requests that stand alone, input it asks for by its answers, one stream for its news.

Theory of operation. Every request carries mcpd's envelope with what the caller can do. A backend that needs input answers
`input_required`: to a modern client that answer passes through, and its retry is a call like any other; a legacy client
is asked live, and the call is sent again with the answers, until it is complete (`_loop`). What the backend has to say of
its own accord comes by `subscriptions/listen` (`listens.py`).

Rules.
1. A question for which the client declared no capability ends the call: the backend broke its word, and nobody is asked.
2. A call is sent again only with answers to what the backend asked for, or because the backend says that the headers did
   not fit, which it checks before anything else.
3. A backend that says it does not speak the version any more is opened anew, and probed.

Source: 2026-07-28 "Multi Round-Trip Requests", "Versioning", "Streamable HTTP".
"""

from __future__ import annotations

import logging
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends.listens import Listens
from mcpd.backends.notifications import Notifications
from mcpd.backends.questions import allowed, labelled
from mcpd.errors import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    UNSUPPORTED_VERSION,
    BackendMisbehaved,
    BackendUnavailable,
    ProtocolError,
    RpcError,
)
from mcpd.protocol import convert, inputs, jsonrpc, mirror
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability, encode_client_capabilities
from mcpd.protocol.envelope import stamp
from mcpd.protocol.methods import BY_NAME
from mcpd.protocol.modern import own_server_info
from mcpd.protocol.outcome import error_result
from mcpd.protocol.versions import ELICITATION_COMPLETE, MODERN, has
from mcpd.types import IMPLEMENTATION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer, Members, Message

log = logging.getLogger("mcpd.backends")

ROUNDS_MAX: Final = 10
"""Times that one call of a legacy client is sent to a backend that asks for input. The official clients give up then too."""

PAUSE: Final = 0.05
"""Seconds before a call is sent again to a backend that asked for nothing but that; doubled each time."""

PAUSE_MAX: Final = 0.25

VERSION_HEADER: Final = b"MCP-Protocol-Version: %b\r\n" % MODERN.text.encode()

CONTINUES: Final = "input_required"
COMPLETE: Final = "complete"
TASK: Final = "task"
TASKS: Final = b'"io.modelcontextprotocol/tasks"'


class InputFailed(Exception):
    """The client gave no answer that the backend could be given."""


class Modern:
    """The dialect of 2026-07-28. Implements `link.Dialect`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._notifications = Notifications(link.peer, owner=link.owner, listener=link.listener, questions=None)
        self._listens = Listens(link)

    # ---- what mcpd sends -----------------------------------------------------------------------------------

    def call(self, call: Call, method: str, members: Members) -> Awaitable[Message]:
        if call.caller.stateless:
            return self._relay(call, method, members)
        return self._loop(call, method, members)

    def request(self, method: str, members: Members, timeout: float) -> Awaitable[Message]:
        return self._send(self._link.waiter(method, None, timeout, timeout), members)

    def params(self, waiter: Waiter, members: Members) -> Buffer:
        link = self._link
        call = waiter.call
        if not link.carrier.shared:
            parameters = mirror.NO_PARAMETERS
            if waiter.method == "tools/call" and link.tools.parameters:
                parameters = link.tools.parameters.get(bytes(members["name"]), parameters)
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
        # Over HTTP the end of the stream tells. The first request of a connection is never cancelled.
        if link.carrier.shared and waiter.method != "server/discover" and waiter.method != "initialize":
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

    def roots_changed(self) -> None:
        """Roots are asked for when they are needed."""

    def check(self) -> None:
        self._link.request_quietly("server/discover", {})

    async def renewed(self, generation: int) -> None:
        """There is no session to lose."""

    async def wait_settled(self) -> None:
        """Nor to open."""

    async def _send(self, waiter: Waiter, members: Members) -> Message:
        """One request and its answer, once more if its headers did not fit (rule 2). Raises: RpcError, BackendError."""
        link = self._link
        link.last_used = waiter.begun
        try:
            return await link.once(waiter, members)
        except RpcError as error:
            if error.code == UNSUPPORTED_VERSION:
                reason = f"it does not speak {MODERN.text} any more"
                failure = BackendUnavailable(link.name, reason, remedy="it is looked at anew; call again")
                link.fail(failure)
                raise failure from None
            if error.code != HEADER_MISMATCH or waiter.method != "tools/call":
                raise
        log.info("backend=%s event=headers_refused action=list_tools", link.name)
        await link.listener.relist("tools")
        return await link.once(link.waiter(waiter.method, waiter.call, waiter.idle, waiter.idle), members)

    # ---- a modern client -----------------------------------------------------------------------------------

    async def _relay(self, call: Call, method: str, members: Members) -> Message:
        timeouts = self._link.timeouts
        answer = await self._send(self._link.waiter(method, call, timeouts.call_idle, timeouts.call_max), members)
        result = answer.members["result"]
        kind = self._kind(result, method, call)
        if kind == CONTINUES and self._link.label:
            result = msgspec.Raw(relabelled(result, self._link.label))
        answer.members["result"] = msgspec.Raw(own_server_info(result, IMPLEMENTATION))
        return answer

    def _kind(self, result: Buffer, method: str, call: Call) -> str:
        """The type of a result. Raises: BackendMisbehaved for one that may not come here."""
        try:
            kind = inputs.result_type(result)
        except ProtocolError as error:
            raise BackendMisbehaved(self._link.name, f"invalid result of {method}: {error.message}") from None
        if kind == COMPLETE or (kind == CONTINUES and BY_NAME[method].may_ask):
            return kind
        if kind == TASK and call.caller.extensions is not None and TASKS in call.caller.extensions:
            return kind
        raise BackendMisbehaved(self._link.name, f"invalid result of {method}: its resultType is {kind[:40]!r}")

    # ---- a legacy client -----------------------------------------------------------------------------------

    async def _loop(self, call: Call, method: str, members: Members) -> Message:
        """Send the call until it is complete, asking the client in between for what the backend needs."""
        timeouts = self._link.timeouts
        sent, pause = members, PAUSE
        for _round in range(ROUNDS_MAX):
            answer = await self._send(self._link.waiter(method, call, timeouts.call_idle, timeouts.call_max), sent)
            result = answer.members["result"]
            if self._kind(result, method, call) == COMPLETE:
                answer.members["result"] = msgspec.Raw(convert.drop_modern(result))
                return answer
            try:
                needed = inputs.read_input_required(result)
            except ProtocolError as error:
                raise BackendMisbehaved(self._link.name, f"invalid result of {method}: {error.message}") from None
            assert needed is not None
            responses: dict[str, Buffer] = {}
            if needed.requests:
                try:
                    await self._ask_all(call, needed.requests, responses)
                except InputFailed as failed:
                    return self._without_input(method, answer, str(failed))
            else:
                await trio.sleep(pause)
                pause = min(2 * pause, PAUSE_MAX)
            sent = inputs.retry(members, responses, needed.state)
        return self._without_input(method, answer, f"it asked for input {ROUNDS_MAX} times")

    def _without_input(self, method: str, answer: Message, why: str) -> Message:
        text = f"backend '{self._link.name}' needs input that it did not get: {why}"
        if method != "tools/call":
            raise RpcError(INTERNAL_ERROR, text)
        answer.members["result"] = msgspec.Raw(error_result(text))
        return answer

    async def _ask_all(
        self, call: Call, requests: Mapping[str, tuple[str, Buffer]], responses: dict[str, Buffer]
    ) -> None:
        """Ask the client everything at once. Raises: InputFailed."""
        failures: list[str] = []

        async def ask(key: str, method: str, params: Buffer) -> None:
            try:
                responses[key] = await self._ask(call, method, params)
            except RpcError as error:
                failures.append(f"{method}: {error.message}")
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for key, (method, params) in requests.items():
                nursery.start_soon(ask, key, method, params)
        if failures:
            raise InputFailed(failures[0])

    async def _ask(self, call: Call, method: str, params: Buffer) -> Buffer:
        """One answer of the client, bare. Raises: RpcError: there is none that the backend could be given."""
        allowed(method, params, call.caller.capabilities)
        elicitation = method == "elicitation/create"
        if elicitation:
            if self._link.label:
                params = labelled(params, self._link.label)
            params = with_elicitation_id(params, call)
        try:
            params = convert.down_request(method, params, call.caller.version)
        except convert.Untranslatable:
            if elicitation:
                return convert.CANCEL
            raise
        timeout = self._link.timeouts.ask
        try:
            with trio.fail_after(timeout):
                return await call.ask(method, params)
        except trio.TooSlowError:
            raise RpcError(INTERNAL_ERROR, f"the client did not answer in {timeout:g} s") from None
        except RpcError:
            if elicitation:
                return convert.CANCEL
            raise

    # ---- what the backend sends ----------------------------------------------------------------------------

    def notification(self, message: Message, related: Waiter | None) -> None:
        if not self._listens.take(message, related):
            self._notifications.take(message, related)

    def question(self, message: Message, related: Waiter | None) -> None:
        """No server of this version sends requests; what is no server's is not answered."""
        log.warning("backend=%s event=unexpected_request method=%s", self._link.name, message.method)


@lru_cache(maxsize=256)
def declared(capabilities: ClientCapability, extensions: bytes | None) -> bytes:
    """What a request says that its client can do."""
    return encode_client_capabilities(capabilities, MODERN, extensions)


OWN: Final = declared(EVERYTHING, None)
"""What mcpd's own requests declare: lists must not leave out what somebody could use."""


def relabelled(result: Buffer, label: str) -> bytes:
    """An `input_required` whose elicitations say which server asks; nothing else in it changes."""
    members: dict[str, Buffer] = dict(jsonrpc.members_of(result))
    try:
        requests: dict[str, Buffer] = dict(jsonrpc.members_of(members["inputRequests"]))
        for key, raw in requests.items():
            request: dict[str, Buffer] = dict(jsonrpc.members_of(raw))
            if bytes(request.get("method", b"")) == b'"elicitation/create"' and "params" in request:
                request["params"] = labelled(request["params"], label)
                requests[key] = jsonrpc.encode_members(request)
    except (ProtocolError, KeyError):
        return bytes(result)
    members["inputRequests"] = jsonrpc.encode_members(requests)
    return jsonrpc.encode_members(members)


def with_elicitation_id(params: Buffer, call: Call) -> Buffer:
    """An elicitation by URL with the id that 2025-11-25 wants; mcpd makes it, for the backend has none."""
    if not has(call.caller.version, ELICITATION_COMPLETE):
        return params
    members: dict[str, Buffer] = dict(jsonrpc.members_of(params))
    if bytes(members.get("mode", b"")) != b'"url"':
        return params
    members["elicitationId"] = b'"%b"' % str(uuid.uuid4()).encode()
    return jsonrpc.encode_members(members)
