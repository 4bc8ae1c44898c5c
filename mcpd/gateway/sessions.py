"""Clients and what mcpd remembers of each: facts for their calls, calls in flight, open questions, news not
yet delivered.

What a client can name (request ids, progress tokens, questions) is looked up in its own session only.

Rules.
1. A session in memory is small and may be dropped when it is idle: its id says enough to make it again.
2. What the id cannot say (subscriptions, a log level, news not yet heard) is lost then, so sessions that hold
   nothing of the kind go first, and the others only after a long time or when there is no other way.
3. A session with a call in flight, an open stream or an open question is in use and never dropped.

Source: "Session Management" (2025-03-26 on); stdio and HTTP+SSE connections are sessions without an id.
"""

from __future__ import annotations

import heapq
import itertools
import math
import sys
from typing import TYPE_CHECKING, Final

import trio

from mcpd.errors import INTERNAL_ERROR, INVALID_REQUEST, ProtocolError, RpcError
from mcpd.events import Events
from mcpd.gateway import questions
from mcpd.gateway.seal import EPOCH_LENGTH, Claims, principal_digest
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import LOCAL, Caller
from mcpd.protocol.capabilities import NOTHING
from mcpd.protocol.handshake import Event, ServerState, serve
from mcpd.protocol.versions import LATEST_HANDSHAKE
from mcpd.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mcpd.config.model import Limits
    from mcpd.gateway.ports import Outlet, Running, Sweepable
    from mcpd.gateway.subscriptions import Topic
    from mcpd.gateway.vault import Vault
    from mcpd.protocol.handshake import ClientHello
    from mcpd.protocol.jsonrpc import Buffer, Message

BACKLOG_MAX: Final = 64
"""Updated resources kept for a client that has no stream open, the newest of each. List changes come on
top: there are three."""

UPDATED: Final = "updated "
"""What the keys of updated resources begin with; their URI follows."""

HELD_SHARE: Final = 16
"""An idle session that would lose something is kept this many times `limits.session_idle`: over a working
day."""

PASSING: Final = 1800.0
"""Seconds for which a call of a client without a session may have an echo: as long as a call may take by default."""

ROOM_SHARE: Final = 128
"""When memory is full, this share of all sessions is dropped at once, so that a flood of new ones is not
one search each."""


class Session:
    """One client."""

    __slots__ = (
        "backlog",
        "caller",
        "calls",
        "claims",
        "id",
        "last_used",
        "left",
        "outlet",
        "questions",
        "state",
        "streams",
        "subscriptions",
    )

    def __init__(self, caller: Caller, *, id: str = "", claims: Claims | None = None) -> None:
        self.caller = caller
        self.id = id
        self.claims = claims
        self.state = ServerState.NEW
        self.calls: dict[bytes, Running] = {}
        self.subscriptions: dict[str, Topic] | None = None
        """What it is subscribed to, by URI; kept by `Subscriptions`."""
        self.left = False
        """It ended or left memory: whoever still works for it must not note anything down for it any more."""
        self.outlet: Outlet | None = None
        self.streams: Sweepable | None = None
        """The frontend's own record of this session's event streams."""
        self.last_used = trio.current_time()
        self.questions: dict[bytes, questions.Question] | None = None
        """Those that wait for its answer, by their id."""
        self.backlog: dict[str, tuple[Buffer, ...]] | None = None
        """News that it has not heard yet, by key."""

    @property
    def client_name(self) -> str:
        """What its client says that it is: `name/version`; empty when it did not, or after mcpd was killed."""
        return self.caller.client

    @property
    def idle(self) -> bool:
        """Whether nobody uses it right now."""
        return not self.calls and self.outlet is None and not self.questions

    @property
    def held(self) -> bool:
        """Whether its client would notice that it left memory (rule 2)."""
        return bool(self.subscriptions or self.backlog) or self.caller.log_level is not None

    def handshake(self, event: Event) -> None:
        """Note a step of the handshake. Raises: ProtocolError when it is out of order."""
        if self.state is not ServerState.READY or event is Event.INITIALIZE:
            self.state = serve(self.state, event)

    def register(self, id: bytes, running: Running, limit: int) -> None:
        """Note a call in flight. Raises: ProtocolError for an id in use, RpcError beyond the limit."""
        if id in self.calls:
            raise ProtocolError(INVALID_REQUEST, f"request id {id.decode()} is already in use by a call in flight")
        if len(self.calls) >= limit:
            raise RpcError(
                INTERNAL_ERROR,
                f"more than {limit} calls in flight in one session (limits.calls_per_session)",
                http_status=503,
            )
        self.calls[id] = running

    def cancel(self, id: bytes) -> None:
        """The client cancels one of its calls; an unknown or finished id is ignored."""
        running = self.calls.get(id)
        if running is not None:
            running.cancel()

    # ---- questions to the client ---------------------------------------------------------------------------

    async def ask(self, send: Callable[[tuple[Buffer, ...]], bool], method: str, params: Buffer) -> Buffer:
        """Put a question to the client on the given stream and wait for its answer.

        Raises: RpcError: the client's own, or that the question cannot be delivered.
        Cancellation: the client is told.
        """
        id = questions.next_id()
        question = questions.Question()
        if self.questions is None:
            self.questions = {}
        self.questions[id] = question
        try:
            if not send(jsonrpc.request(id, method.encode(), params)):
                raise RpcError(INTERNAL_ERROR, f"{method}: the client has no open stream to be asked on")
            try:
                await question.answered.wait()
            except trio.Cancelled:
                send(jsonrpc.notification(b"notifications/cancelled", b'{"requestId":%b}' % id))
                raise
        finally:
            self.questions.pop(id, None)
        answer = question.answer
        if answer is None:
            raise RpcError(INTERNAL_ERROR, f"{method}: the client left without an answer")
        result = answer.members.get("result")
        if result is None:
            raise RpcError(INTERNAL_ERROR, f"{method}: the client refused", raw=bytes(answer.members["error"]))
        return result

    def answer(self, message: Message) -> bool:
        """Take a client's response; False when mcpd has not asked this."""
        question = self.questions.get(questions.number(message.id or b"")) if self.questions else None
        if question is None or question.answered.is_set():
            return False
        question.answer = message
        question.answered.set()
        return True

    # ---- news that belongs to no call ----------------------------------------------------------------------

    def deliver(self, key: str, parts: tuple[Buffer, ...]) -> None:
        """Send a notification, or keep the newest for each key until the client listens. An empty key is
        not kept."""
        if self.outlet is not None and self.outlet.send(parts):
            return
        if not key:
            return
        if self.backlog is None:
            self.backlog = {}
        if key in self.backlog or len(self.backlog) < BACKLOG_MAX or not key.startswith(UPDATED):
            self.backlog[key] = parts

    def listen(self, outlet: Outlet) -> None:
        """From now on news goes here; what was kept goes first, and is kept on if it cannot be sent."""
        self.outlet = outlet
        backlog, self.backlog = self.backlog, None
        for key, parts in (backlog or {}).items():
            self.deliver(key, parts)

    def close(self) -> None:
        """The session is over: calls are cancelled, questions end unanswered."""
        for running in list(self.calls.values()):
            running.cancel()
        for question in (self.questions or {}).values():
            question.answered.set()
        self.outlet = None


class Sessions:
    """All sessions in memory, and the way back for those that left it."""

    def __init__(
        self,
        vault: Vault,
        limits: Limits,
        *,
        clock: Callable[[], float],
        first_serial: int,
    ) -> None:
        self._vault = vault
        self.states = vault.states
        """Seals the states of requests that have no session."""
        self.clock = clock
        self.limits = limits
        self._began = self._epoch = int(clock())
        self._serials = itertools.count(first_serial)
        self.forget: Callable[[Session], None] = _nothing_held
        """Called when a session ended or left memory; the gateway's."""
        self.events = Events()
        """Who is told of sessions; the gateway's."""
        self._passed_by = -math.inf
        self._by_id: dict[str, Session] = {}
        self._connected: dict[SessionKey, Session] = {}

    def __iter__(self) -> Iterator[Session]:
        yield from list(self._by_id.values())
        yield from list(self._connected.values())

    def __len__(self) -> int:
        return len(self._by_id) + len(self._connected)

    def begin(self, hello: ClientHello, principal: str) -> Session:
        """A new session with an id. Raises: RpcError (HTTP 503) when memory is full of sessions in use."""
        self._make_room()
        now = int(self.clock())
        if now - self._epoch >= EPOCH_LENGTH:
            self._epoch = now
        serial = next(self._serials) & 0xFFFFFFFF
        claims = Claims(hello.version, hello.capabilities, now, self._epoch, serial, principal_digest(principal))
        session = self._make(self._vault.seal.make(claims), claims, principal, hello.client)
        session.handshake(Event.INITIALIZE)
        self._tell("opened", session)
        return session

    def find(self, id: str, principal: str) -> Session | None:
        """The session with this id, resurrected if need be; None when it is not ours, ended, too old or
        somebody else's.

        Raises: RpcError (HTTP 503) when it would have to be resurrected and memory is full of sessions in
        use.
        """
        session = self._by_id.get(id)
        if session is not None:
            if session.caller.principal != principal:
                return None
            session.last_used = trio.current_time()
            return session
        claims = self._vault.seal.open(id)
        if (
            claims is None
            or claims.identity in self._vault.revoked
            or claims.principal != principal_digest(principal)
            or self._too_old(claims)
        ):
            return None
        self._make_room()
        session = self._make(id, claims, principal)
        session.state = ServerState.READY
        return session

    def connect(self, principal: str) -> Session:
        """A session of a connection that needs no id (stdio, HTTP+SSE). It ends with `disconnect`."""
        self._make_room()
        key = SessionKey(f"c{self._began}.{next(self._serials)}")
        session = Session(Caller(key, principal, LATEST_HANDSHAKE, NOTHING))
        self._connected[key] = session
        return session

    def agree(self, session: Session, hello: ClientHello) -> None:
        """Note what the initialize of a connected session said. Raises: ProtocolError when it came twice."""
        session.handshake(Event.INITIALIZE)
        key, principal = session.caller.key, session.caller.principal
        session.caller = Caller(key, principal, hello.version, hello.capabilities, client=hello.client)
        self._tell("opened", session)

    def disconnect(self, session: Session) -> None:
        """The connection of a session without id ended."""
        if self._connected.pop(session.caller.key, None) is not None:
            session.close()
            if session.state is not ServerState.NEW:
                self._tell("ended", session)
            self._left(session)

    def end(self, session: Session) -> None:
        """The client ended its session for good."""
        if session.claims is not None:
            self._vault.revoke(session.claims)
        self._by_id.pop(session.id, None)
        session.close()
        self._tell("ended", session)
        self._left(session)

    def sweep(self) -> int:
        """Take sessions out of memory that were not used for `limits.session_idle`, or are too old; returns
        how many.

        To be called every now and then: to have a call in flight or a stream open at that time counts as use.
        """
        now = trio.current_time()
        gone = []
        for session in self:
            if session.streams is not None:
                session.streams.sweep()
            if session.claims is None:
                continue  # it lasts as long as its connection
            if not session.idle:
                session.last_used = now
            patience = self.limits.session_idle * (HELD_SHARE if session.held else 1)
            if session.last_used < now - patience or (not session.calls and self._too_old(session.claims)):
                gone.append(session)
        for session in gone:
            self._drop(session)
        return len(gone)

    def passer_by(self) -> None:
        """A client without a session made a call: for a while a backend may still mean that one."""
        self._passed_by = trio.current_time()

    def the_only_one(self) -> Session | None:
        """The session, if there is exactly one client, and none without a session was there lately."""
        if len(self) != 1 or trio.current_time() - self._passed_by < PASSING:
            return None
        return next(iter(self))

    def by_key(self, key: SessionKey) -> Session | None:
        """The session with this key, if it is in memory."""
        return self._connected.get(key) or self._by_id.get(key)

    def _make(self, id: str, claims: Claims, principal: str, client: str = "") -> Session:
        # The id itself is the key: one string instead of two, and it never leaves but to its own client.
        caller = Caller(SessionKey(id), principal, claims.version, claims.capabilities, client=sys.intern(client))
        session = Session(caller, id=id, claims=claims)
        self._by_id[id] = session
        return session

    def _make_room(self) -> None:
        if len(self) < self.limits.sessions:
            return
        idle = (session for session in self._by_id.values() if session.idle)
        wanted = 1 + self.limits.sessions // ROOM_SHARE
        oldest = heapq.nsmallest(wanted, idle, key=lambda session: (session.held, session.last_used))
        if not oldest:
            reason = f"{self.limits.sessions} sessions are in use (limits.sessions); try later"
            raise RpcError(INTERNAL_ERROR, reason, http_status=503)
        for session in oldest:
            self._drop(session)

    def _too_old(self, claims: Claims) -> bool:
        return self.clock() - claims.begun > self.limits.session_age

    def _drop(self, session: Session) -> None:
        """Take a session out of memory that nobody uses, or nobody may use any more."""
        del self._by_id[session.id]
        session.close()
        self._left(session)

    def _tell(self, what: str, session: Session) -> None:
        caller = session.caller
        self.events.emit(
            "session",
            what=what,
            client=caller.client,
            protocol=caller.version.text,
            principal=caller.principal or LOCAL,
        )

    def _left(self, session: Session) -> None:
        session.left = True
        self.forget(session)


def _nothing_held(session: Session) -> None:
    """Until the gateway is there, sessions hold nothing anywhere."""
