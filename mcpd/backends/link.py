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
from typing import TYPE_CHECKING

import msgspec
import trio

from mcpd.backends.carrier import SessionLost
from mcpd.backends.errands import Errands
from mcpd.backends.notifications import LIST_CHANGES, Notifications
from mcpd.backends.questions import Questions, elicitations_of
from mcpd.backends.waiter import Waiter
from mcpd.errors import (
    URL_ELICITATION_REQUIRED,
    BackendError,
    BackendMisbehaved,
    BackendTimedOut,
    BackendUnavailable,
    ProtocolError,
    RpcError,
)
from mcpd.protocol import handshake, jsonrpc
from mcpd.protocol.meta import with_progress_token
from mcpd.protocol.outcome import result_of
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

log = logging.getLogger("mcpd.backends")

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
        label: str = "",
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
        self._errands = Errands(name, nursery, self.lost)
        self.generation = 0
        """Counts the sessions that this link has had."""
        self._renewal: trio.Event | None = None
        self._questions = Questions(
            name, peer=self._peer, owner=owner, asker=listener, timeout=timeouts.ask, label=label
        )
        self._notifications = Notifications(self._peer, owner=owner, listener=listener, questions=self._questions)

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
            raise BackendMisbehaved(self.name, str(error), remedy="check that this is an MCP server") from None
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

    async def open_within(self, seconds: float) -> None:
        """Do the handshake within its time, with a remote backend. Raises: BackendError."""
        try:
            with trio.fail_after(seconds):
                await self.open()
        except trio.TooSlowError:
            raise BackendUnavailable(
                self.name,
                f"no answer to initialize in {seconds:g} s",
                remedy=f"raise servers.{self.name}.timeouts.init if it starts slowly",
            ) from None
        except SessionLost:
            raise BackendUnavailable(self.name, "it answers initialize with HTTP 404") from None

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
            result_of(answer)
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
        self._errands.start(self._post, jsonrpc.notification(method.encode(), params))

    def request_quietly(self, method: str, members: Members) -> None:
        """Send a request in the background whose outcome changes nothing; a failure is logged."""
        self._errands.start(self._ask_quietly, method, members)

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
        try:
            self._notifications.take(message, related)
        except (ProtocolError, ValueError) as error:  # ValueError: text that is not UTF-8
            log.warning("backend=%s event=bad_notification method=%s reason=%s", self.name, method, error)

    def _question(self, message: Message, related: Waiter | None) -> None:
        assert message.id is not None
        if message.method == "ping":
            self._errands.start(self._post, jsonrpc.result(message.id, b"{}"))
        else:
            self._errands.start(self._answer, message, related)

    async def _answer(self, message: Message, related: Waiter | None) -> None:
        reply = await self._questions.answer(message, related)
        if reply is not None:
            await self._post(reply)
