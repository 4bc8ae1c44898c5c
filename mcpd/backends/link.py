"""One legacy session with a backend: handshake, requests, and what the backend says of its own accord.

Theory of operation. A carrier moves messages; the link knows what they mean. Requests go through `request`,
which parks the caller until the response is there. Everything else that arrives goes through `receive`:
progress finds its call by token, a question or a log line its client by the rules of attribution, and news
about lists and resources goes up.

Rules.
1. A carrier that knows which request a message belongs to (a stream of its own) says so; then nothing is
   guessed.
2. A request that was refused for its session was not executed: the session is opened anew, level and
   subscriptions are set again, and the request is sent once more. Nothing else is ever sent twice.
3. A session is opened anew once for all who were refused, in a task of the link: a client that leaves
   meanwhile harms nobody. If it cannot be opened, the link is lost.
4. Whatever a backend sends harms nothing but itself: what cannot be read is logged and dropped.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends.carrier import SessionLost
from mcpd.backends.questions import Questions, allowed, elicitations_of
from mcpd.backends.waiter import Waiter
from mcpd.errors import (
    INTERNAL_ERROR,
    URL_ELICITATION_REQUIRED,
    BackendError,
    BackendMisbehaved,
    BackendTimedOut,
    BackendUnavailable,
    ProtocolError,
    RpcError,
)
from mcpd.protocol import handshake, jsonrpc
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.backends.carrier import Carrier, Listener
    from mcpd.config.model import Timeouts
    from mcpd.protocol.calls import Call
    from mcpd.protocol.capabilities import ClientCapability
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.types import SessionKey
    from mcpd.wire.deadlines import Deadlines

__all__ = ["Link", "allowed", "severity", "wants_log"]

log = logging.getLogger("mcpd.backends")

ERRANDS_MAX: Final = 4096
"""Messages and questions of one link that are dealt with in the background: twice the calls that may be
cancelled at once. A backend that causes more, and takes none of our answers, is not answered any more."""

CLIENT_INFO = b'{"name":"mcpd","title":"mcpd gateway","version":"0.1.0"}'


class Link:
    """One session with a backend. `owner` is the client session it serves alone, None for a shared one."""

    def __init__(
        self,
        name: str,
        *,
        capabilities: ClientCapability,
        owner: SessionKey | None,
        listener: Listener,
        timeouts: Timeouts,
        deadlines: Deadlines,
        nursery: trio.Nursery,
    ) -> None:
        self.name = name
        self.owner = owner
        self.hello: handshake.ServerHello | None = None
        self.level: str | None = None
        self.subscriptions: dict[str, Members] = {}
        self.last_used = trio.current_time()
        self.lost = trio.Event()
        self.reason: Exception | None = None
        """Why the link is lost."""
        self._carrier: Carrier | None = None
        self._capabilities = capabilities
        self._listener = listener
        self._timeouts = timeouts
        self._deadlines = deadlines
        # Questions and cancellations outlive the message that caused them, never the link: the nursery is
        # the link's own, opened by the function that keeps it connected.
        self._nursery = nursery
        self._peer = Peer()
        self._state = handshake.ClientState.NEW
        self._errands = 0
        self.generation = 0
        """Counts the sessions that this link has had."""
        self._renewal: trio.Event | None = None
        self._questions = Questions(name, peer=self._peer, owner=owner, asker=listener, timeout=timeouts.ask)

    def attach(self, carrier: Carrier) -> None:
        """Give the link what moves its messages."""
        self._carrier = carrier

    @property
    def carrier(self) -> Carrier:
        assert self._carrier is not None, "a link is used after it was attached"
        return self._carrier

    @property
    def in_flight(self) -> int:
        return len(self._peer)

    async def open(self) -> handshake.ServerHello:
        """Do the handshake. Raises: BackendError when the backend refuses or does not answer it.

        The caller bounds it by `timeouts.init`.
        """
        self._state = handshake.offer(handshake.ClientState.NEW, handshake.Event.INITIALIZE)
        params = handshake.initialize_params(self._capabilities, CLIENT_INFO)
        waiter = self._waiter("initialize", None, self._timeouts.init, self._timeouts.init)
        try:
            answer = await self._once(waiter, jsonrpc.members_of(params))
            hello = handshake.read_initialize_result(answer.members["result"])
        except BackendError:
            raise
        except (ProtocolError, UnicodeDecodeError) as error:
            raise BackendMisbehaved(
                self.name, str(error), remedy="check that this is an MCP server"
            ) from None
        except RpcError as error:
            self._state = handshake.offer(self._state, handshake.Event.ERROR)
            raise BackendUnavailable(
                self.name, f"it refused initialize: {error.message}", remedy="see the server's own log"
            ) from None
        self._state = handshake.offer(self._state, handshake.Event.RESULT)
        self.hello = hello
        self.carrier.opened(hello)
        await self.carrier.post(jsonrpc.notification(b"notifications/initialized"))
        self._state = handshake.offer(self._state, handshake.Event.INITIALIZED)
        return hello

    # ---- what mcpd sends -----------------------------------------------------------------------------------

    def call(self, call: Call, method: str, members: Members) -> Awaitable[Message]:
        """Carry out a client's call. Raises: RpcError, BackendError, when awaited."""
        timeouts = self._timeouts
        return self._request(self._waiter(method, call, timeouts.call_idle, timeouts.call_max), members)

    def request(self, method: str, members: Members, timeout: float) -> Awaitable[Message]:
        """Send a request of mcpd's own (a list, a level). Raises: RpcError, BackendError, when awaited."""
        return self._request(self._waiter(method, None, timeout, timeout), members)

    async def _request(self, waiter: Waiter, members: Members) -> Message:
        self.last_used = waiter.begun
        if self._renewal is not None:
            await self._renewal.wait()
        generation = self.generation
        try:
            return await self._once(waiter, members)
        except SessionLost:
            await self.renew(generation)
        again = self._waiter(waiter.method, waiter.call, waiter.idle, waiter.final - trio.current_time())
        try:
            return await self._once(again, members)
        except SessionLost:
            raise BackendUnavailable(
                self.name, "it loses every session at once", remedy="look at the server's own session handling"
            ) from None

    async def _once(self, waiter: Waiter, members: Members) -> Message:
        """One request and its response. Raises: SessionLost, RpcError: the backend's own error too."""
        if self.reason is not None:
            raise self.reason.with_traceback(None)
        id = self._peer.open(waiter)
        self._deadlines.add(waiter)
        try:
            call = waiter.call
            if call is not None and call.token is not None:
                members = with_progress_token(members, id)
            params = jsonrpc.encode_members(members) if members else None
            answer = await self.carrier.carry(waiter, jsonrpc.request(id, waiter.method.encode(), params))
        except trio.Cancelled:
            self._cancel(waiter, "the client cancelled the request")
            raise
        finally:
            self._peer.close(waiter)
            self._deadlines.discard(waiter)
        if "result" not in answer.members:
            self._refused(waiter, answer)
        return answer

    def _refused(self, waiter: Waiter, answer: Message) -> None:
        """Raise the backend's own error, after noting what it announces."""
        try:
            _result(answer)
        except RpcError as error:
            if error.code == URL_ELICITATION_REQUIRED and error.raw is not None and waiter.call is not None:
                for elicitation in elicitations_of(error.raw):
                    self._questions.remember(waiter.call, elicitation)
            raise

    async def renew(self, generation: int) -> None:
        """Open a new session in place of the lost one of that generation, unless somebody does or did (rule
        3).

        Raises: BackendError: it cannot be opened, and the link is lost.
        """
        if self.reason is None and generation == self.generation:
            if self._renewal is None:
                self._renewal = trio.Event()
                self._nursery.start_soon(self._renew, self._renewal)
            await self._renewal.wait()
        if self.reason is not None:
            raise self.reason.with_traceback(None)

    async def wait_settled(self) -> None:
        """Return when no session is just being opened anew."""
        if self._renewal is not None:
            await self._renewal.wait()

    async def _renew(self, done: trio.Event) -> None:
        log.info("backend=%s event=session_lost action=initialize", self.name)
        failure: BackendError | None = None
        try:
            self.carrier.reset()
            with trio.fail_after(self._timeouts.init):
                await self.open()
                await self._replay(self._once)
            self.generation += 1
        except trio.TooSlowError:
            failure = BackendTimedOut(
                self.name,
                f"no new session in {self._timeouts.init:g} s",
                remedy=f"servers.{self.name}.timeouts.init",
            )
        except SessionLost:
            failure = BackendUnavailable(
                self.name,
                "it loses every session at once",
                remedy="look at the server's own session handling",
            )
        except BackendError as error:
            failure = error
        finally:
            self._renewal = None
            if failure is not None:
                self.fail(failure)
            done.set()
        if failure is None and self.owner is None:
            # Most often it was restarted, perhaps as a newer version: whatever it lists now counts.
            for method in LIST_CHANGES:
                self._listener.list_changed(method)

    async def replay(self) -> None:
        """Set again what the session knew: log level and subscriptions. A refusal of one is logged, not
        raised.
        """
        await self._replay(self._request)

    async def _replay(self, send: Callable[[Waiter, Members], Awaitable[Message]]) -> None:
        if self.level is not None:
            await self._set_level(self.level, send)
        for uri, members in list(self.subscriptions.items()):
            try:
                await send(self._own("resources/subscribe"), members)
            except RpcError as error:
                log.warning("backend=%s event=resubscribe_failed uri=%s reason=%s", self.name, uri, error)

    async def set_level(self, level: str) -> None:
        """Tell the backend which log messages are wanted, if it logs. A refusal is logged, not raised."""
        self.level = level
        await self._set_level(level, self._request)

    async def _set_level(self, level: str, send: Callable[[Waiter, Members], Awaitable[Message]]) -> None:
        if self.hello is None or not self.hello.capabilities.logging:
            return
        try:
            await send(self._own("logging/setLevel"), {"level": msgspec.Raw(msgspec.json.encode(level))})
        except RpcError as error:
            log.warning("backend=%s event=set_level_failed reason=%s", self.name, error)

    def notify(self, method: str, params: Buffer | None = None) -> None:
        """Send a notification in the background; a failure shows in the next request."""
        self._errand(self._post, jsonrpc.notification(method.encode(), params))

    def request_quietly(self, method: str, members: Members) -> None:
        """Send a request in the background whose outcome changes nothing; a failure is logged."""
        self._errand(self._ask_quietly, method, members)

    def _errand(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        """Do something beside, unless the link is lost: its nursery may be closed, and nobody listens."""
        if self.lost.is_set():
            return
        if self._errands >= ERRANDS_MAX:
            log.warning("backend=%s event=too_many_errands limit=%d", self.name, ERRANDS_MAX)
            return
        self._errands += 1
        self._nursery.start_soon(self._run_errand, work, args)

    async def _run_errand(self, work: Callable[..., Awaitable[None]], args: tuple[object, ...]) -> None:
        try:
            await work(*args)
        except (RpcError, SessionLost) as error:
            log.debug("backend=%s event=errand_failed reason=%r", self.name, error)
        finally:
            self._errands -= 1

    async def _ask_quietly(self, method: str, members: Members) -> None:
        try:
            await self.request(method, members, self._timeouts.list)
        except RpcError as error:
            log.info("backend=%s event=request_failed method=%s reason=%s", self.name, method, error)

    async def _post(self, parts: tuple[Buffer, ...]) -> None:
        with trio.move_on_after(self._timeouts.list):
            await self.carrier.post(parts)

    def _cancel(self, waiter: Waiter, reason: str) -> None:
        if waiter.method == "initialize" or self.lost.is_set():
            return  # the specification forbids to cancel initialize
        if waiter.questions:
            self._questions.withdraw(waiter)
        self.carrier.forgo(waiter)
        params = msgspec.json.encode({"requestId": waiter.id, "reason": reason})
        self.notify("notifications/cancelled", params)

    def _own(self, method: str) -> Waiter:
        """A request of mcpd's own that is due within `timeouts.list`."""
        return self._waiter(method, None, self._timeouts.list, self._timeouts.list)

    def _waiter(self, method: str, call: Call | None, idle: float, final: float) -> Waiter:
        return Waiter(method, call, idle=idle, final=final, on_expire=self._expired)

    def _expired(self, waiter: Waiter) -> None:
        now = trio.current_time()
        if waiter.questions and now < waiter.final:
            waiter.alive()
            self._deadlines.add(waiter)
            return
        setting = {"initialize": "init"}.get(waiter.method, "list")
        after = waiter.idle
        if waiter.call is not None:
            setting = "call_max" if now >= waiter.final else "call_idle"
            after = self._timeouts.call_max if now >= waiter.final else waiter.idle
        self._cancel(waiter, "timed out")
        waiter.settle(
            BackendTimedOut(
                self.name,
                f"no answer to {waiter.method} in {after:g} s",
                remedy=f"raise servers.{self.name}.timeouts.{setting} if it needs longer",
            )
        )

    def fail(self, reason: Exception) -> None:
        """The link is lost: every request in flight fails now, and every later one."""
        if self.reason is None:
            self.reason = reason
            self.lost.set()
        for pending in self._peer.take_all():
            assert isinstance(pending, Waiter)
            pending.settle(reason)

    # ---- what the backend sends ----------------------------------------------------------------------------

    def receive(self, message: Message, related: Waiter | None = None) -> None:
        """Take one message from the carrier. `related`: the request whose own stream it came on (rule 1)."""
        method = message.method
        if method is None:
            pending = self._peer.take(message)
            if pending is not None:
                assert isinstance(pending, Waiter)
                pending.settle(message)
            return
        if message.id is not None:
            self._question(message, related)
            return
        handler = _NOTIFICATIONS.get(method)
        if handler is not None:
            try:
                handler(self, message, related)
            except (ProtocolError, ValueError) as error:  # ValueError: text that is not UTF-8
                log.warning("backend=%s event=bad_notification method=%s reason=%s", self.name, method, error)

    def _progress(self, message: Message, related: Waiter | None) -> None:
        members = _params(message)
        token = members.get("progressToken")
        pending = self._peer.find(bytes(token) if token is not None else None)
        if not isinstance(pending, Waiter) or pending.call is None or pending.call.token is None:
            return
        pending.alive()
        members["progressToken"] = msgspec.Raw(pending.call.token)
        pending.call.emit("notifications/progress", jsonrpc.encode_members(members))

    def _log_message(self, message: Message, related: Waiter | None) -> None:
        pending, clients = (related, 1) if related is not None else self._peer.whose_log()
        params = message.params or b"{}"
        if pending is not None and pending.call is not None:
            if wants_log(pending.call, params):
                pending.call.emit("notifications/message", params)
        elif clients <= 1 or self.owner is not None:
            self._listener.unrelated("notifications/message", params, self.owner)
        # else: several clients have calls in flight and nothing says whose line this is; nobody gets
        # another's.

    def _list_changed(self, message: Message, related: Waiter | None) -> None:
        assert message.method is not None
        self._listener.list_changed(message.method)

    def _resource_updated(self, message: Message, related: Waiter | None) -> None:
        self._listener.resource_updated(message.params or b"{}", self.owner)

    def _elicitation_complete(self, message: Message, related: Waiter | None) -> None:
        elicitation = _params(message).get("elicitationId")
        key = self._questions.completed(elicitation) if elicitation is not None else None
        if key is not None:
            self._listener.unrelated("notifications/elicitation/complete", message.params or b"{}", key)

    def _cancelled(self, message: Message, related: Waiter | None) -> None:
        id = _params(message).get("requestId")
        if id is not None:
            self._questions.cancel(bytes(id))

    def _question(self, message: Message, related: Waiter | None) -> None:
        assert message.id is not None
        if message.method == "ping":
            self._errand(self._post, jsonrpc.result(message.id, b"{}"))
        else:
            self._errand(self._answer, message, related)

    async def _answer(self, message: Message, related: Waiter | None) -> None:
        reply = await self._questions.answer(message, related)
        if reply is not None:
            await self._post(reply)


_NOTIFICATIONS = {
    "notifications/progress": Link._progress,
    "notifications/message": Link._log_message,
    "notifications/cancelled": Link._cancelled,
    "notifications/tools/list_changed": Link._list_changed,
    "notifications/resources/list_changed": Link._list_changed,
    "notifications/prompts/list_changed": Link._list_changed,
    "notifications/resources/updated": Link._resource_updated,
    "notifications/elicitation/complete": Link._elicitation_complete,
}
"""What a backend may notify. Anything else is ignored, as the specification asks."""

LIST_CHANGES: Final = tuple(name for name, handler in _NOTIFICATIONS.items() if handler is Link._list_changed)


def with_progress_token(members: Members, token: int) -> Members:
    """A copy of params whose `_meta.progressToken` is ours; everything else in `_meta` stays."""
    meta = dict(jsonrpc.members_of(members["_meta"])) if "_meta" in members else {}
    meta["progressToken"] = msgspec.Raw(b"%d" % token)
    return {**members, "_meta": msgspec.Raw(jsonrpc.encode_members(meta))}


def wants_log(call: Call, params: Buffer) -> bool:
    """Whether the caller wants log messages this severe; one who never said gets what the server sends."""
    return call.caller.log_level is None or severity(params) >= call.caller.log_level


def severity(params: Buffer) -> int:
    """Index into LOG_LEVELS of a `notifications/message`; an unknown level counts as the most severe."""
    level = jsonrpc.members_of(params).get("level")
    name = bytes(level).strip(b'"').decode("latin-1") if level is not None else ""
    return LOG_LEVELS.index(name) if name in LOG_LEVELS else len(LOG_LEVELS)


def _params(message: Message) -> Members:
    return jsonrpc.members_of(message.params) if message.params is not None else {}


def _result(answer: Message) -> Buffer:
    """The result of a response. Raises: RpcError with the backend's error as it came."""
    result = answer.members.get("result")
    if result is not None:
        return result
    raw = bytes(answer.members["error"])
    members = jsonrpc.members_of(raw) if raw[:1] == b"{" else {}
    code = members.get("code")
    text = members.get("message")
    try:
        number = int(bytes(code)) if code is not None else INTERNAL_ERROR
        words = msgspec.json.decode(text, type=str) if text is not None else "error without a message"
    except (ValueError, msgspec.DecodeError):
        number, words = INTERNAL_ERROR, "malformed error"
    if not members:
        raise RpcError(number, words)
    raise RpcError(number, words, raw=raw)
