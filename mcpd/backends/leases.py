"""The links of one server that serve one call at a time, so that a question on such a link can only belong to that call.

Theory of operation. A call takes a link, is carried out, and gives the link back. Links are alike if they were opened for
the same principal and declared the same capabilities; alike links and the calls that wait for one stand on one `Shelf`.
All waiting calls stand in one queue as well, and `_serve` goes through it whenever something changes, the oldest call
first: what rests on the call's shelf is its; else what is being opened there; else there is room to open one; else the
longest idle link of another shelf ends to make room; else every link serves a call, and the next one that is given back
is for this call. Who has to wait for what is worked out anew each time, so a call that leaves the queue leaves no trace.

Rules.
1. A link serves one call. What its backend asks outside any call reaches nobody: the link's owner is no client.
2. A link is given back only if the backend itself answered the call and none of its questions is open. Any other link
   ends: a late question of a call that is over must not reach the next one.
3. At most `max_instances` links, those that are still ending among them: a process that ends slowly is one all the same.
4. While calls come, one link more than they need is kept ready, if there is room: a cold start takes longer than some
   clients wait. It ends like every link that nobody used for `instance_idle`.
5. A link that cannot be opened fails the oldest call that waits for one like it, and no other.

Source: 2025-11-25 "Sampling", "Elicitation", "Roots": no request of a server says which call it belongs to.
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import trio

from mcpd.backends.instances import SWEEP
from mcpd.errors import BackendError, BackendUnavailable, ProtocolError, RpcError
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import ASKED_FOR, NOTHING, ClientCapability
from mcpd.protocol.methods import ASKING
from mcpd.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.backends.carrier import Listener
    from mcpd.backends.connector import Connector
    from mcpd.backends.link import Link
    from mcpd.protocol.calls import Ask, Call, Caller
    from mcpd.protocol.jsonrpc import Buffer, Members, Message

log = logging.getLogger("mcpd.backends")

LEASE_QUEUE_MAX: Final = 256
"""Calls that wait for a link of one server: as many as one client may have in flight. More would wait past LEASE_WAIT
anyway, and each holds its arguments meanwhile."""

LEASE_WAIT: Final = 20.0
"""Seconds that a call waits while other calls have all links; clients give up after 30 to 60, and the call itself takes
its time too. A link that is being opened is waited for as long as that takes, which `timeouts.init` bounds."""

PARTING: Final = 0.25
"""Seconds that a backend has to hear that its call was given up, before its session ends: one round trip."""

SPARE_PAUSE: Final = 60.0
"""Seconds without a new spare after a link could not be opened: some servers run only once, and each call would start one
more in vain."""

SETTLING: Final = 2
"""Turns of the scheduler after a response in which whatever came before it was looked at too: a question is asked in a
task of its own, which runs one turn after it came, and the answered task may run before it in that turn."""

ASKABLE: Final = ClientCapability(sum({flag for flags in ASKED_FOR.values() for flag in flags}))
"""Whoever declared one of these can be asked something."""

_Key: TypeAlias = tuple[str, ClientCapability]
"""What makes links alike: the principal, and what was declared on the call's behalf."""


def may_be_asked(call: Call, method: str) -> bool:
    """Whether the backend may put a question to the client while it carries this out."""
    return method in ASKING and call.caller.capabilities & ASKABLE != NOTHING


def fingerprint(capabilities: ClientCapability) -> ClientCapability:
    """What a link declares for a client. Nobody says on it that roots have changed: it does not last that long."""
    return capabilities & ~ClientCapability.ROOTS_LIST_CHANGED


class _State(enum.Enum):
    OPENING = enum.auto()
    IDLE = enum.auto()
    BUSY = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()


class _Lease:
    """One link, from the wish to open it to its end."""

    __slots__ = ("asking", "idle_since", "link", "owner", "scope", "shelf", "state")

    def __init__(self, shelf: _Shelf, number: int) -> None:
        self.shelf = shelf
        self.owner = SessionKey(f"lease{number}")
        self.state = _State.OPENING
        self.link: Link | None = None
        self.asking = 0
        """Questions that the client of a call on this link has not answered yet."""
        self.idle_since = 0.0
        self.scope = trio.CancelScope()

    @property
    def lost(self) -> bool:
        return self.link is not None and self.link.lost.is_set()

    async def ask(self, ask: Ask, method: str, params: Buffer) -> Buffer:
        """Put a question to the client, and know while it is open."""
        self.asking += 1
        try:
            return await ask(method, params)
        finally:
            self.asking -= 1


class _Ticket:
    """A call that waits; it is settled with a lease or an error."""

    __slots__ = ("error", "lease", "settled", "shelf")

    def __init__(self, shelf: _Shelf) -> None:
        self.shelf = shelf
        self.lease: _Lease | None = None
        self.error: BackendError | None = None
        self.settled = trio.Event()


class _Shelf:
    """Links that are alike, and who waits for one."""

    __slots__ = ("idle", "key", "links", "opening", "waiting")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.idle: list[_Lease] = []
        """The one that was used last is at the end, and taken first: the others may come to the end of their time."""
        self.opening = 0
        self.links = 0
        self.waiting: dict[_Ticket, None] = {}

    def place(self, ticket: _Ticket) -> int:
        """How many of this shelf wait before it."""
        return list(self.waiting).index(ticket)


@dataclass(frozen=True, slots=True)
class LeasesStatistics:
    """Links now, by what they do, the calls that wait for one, and what was done since the start."""

    opening: int
    idle: int
    busy: int
    ending: int
    waiting: int
    opened: int
    failed: int
    retired: int
    """Ended by mcpd because of how their call ended."""


class Leases:
    """The pool of one server."""

    def __init__(self, connector: Connector, listener: Listener, *, at_failure: Callable[[], None]) -> None:
        self._connector = connector
        self._listener = listener
        self._at_failure = at_failure
        self._spec = connector.spec
        self._leases: set[_Lease] = set()
        self._shelves: dict[_Key, _Shelf] = {}
        self._queue: dict[_Ticket, None] = {}
        self._ending = 0
        self._number = 0
        self._opened = 0
        self._failed = 0
        self._retired = 0
        self._spare_after = 0.0
        # Links outlive the call that opened them, and end with the backend: `run` opens the nursery and
        # outlives them all.
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def in_flight(self) -> int:
        """Calls that have a link."""
        return sum(lease.state is _State.BUSY for lease in self._leases)

    def statistics(self) -> LeasesStatistics:
        """What the links do, and what has become of links so far."""
        states = [lease.state for lease in self._leases]
        return LeasesStatistics(
            opening=states.count(_State.OPENING),
            idle=states.count(_State.IDLE),
            busy=states.count(_State.BUSY),
            ending=states.count(_State.ENDING),
            waiting=len(self._queue),
            opened=self._opened,
            failed=self._failed,
            retired=self._retired,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links and end idle ones, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while True:
                    await trio.sleep(SWEEP)
                    self._end_idle()
            finally:
                self._nursery = None
                for ticket in list(self._queue):
                    self._refuse(ticket, self._stopping())

    async def call(self, call: Call, method: str, members: Members) -> Message:
        """Carry out a client's call on a link that serves nobody else meanwhile.

        Raises: RpcError: the backend's own error, or a BackendError; BackendUnavailable when no link is to be had.
        """
        lease = await self._take(call.caller)
        link = lease.link
        assert link is not None
        answered = False
        try:
            level = call.caller.log_level
            if level is not None and LOG_LEVELS[level] != link.level:
                await link.set_level(LOG_LEVELS[level])
            try:
                answer = await link.call(
                    msgspec.structs.replace(call, ask=partial(lease.ask, call.ask)), method, members
                )
            except RpcError as error:
                answered = not isinstance(error, (BackendError, ProtocolError))
                raise
            answered = True
            return answer
        finally:
            if answered:
                for _turn in range(SETTLING):
                    await trio.lowlevel.cancel_shielded_checkpoint()
            self._give_back(lease, answered=answered)

    # ---- taking and giving back ----------------------------------------------------------------------------

    async def _take(self, caller: Caller) -> _Lease:
        """A link for one call. Raises: BackendError."""
        if self._nursery is None:
            raise self._stopping()
        key = (caller.principal, fingerprint(caller.capabilities))
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = _Shelf(key)
        lease = self._pop_idle(shelf)
        if lease is None:
            return await self._wait(shelf)
        self._keep_spare(shelf)
        return lease

    def _pop_idle(self, shelf: _Shelf) -> _Lease | None:
        while shelf.idle:
            lease = shelf.idle[-1]
            if lease.lost:
                self._end(lease)
                continue
            shelf.idle.pop()
            lease.state = _State.BUSY
            return lease
        return None

    async def _wait(self, shelf: _Shelf) -> _Lease:
        if len(self._queue) >= LEASE_QUEUE_MAX:
            self._prune(shelf)
            raise self._busy(f"{LEASE_QUEUE_MAX} calls wait for one")
        ticket = _Ticket(shelf)
        self._queue[ticket] = shelf.waiting[ticket] = None
        self._serve()
        try:
            while not ticket.settled.is_set():
                with trio.move_on_after(LEASE_WAIT):
                    await ticket.settled.wait()
                if not ticket.settled.is_set() and shelf.place(ticket) >= shelf.opening:
                    raise self._busy(f"none was free for {LEASE_WAIT:g} s")
        except BaseException:
            self._leave(ticket)
            if ticket.lease is not None:
                self._give_back(ticket.lease, answered=True)
            raise
        if ticket.lease is None:
            assert ticket.error is not None
            raise ticket.error.with_traceback(None)
        return ticket.lease

    def _give_back(self, lease: _Lease, *, answered: bool) -> None:
        link = lease.link
        assert link is not None
        if lease.state is not _State.BUSY:
            return  # its link was lost, and is cleared away already
        if lease.lost or (answered and not lease.asking and not link.in_flight):
            self._rest(lease)
            return
        self._retired += 1
        log.info("backend=%s event=lease_retired answered=%s questions=%d", self._spec.name, answered, lease.asking)
        self._end(lease, after=0.0 if answered else PARTING)

    def _rest(self, lease: _Lease) -> None:
        """The link is free: for the oldest call that can use it, or its room."""
        lease.state = _State.IDLE
        lease.idle_since = trio.current_time()
        lease.shelf.idle.append(lease)
        if lease.lost:
            self._end(lease)
        self._serve()

    def _serve(self) -> None:
        """See what there is for each waiting call, the oldest first."""
        coming: dict[_Shelf, int] = {}
        rooms = self._ending
        served: dict[_Shelf, None] = {}
        for ticket in list(self._queue):
            shelf = ticket.shelf
            lease = self._pop_idle(shelf)
            if lease is not None:
                self._hand(ticket, lease)
                served[shelf] = None
                continue
            if coming.setdefault(shelf, shelf.opening):
                coming[shelf] -= 1
                continue
            if len(self._leases) < self._spec.max_instances:
                self._open(shelf)
                continue
            if not rooms:
                idle = [each for other in self._shelves.values() for each in other.idle]
                if not idle:
                    break  # the next link that is given back is for this call
                self._end(min(idle, key=lambda each: each.idle_since))
                rooms += 1
            rooms -= 1
        for shelf in served:
            self._keep_spare(shelf)

    def _keep_spare(self, shelf: _Shelf) -> None:
        """A link was taken: have one more ready (rule 4)."""
        if (
            not shelf.idle
            and shelf.opening <= len(shelf.waiting)
            and len(self._leases) < self._spec.max_instances
            and trio.current_time() >= self._spare_after
        ):
            self._open(shelf)

    def _hand(self, ticket: _Ticket, lease: _Lease) -> None:
        lease.state = _State.BUSY
        ticket.lease = lease
        self._leave(ticket)
        ticket.settled.set()

    def _refuse(self, ticket: _Ticket, error: BackendError) -> None:
        ticket.error = error
        self._leave(ticket)
        ticket.settled.set()

    def _leave(self, ticket: _Ticket) -> None:
        self._queue.pop(ticket, None)
        ticket.shelf.waiting.pop(ticket, None)
        self._prune(ticket.shelf)

    # ---- a link from its beginning to its end --------------------------------------------------------------

    def _open(self, shelf: _Shelf) -> None:
        if self._nursery is None:
            return
        self._number += 1
        lease = _Lease(shelf, self._number)
        self._leases.add(lease)
        shelf.links += 1
        shelf.opening += 1
        self._nursery.start_soon(self._keep, lease)

    async def _keep(self, lease: _Lease) -> None:
        failure: BackendError | None = None
        try:
            with lease.scope:
                async with trio.open_nursery() as nursery:
                    try:
                        async with self._connector.connect(
                            nursery, self._listener, lease.shelf.key[1], lease.owner
                        ) as link:
                            lease.link = link
                            self._ready(lease)
                            await link.lost.wait()
                            if lease.state is _State.IDLE:
                                self._end(lease)
                            self._at_failure()
                    except BackendError as error:
                        failure = error
                        self._at_failure()
                    nursery.cancel_scope.cancel()
        except Exception as error:
            # The crash boundary of one link: a bug in mcpd ends it, and nothing else.
            log.exception("backend=%s event=internal_error", self._spec.name)
            failure = BackendUnavailable(self._spec.name, f"internal error in mcpd: {error!r}", remedy="see mcpd's log")
        finally:
            self._ended(lease, failure)

    def _ready(self, lease: _Lease) -> None:
        """The link is open: for who waits for it, which need not be the one for whom it was begun."""
        shelf = lease.shelf
        shelf.opening -= 1
        self._opened += 1
        if shelf.waiting:
            self._hand(next(iter(shelf.waiting)), lease)
            self._keep_spare(shelf)
        else:
            self._rest(lease)

    def _end(self, lease: _Lease, *, after: float = 0.0) -> None:
        """End a link that serves nobody, in `after` seconds; one that is lost ends by itself."""
        if lease.state is _State.IDLE:
            lease.shelf.idle.remove(lease)
        lease.state = _State.ENDING
        self._ending += 1
        if lease.lost:
            return
        if after:
            lease.scope.deadline = trio.current_time() + after
        else:
            lease.scope.cancel()

    def _ended(self, lease: _Lease, failure: BackendError | None) -> None:
        state, lease.state = lease.state, _State.ENDED
        shelf = lease.shelf
        self._leases.discard(lease)
        shelf.links -= 1
        if state is _State.OPENING:
            shelf.opening -= 1
            if failure is not None:
                self._could_not_open(shelf, failure)
        elif state is _State.IDLE:
            shelf.idle.remove(lease)
        elif state is _State.ENDING:
            self._ending -= 1
        self._prune(shelf)
        self._serve()

    def _could_not_open(self, shelf: _Shelf, failure: BackendError) -> None:
        self._failed += 1
        self._spare_after = trio.current_time() + SPARE_PAUSE
        log.warning("backend=%s event=lease_failed reason=%s", self._spec.name, failure)
        if len(shelf.waiting) > shelf.opening:
            self._refuse(next(iter(shelf.waiting)), failure)

    def _end_idle(self) -> None:
        horizon = trio.current_time() - self._spec.instance_idle
        for lease in [lease for lease in self._leases if lease.state is _State.IDLE and lease.idle_since < horizon]:
            log.info("backend=%s event=instance_idle", self._spec.name)
            self._end(lease)

    def _prune(self, shelf: _Shelf) -> None:
        if not shelf.links and not shelf.waiting:
            self._shelves.pop(shelf.key, None)

    # ---- what callers are told -----------------------------------------------------------------------------

    def _stopping(self) -> BackendError:
        return BackendUnavailable(self._spec.name, "mcpd is stopping")

    def _busy(self, reason: str) -> BackendError:
        return BackendUnavailable(
            self._spec.name,
            f"{self._spec.max_instances} instances are in use, and {reason}",
            remedy=f"raise servers.{self._spec.name}.max_instances, or try later",
        )
