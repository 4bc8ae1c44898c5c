"""One connection to a backend: the requests in flight on it, their ids and deadlines, and how it ends.

Theory of operation. A carrier moves messages; the link knows which answer belongs to which request, and parks the task
of a request until the answer is there. What the messages mean depends on the era: `opening.open_link` finds that out
and gives the link its `dialect` (`legacy.Legacy` or `modern.Modern`), which builds what is sent and understands what
arrives.

Rules.
1. A carrier that knows which request a message belongs to (a stream of its own) says so; then nothing is guessed.
2. A link is lost once, for one reason: every request in flight fails with it, and every later one.
3. Whatever a backend sends harms nothing but itself: what cannot be read is logged and dropped.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import trio

from mcpd.backends.carrier import SessionLost, Wish
from mcpd.backends.errands import Errands
from mcpd.backends.legacy import FIRST, Legacy
from mcpd.backends.modern import Modern
from mcpd.backends.opening import Era, open_link
from mcpd.backends.questions import Label
from mcpd.backends.waiter import Waiter
from mcpd.errors import BackendTimedOut, BackendUnavailable, ProtocolError, RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.outcome import result_of
from mcpd.protocol.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from mcpd.backends.carried import LinkState
    from mcpd.backends.carrier import Carrier, Listener
    from mcpd.config.model import Timeouts
    from mcpd.protocol import handshake
    from mcpd.protocol.calls import Call
    from mcpd.protocol.capabilities import ClientCapability
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.types import SessionKey
    from mcpd.wire.deadlines import Deadlines

log = logging.getLogger("mcpd.backends")


class Dialect(Protocol):
    """What a link's messages mean in one era."""

    def call(self, call: Call, method: str, members: Members) -> Awaitable[Message]:
        """Carry out a client's call; the result is fit for that client's era. Raises: RpcError, BackendError."""

    def request(self, method: str, members: Members, timeout: float) -> Awaitable[Message]:
        """A request of mcpd's own. Raises: RpcError, BackendError."""

    def params(self, waiter: Waiter, members: Members) -> Buffer | None:
        """The params of a request as they go out; `waiter.id` is its id."""

    def refused(self, waiter: Waiter, error: RpcError) -> None:
        """The backend answered with an error: note what it announces."""

    def cancel(self, waiter: Waiter, reason: str) -> None:
        """Nobody wants the outcome of this request any more: the backend is told."""

    def question(self, message: Message, related: Waiter | None) -> None:
        """A request of the backend's."""

    def notification(self, message: Message, related: Waiter | None) -> None:
        """A notification. Raises: ProtocolError, ValueError: it is malformed."""

    async def replay(self) -> None:
        """Set again what was wanted before the link was lost: log level, subscriptions. Never raises RpcError."""

    async def set_level(self, level: str) -> None:
        """The least severe log messages that anybody wants. A refusal is logged, not raised."""

    async def subscribe(self, call: Call, uri: str, members: Members) -> None:
        """Hear of updates of a resource. Raises: RpcError."""

    async def unsubscribe(self, uri: str, members: Members) -> None:
        """Hear no more of them. Raises: RpcError."""

    async def watch(self, task: str) -> None:
        """Hear of changes of a task, which is in `Link.watched`. Raises: RpcError."""

    async def unwatch(self) -> None:
        """Hear no more of tasks that are not in `Link.watched` any more. Never raises RpcError."""

    def announces(self, kind: str) -> bool:
        """Whether the backend will say when this list (one of base.KINDS) changes."""

    def roots_changed(self) -> None:
        """The roots of the client changed."""

    def check(self) -> None:
        """See in the background whether the backend lives."""

    async def renewed(self, generation: int) -> None:
        """Return when the session of that generation, which was lost, was opened anew. Raises: BackendError."""

    async def wait_settled(self) -> None:
        """Return when no session is just being opened anew."""


class Link:
    """One connection to a backend. `owner` is the client session it serves alone, None for a shared one."""

    def __init__(
        self,
        name: str,
        *,
        capabilities: ClientCapability | Wish,
        owner: SessionKey | None,
        listener: Listener,
        timeouts: Timeouts,
        deadlines: Deadlines,
        nursery: trio.Nursery,
        label: Label | None = None,
        era: Era = Era.LEGACY,
    ) -> None:
        self.name = name
        self.owner = owner
        self.wish = capabilities if isinstance(capabilities, Wish) else Wish(capabilities)
        self.listener = listener
        self.timeouts = timeouts
        self.label = label or Label()
        self.era = era
        """What is expected of the backend, until it was opened; then what it is."""
        self.remember = 0.0
        """Seconds for which other links to the same server may expect what this one found out."""
        self.hello: handshake.ServerHello | None = None
        self.carried: LinkState | None = None
        """What another program says of it that opened it; None for one that is opened here."""
        self.level: str | None = None
        self.subscriptions: dict[str, Members] = {}
        self.watched: Collection[str] = ()
        """The tasks of which changes are wanted."""
        self.last_used = trio.current_time()
        """When the last request of a client was sent."""
        self.asking = 0
        """Calls whose client is asked before they are sent again."""
        self.lost = trio.Event()
        self.reason: Exception | None = None
        """Why the link is lost."""
        self.generation = 0
        """Counts the sessions that this link has had."""
        self.peer = Peer()
        # Questions and cancellations outlive the message that caused them, never the link: the nursery is
        # the link's own, opened by the function that keeps it connected.
        self.nursery = nursery
        self.errands = Errands(name, nursery, self.lost)
        self.legacy = Legacy(self)
        self.dialect: Dialect = self.legacy
        """What is spoken; until the era is known, what a server says unasked is understood the older way."""
        self._carrier: Carrier | None = None
        self._leaving: dict[str, trio.Event] = {}
        """Subscriptions that are being ended in the background, by URI."""
        self._deadlines = deadlines

    def attach(self, carrier: Carrier) -> None:
        """Give the link what moves its messages."""
        self._carrier = carrier

    @property
    def carrier(self) -> Carrier:
        assert self._carrier is not None, "a link is used after it was attached"
        return self._carrier

    @property
    def capabilities(self) -> ClientCapability:
        """What it declares."""
        assert self.wish.capabilities is not None, "a link is opened after it is known"
        return self.wish.capabilities

    @property
    def in_flight(self) -> int:
        """Requests that somebody waits for; what listens for news is none."""
        return len(self.peer)

    async def wait_wanted(self) -> None:
        """Return when it is known what to declare. Raises: the reason why the link was lost before."""
        if self.wish.known.is_set():
            return
        self.wish.link = self
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_lost, nursery.cancel_scope)
            await self.wish.known.wait()
            nursery.cancel_scope.cancel()
        if self.reason is not None:
            raise self.reason.with_traceback(None)

    async def _cancel_when_lost(self, scope: trio.CancelScope) -> None:
        await self.lost.wait()
        scope.cancel()

    async def open(self) -> handshake.ServerHello:
        """Find out which era the backend is of, and get to know it. The caller bounds it by `timeouts.init`.

        Raises: BackendError when it refuses or does not answer.
        """
        return await open_link(self)

    async def open_within(self, seconds: float) -> None:
        """Open it within its time, for a remote backend. Raises: BackendError."""
        try:
            with trio.fail_after(seconds):
                await self.open()
        except trio.TooSlowError:
            raise BackendUnavailable(
                self.name,
                f"it did not say what it is in {seconds:g} s",
                remedy=f"raise servers.{self.name}.timeouts.init if it starts slowly",
            ) from None
        except SessionLost:
            raise BackendUnavailable(self.name, "it answers initialize with HTTP 404") from None

    def resume(self, state: LinkState) -> None:
        """It is open: go on where another program was. `go_on` does the rest when it is in use."""
        self.carried = state
        self.hello = state.hello
        self.peer.count_from(state.last_id)
        self.era = Era.MODERN if state.modern else Era.LEGACY
        if state.modern:
            self.dialect = Modern(self)
        else:
            self.legacy.resume()

    async def go_on(self) -> None:
        """Set again what may be set no more, and end what the program before left and nobody wants. In the background:
        calls need none of it. Raises: BackendError.
        """
        state = self.carried
        assert state is not None, "only what was resumed goes on"
        if state.modern or not state.settled:
            await self.replay()
        for id in state.standing:  # what listens instead is acknowledged by now
            await self.post(jsonrpc.notification(b"notifications/cancelled", b'{"requestId":%d}' % id))
        for uri, params in state.subscriptions.items():
            if not state.modern and uri not in self.subscriptions:
                self.unsubscribe_quietly(uri, jsonrpc.members_of(params))

    # ---- what mcpd sends -----------------------------------------------------------------------------------

    def call(self, call: Call, method: str, members: Members) -> Awaitable[Message]:
        """Carry out a client's call. Raises: RpcError, BackendError, when awaited."""
        return self.dialect.call(call, method, members)

    def request(self, method: str, members: Members, timeout: float) -> Awaitable[Message]:
        """Send a request of mcpd's own (a list, a level). Raises: RpcError, BackendError, when awaited."""
        return self.dialect.request(method, members, timeout)

    async def once(self, waiter: Waiter, members: Members, dialect: Dialect | None = None) -> Message:
        """One request and its response, in another dialect than the link's if one is given.

        Raises: SessionLost, RpcError: the backend's own error too.
        """
        if self.reason is not None:
            raise self.reason.with_traceback(None)
        if dialect is None:
            dialect = self.dialect
        id = self.peer.open(waiter)
        self._deadlines.add(waiter)
        try:
            params = dialect.params(waiter, members)
            answer = await self.carrier.carry(waiter, jsonrpc.request(id, waiter.method.encode(), params))
        except trio.Cancelled:
            if not self.lost.is_set():
                dialect.cancel(waiter, "the client cancelled the request")
            raise
        finally:
            self.peer.close(waiter)
            self._deadlines.discard(waiter)
        if "result" not in answer.members:
            try:
                result_of(answer)
            except RpcError as error:
                dialect.refused(waiter, error)
                raise
        return answer

    async def replay(self) -> None:
        """Set again what was wanted before: log level and subscriptions. A refusal of one is logged, not raised."""
        await self.dialect.replay()

    async def set_level(self, level: str) -> None:
        """Tell the backend which log messages are wanted, if it logs. A refusal is logged, not raised."""
        self.level = level
        await self.dialect.set_level(level)

    async def subscribe(self, call: Call, uri: str, members: Members) -> None:
        """Hear of updates of a resource. Raises: RpcError."""
        while (leaving := self._leaving.get(uri)) is not None:
            await leaving.wait()  # the end of the last subscription would be the end of this one, if it came later
        await self.dialect.subscribe(call, uri, members)

    def unsubscribe_quietly(self, uri: str, members: Members) -> None:
        """Hear no more of a resource; done in the background, and a failure is logged."""
        done = trio.Event()
        if self.errands.start(self._unsubscribe, uri, members, done):
            self._leaving[uri] = done

    async def _unsubscribe(self, uri: str, members: Members, done: trio.Event) -> None:
        try:
            await self.dialect.unsubscribe(uri, members)
        finally:
            done.set()
            if self._leaving.get(uri) is done:
                del self._leaving[uri]

    def notify(self, method: str, params: Buffer | None = None) -> None:
        """Send a notification in the background; a failure shows in the next request."""
        self.errands.start(self.post, jsonrpc.notification(method.encode(), params))

    def request_quietly(self, method: str, members: Members) -> None:
        """Send a request in the background whose outcome changes nothing; a failure is logged."""
        self.errands.start(self._ask_quietly, method, members)

    async def _ask_quietly(self, method: str, members: Members) -> None:
        try:
            await self.request(method, members, self.timeouts.list)
        except RpcError as error:
            log.info("backend=%s event=request_failed method=%s reason=%s", self.name, method, error)

    async def post(self, parts: tuple[Buffer, ...]) -> None:
        """Send what is not answered, within `timeouts.list`. Raises: BackendError."""
        with trio.move_on_after(self.timeouts.list):
            await self.carrier.post(parts)

    def waiter(self, method: str, call: Call | None, idle: float, final: float) -> Waiter:
        """A request to be sent; it is due `idle` seconds after its last sign of life, and `final` seconds in all."""
        return Waiter(method, call, idle=idle, final=final, on_expire=self._expired)

    def own(self, method: str) -> Waiter:
        """A request of mcpd's own that is due within `timeouts.list`."""
        return self.waiter(method, None, self.timeouts.list, self.timeouts.list)

    def _expired(self, waiter: Waiter) -> None:
        now = trio.current_time()
        if waiter.questions and now < waiter.final:
            waiter.alive()
            self._deadlines.add(waiter)
            return
        setting = "init" if waiter.method in FIRST else "list"
        after = waiter.idle
        if waiter.call is not None:
            setting = "call_max" if now >= waiter.final else "call_idle"
            after = self.timeouts.call_max if now >= waiter.final else waiter.idle
        if not self.lost.is_set():
            self.dialect.cancel(waiter, "timed out")
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
        for pending in self.peer.take_all():
            assert isinstance(pending, Waiter)
            pending.settle(reason)

    # ---- what the backend sends ----------------------------------------------------------------------------

    def receive(self, message: Message, related: Waiter | None = None) -> None:
        """Take one message from the carrier. `related`: the request whose own stream it came on (rule 1)."""
        method = message.method
        if method is None:
            pending = self.peer.take(message)
            if pending is not None:
                assert isinstance(pending, Waiter)
                pending.settle(message)
            return
        if message.id is not None:
            self.dialect.question(message, related)
            return
        try:
            self.dialect.notification(message, related)
        except (ProtocolError, ValueError) as error:  # ValueError: text that is not UTF-8
            log.warning("backend=%s event=bad_notification method=%s reason=%s", self.name, method, error)
