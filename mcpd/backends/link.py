"""One legacy session with a backend: handshake, requests, and what the backend says of its own accord.

Theory of operation. A carrier moves messages; the link knows what they mean. Requests go through `request`, which parks the
caller until the response is there. Everything else that arrives goes through `receive`: progress finds its call by token, a
question or a log line its client by the rules of attribution, and news about lists and resources goes up.

Rules.
1. A carrier that knows which request a message belongs to (a stream of its own) says so; then nothing is guessed.
2. A request that was refused for its session was not executed: the session is opened anew, level and subscriptions are set
   again, and the request is sent once more. Nothing else is ever sent twice.
3. A question's answer goes back even when the client failed to give one, as an error: a backend must not wait for nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from mcpd.backends.waiter import Waiter
from mcpd.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    BackendMisbehaved,
    BackendTimedOut,
    BackendUnavailable,
    ProtocolError,
    RpcError,
)
from mcpd.protocol import handshake, jsonrpc
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import ASKED_FOR, ClientCapability
from mcpd.protocol.convert import Untranslatable, down_request
from mcpd.protocol.peer import Peer

if TYPE_CHECKING:
    from mcpd.config.model import Timeouts
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.types import SessionKey
    from mcpd.wire.deadlines import Deadlines

log = logging.getLogger("mcpd.backends")

QUESTIONS_MAX = 64
"""Questions of one backend session that wait for clients. Each may wait for a person; more than this is a runaway server."""

CLIENT_INFO = b'{"name":"mcpd","title":"mcpd gateway","version":"0.1.0"}'


class SessionLost(Exception):
    """The backend refused a request because it does not know the session; the request was not executed."""


class Carrier(Protocol):
    """Moves messages of one link."""

    async def carry(self, waiter: Waiter, parts: tuple[Buffer, ...]) -> Message:
        """Send a request and return its response. Raises: BackendError, SessionLost."""

    async def post(self, parts: tuple[Buffer, ...]) -> None:
        """Send a notification or a response. Raises: BackendError."""

    def forgo(self, waiter: Waiter) -> None:
        """The request's outcome is not wanted any more; `notifications/cancelled` follows separately."""

    def opened(self, hello: handshake.ServerHello) -> None:
        """The handshake is done; further messages carry what it agreed."""

    def reset(self) -> None:
        """The session was lost; the next message is a new initialize."""


class Listener(Protocol):
    """Who hears what a link's backend says of its own accord."""

    def list_changed(self, kind_of_notification: str) -> None: ...

    def resource_updated(self, params: Buffer, owner: SessionKey | None) -> None: ...

    def unrelated(self, method: str, params: Buffer, owner: SessionKey | None) -> None: ...

    async def ask_owner(self, owner: SessionKey | None, method: str, params: Buffer) -> Buffer: ...


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
        # Questions and cancellations outlive the message that caused them, never the link: the nursery is the link's own,
        # opened by the function that keeps it connected.
        self._nursery = nursery
        self._peer = Peer()
        self._state = handshake.ClientState.NEW
        self._generation = 0
        self._reopening: trio.Lock = trio.Lock()
        self._questions: dict[bytes, trio.CancelScope] = {}
        self._elicitations: dict[bytes, Call] = {}

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
            answer = await self._carry(waiter, b"initialize", params)
            hello = handshake.read_initialize_result(_result(answer))
        except BackendUnavailable:
            raise
        except ProtocolError as error:
            raise BackendMisbehaved(self.name, error.message, remedy="check that this is an MCP server") from None
        except RpcError as error:
            self._state = handshake.offer(self._state, handshake.Event.ERROR)
            if isinstance(error, (BackendTimedOut, BackendMisbehaved)) or error.raw is None:
                raise
            raise BackendUnavailable(
                self.name, f"it refused initialize: {error.message}", remedy="see the server's own log"
            ) from None
        self._state = handshake.offer(self._state, handshake.Event.RESULT)
        self.hello = hello
        self.carrier.opened(hello)
        await self.carrier.post(jsonrpc.notification(b"notifications/initialized"))
        self._state = handshake.offer(self._state, handshake.Event.INITIALIZED)
        return hello

    # ---- what mcpd sends ----------------------------------------------------------------------------------------------

    async def call(self, call: Call, method: str, members: Members) -> Message:
        """Carry out a client's call. Raises: RpcError, BackendError."""
        timeouts = self._timeouts
        waiter = self._waiter(method, call, timeouts.call_idle, timeouts.call_max)
        return await self._request(waiter, members)

    async def request(self, method: str, members: Members, timeout: float) -> Message:
        """Send a request of mcpd's own (a list, a level). Raises: RpcError, BackendError."""
        return await self._request(self._waiter(method, None, timeout, timeout), members)

    async def _request(self, waiter: Waiter, members: Members) -> Message:
        self.last_used = trio.current_time()
        generation = self._generation
        try:
            answer = await self._carry(waiter, waiter.method.encode(), None, members)
        except SessionLost:
            await self._reopen(generation)
            again = self._waiter(waiter.method, waiter.call, waiter.idle, waiter.final - trio.current_time())
            try:
                answer = await self._carry(again, waiter.method.encode(), None, members)
            except SessionLost:
                raise BackendUnavailable(
                    self.name, "it loses every session at once", remedy="look at the server's own session handling"
                ) from None
        _result(answer)
        return answer

    async def _carry(
        self, waiter: Waiter, method: bytes, params: Buffer | None, members: Members | None = None
    ) -> Message:
        if self.reason is not None:
            raise self.reason
        id = self._peer.open(waiter)
        self._deadlines.add(waiter)
        try:
            if members is not None:
                call = waiter.call
                if call is not None and call.token is not None:
                    members = with_progress_token(members, id)
                params = jsonrpc.encode_members(members) if members else None
            return await self.carrier.carry(waiter, jsonrpc.request(id, method, params))
        except trio.Cancelled:
            self._cancel(waiter, "the client cancelled the request")
            raise
        finally:
            self._peer.close(waiter)
            self._deadlines.discard(waiter)

    async def _reopen(self, generation: int) -> None:
        async with self._reopening:
            if self._generation != generation:
                return  # another call that was refused has done it already
            log.info("backend=%s event=session_lost action=initialize", self.name)
            self._generation += 1
            self.carrier.reset()
            try:
                with trio.fail_after(self._timeouts.init):
                    await self.open()
                    await self.replay()
            except trio.TooSlowError:
                raise BackendTimedOut(
                    self.name, f"no new session in {self._timeouts.init:g} s", remedy=f"servers.{self.name}.timeouts.init"
                ) from None
            except SessionLost:
                raise BackendUnavailable(self.name, "it answers initialize with 404") from None

    async def replay(self) -> None:
        """Set again what the session knew: log level and subscriptions. A refusal of one is logged, not raised."""
        if self.level is not None:
            await self.set_level(self.level)
        for uri, members in list(self.subscriptions.items()):
            try:
                await self.request("resources/subscribe", members, self._timeouts.list)
            except RpcError as error:
                log.warning("backend=%s event=resubscribe_failed uri=%s reason=%s", self.name, uri, error)

    async def set_level(self, level: str) -> None:
        """Tell the backend which log messages are wanted, if it logs at all."""
        self.level = level
        if self.hello is None or not self.hello.capabilities.logging:
            return
        try:
            members = {"level": msgspec.Raw(msgspec.json.encode(level))}
            await self.request("logging/setLevel", members, self._timeouts.list)
        except RpcError as error:
            log.warning("backend=%s event=set_level_failed reason=%s", self.name, error)

    def notify(self, method: str, params: Buffer | None = None) -> None:
        """Send a notification in the background; a failure shows in the next request."""
        self._nursery.start_soon(self._post_quietly, jsonrpc.notification(method.encode(), params))

    def request_quietly(self, method: str, members: Members) -> None:
        """Send a request in the background whose outcome changes nothing; a failure is logged."""
        self._nursery.start_soon(self._request_quietly, method, members)

    async def _request_quietly(self, method: str, members: Members) -> None:
        try:
            await self.request(method, members, self._timeouts.list)
        except RpcError as error:
            log.warning("backend=%s event=request_failed method=%s reason=%s", self.name, method, error)

    async def _post_quietly(self, parts: tuple[Buffer, ...]) -> None:
        try:
            with trio.move_on_after(self._timeouts.list):
                await self.carrier.post(parts)
        except (RpcError, SessionLost) as error:
            log.debug("backend=%s event=post_failed reason=%s", self.name, error)

    def _cancel(self, waiter: Waiter, reason: str) -> None:
        if waiter.method == "initialize" or self.lost.is_set():
            return  # the specification forbids to cancel initialize
        self.carrier.forgo(waiter)
        params = msgspec.json.encode({"requestId": waiter.id, "reason": reason})
        self.notify("notifications/cancelled", params)

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

    # ---- what the backend sends ---------------------------------------------------------------------------------------

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
            except ProtocolError as error:
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
        pending = related if related is not None else self._peer.whose_log()[0]
        params = message.params or b"{}"
        if pending is not None and pending.call is not None:
            if wants_log(pending.call, params):
                pending.call.emit("notifications/message", params)
        elif len(self._peer) == 0 or self.owner is not None:
            self._listener.unrelated("notifications/message", params, self.owner)
        # else: several clients have calls in flight and nothing says whose line this is; nobody gets another's.

    def _list_changed(self, message: Message, related: Waiter | None) -> None:
        assert message.method is not None
        self._listener.list_changed(message.method)

    def _resource_updated(self, message: Message, related: Waiter | None) -> None:
        self._listener.resource_updated(message.params or b"{}", self.owner)

    def _elicitation_complete(self, message: Message, related: Waiter | None) -> None:
        elicitation = _params(message).get("elicitationId")
        call = self._elicitations.pop(bytes(elicitation), None) if elicitation is not None else None
        if call is not None:
            self._listener.unrelated("notifications/elicitation/complete", message.params or b"{}", call.caller.key)

    def _cancelled(self, message: Message, related: Waiter | None) -> None:
        id = _params(message).get("requestId")
        scope = self._questions.get(bytes(id)) if id is not None else None
        if scope is not None:
            scope.cancel()

    def _question(self, message: Message, related: Waiter | None) -> None:
        assert message.id is not None
        if message.method == "ping":
            self._nursery.start_soon(self._post_quietly, jsonrpc.result(message.id, b"{}"))
            return
        if len(self._questions) >= QUESTIONS_MAX or message.id in self._questions:
            error = RpcError(INTERNAL_ERROR, f"more than {QUESTIONS_MAX} questions are open, or this id is in use")
            self._nursery.start_soon(self._post_quietly, jsonrpc.error(message.id, error.encode()))
            return
        scope = self._questions[message.id] = trio.CancelScope()
        self._nursery.start_soon(self._answer, message, related, scope)

    async def _answer(self, message: Message, related: Waiter | None, scope: trio.CancelScope) -> None:
        assert message.id is not None
        try:
            with scope:
                try:
                    reply = jsonrpc.result(message.id, await self._ask(message, related))
                except RpcError as error:
                    reply = jsonrpc.error(message.id, error.encode())
                await self._post_quietly(reply)
        finally:
            self._questions.pop(message.id, None)

    async def _ask(self, message: Message, related: Waiter | None) -> Buffer:
        """The client's answer to a backend's question. Raises: RpcError to send back to the backend."""
        method = message.method
        assert method is not None
        needed = ASKED_FOR.get(method)
        if needed is None:
            raise RpcError(METHOD_NOT_FOUND, f"mcpd does not know the request {method}")
        params: Buffer = message.params or b"{}"
        waiter, call = related, related.call if related is not None else None
        if call is None:
            pending, candidates = self._peer.whose_question(needed)
            if candidates > 1:
                raise RpcError(
                    INTERNAL_ERROR,
                    f"{method}: {candidates} clients have a call in flight and nothing says which of them caused it; "
                    f"set servers.{self.name}.instances to per-session",
                )
            if isinstance(pending, Waiter):
                waiter, call = pending, pending.call
        if call is None:
            return await self._listener.ask_owner(self.owner, method, params)
        allowed(method, params, call.caller.capabilities)
        try:
            params = down_request(method, params, call.caller.version)
        except Untranslatable as refusal:
            if method == "elicitation/create":
                return b'{"action":"cancel"}'
            raise RpcError(INVALID_PARAMS, str(refusal)) from None
        if method == "elicitation/create":
            self._remember_elicitation(params, call)
        assert waiter is not None
        waiter.questions += 1
        try:
            with trio.fail_after(self._timeouts.ask):
                return await call.ask(method, params)
        except trio.TooSlowError:
            raise RpcError(INTERNAL_ERROR, f"the client did not answer {method} in {self._timeouts.ask:g} s") from None
        finally:
            waiter.questions -= 1
            waiter.alive()

    def _remember_elicitation(self, params: Buffer, call: Call) -> None:
        """Know whom `notifications/elicitation/complete` is for. Bounded like the questions themselves."""
        if b'"elicitationId"' not in bytes(params):
            return
        elicitation = jsonrpc.members_of(params).get("elicitationId")
        if elicitation is not None:
            while len(self._elicitations) >= QUESTIONS_MAX:
                self._elicitations.pop(next(iter(self._elicitations)))
            self._elicitations[bytes(elicitation)] = call


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


def with_progress_token(members: Members, token: int) -> Members:
    """A copy of params whose `_meta.progressToken` is ours; everything else in `_meta` stays."""
    meta = dict(jsonrpc.members_of(members["_meta"])) if "_meta" in members else {}
    meta["progressToken"] = msgspec.Raw(b"%d" % token)
    return {**members, "_meta": msgspec.Raw(jsonrpc.encode_members(meta))}


def wants_log(call: Call, params: Buffer) -> bool:
    """Whether the caller asked for log messages this severe; one who never said gets what the server sends."""
    return call.caller.log_level is None or severity(params) >= call.caller.log_level


def severity(params: Buffer) -> int:
    """Index into LOG_LEVELS of a `notifications/message`; an unknown level counts as the most severe."""
    level = jsonrpc.members_of(params).get("level")
    name = bytes(level).strip(b'"').decode("latin-1") if level is not None else ""
    return LOG_LEVELS.index(name) if name in LOG_LEVELS else len(LOG_LEVELS)


def allowed(method: str, params: Buffer, capabilities: ClientCapability) -> None:
    """Refuse a question that the client did not declare. Raises: RpcError as a client itself would answer."""
    if not capabilities & ASKED_FOR[method]:
        raise RpcError(METHOD_NOT_FOUND, f"the client did not declare the capability for {method}")
    if method == "elicitation/create":
        mode = jsonrpc.members_of(params).get("mode")
        url = mode is not None and bytes(mode) == b'"url"'
        needed = ClientCapability.ELICITATION_URL if url else ClientCapability.ELICITATION_FORM
        if not capabilities & needed:
            raise RpcError(INVALID_PARAMS, f"the client did not declare elicitation in {'url' if url else 'form'} mode")


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
