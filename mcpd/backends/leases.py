"""The links of one server that serve one call at a time: a question on such a link can only belong to that call.

Theory of operation. A call takes a link, is carried out, and gives the link back. Links that are alike, and the calls
that wait for one, stand on one `Shelf`. All waiting calls stand in one queue as well, and `_serve` goes through it
whenever something changes, the oldest call first: what rests on the call's shelf is its; else what is being opened
there; else the blank link, which is opened for it; else, if there is room, one is begun; else the longest idle link of
another shelf ends to make room; else every link serves a call, and the next one that is given back is for this call.
Who waits for what is worked out anew each time, so a call that leaves the queue leaves no trace.

Rules.
1. A link serves one call. What its backend asks outside any call reaches nobody: the link's owner is no client.
2. A link is used again only if the backend itself answered the call, none of its questions is open, and it did not ask
   for roots, which it would take for the next client's too. Any other link ends: a late question of a call that is over
   must not reach the next one.
3. At most `max_instances` links, those that are still ending among them: a process that ends slowly is one, too.
4. While calls come, one child more than they need is kept ready, if there is room: a cold start takes longer than some
   clients wait. It is blank, started and not yet spoken to, so that it suits whatever call comes next, for which only
   the handshake is left to do. It ends like every link that nobody used for `instance_idle`.
5. A server that fails is not hammered: after a link that could not be opened, or that was lost while it served a call,
   one is opened at a time and as late as the restart policy says, until a call is answered.
6. A link that cannot be opened fails the oldest call that waits for one like it, and no other. A child that had been
   blank and ended fails none: that it was ready was a mere guess, and the call gets another.

Source: "Sampling", "Elicitation", "Roots" of 2024-11-05 to 2025-11-25: no question says which call it is for.
"""

from __future__ import annotations

import itertools
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends.instances import SWEEP
from mcpd.backends.pace import Pace
from mcpd.backends.shelf import Lease, LeasesStatistics, Shelves, State, Ticket, key_for
from mcpd.errors import BackendCrashed, BackendError, BackendUnavailable, ProtocolError, RpcError
from mcpd.protocol.calls import LOG_LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.backends.carrier import Listener
    from mcpd.backends.connector import Connector
    from mcpd.backends.link import Link
    from mcpd.backends.shelf import Shelf
    from mcpd.protocol.calls import Call, Caller
    from mcpd.protocol.jsonrpc import Members, Message

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
"""Seconds without a new blank link after one could not be opened: some servers run only once, and each call would start
one more in vain."""

SETTLING: Final = 2
"""Turns of the scheduler after a response until whatever came before it was looked at too: a question is asked in a
task of its own, which runs one turn after it came, and the answered task may run before it in that turn."""


class Leases:
    """The pool of one server."""

    def __init__(self, connector: Connector, listener: Listener, *, at_failure: Callable[[], None]) -> None:
        self._connector = connector
        self._listener = listener
        self._at_failure = at_failure
        self._spec = connector.spec
        self._leases: set[Lease] = set()
        self._shelves = Shelves()
        self._queue: dict[Ticket, None] = {}
        self._blank: Lease | None = None
        self._ending = 0
        self._numbers = itertools.count(1)
        self._opened = 0
        self._failed = 0
        self._retired = 0
        self._spare_after = 0.0
        self._pace = Pace.for_calls(connector.spec.name, connector.spec.restart)
        self.last_used = 0.0
        """When a call gave its link back."""
        # Links outlive the call that opened them, and end with the backend: `run` opens the nursery and outlives them.
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def in_flight(self) -> int:
        """Calls that have a link."""
        return sum(lease.state is State.BUSY for lease in self._leases)

    @property
    def busy(self) -> bool:
        """Whether any call has, or waits for, a link."""
        return bool(self._queue) or any(lease.state in (State.BUSY, State.OPENING) for lease in self._leases)

    def rest(self) -> None:
        """Nobody is expected to call soon: end what serves nobody."""
        for lease in list(self._leases):
            if lease.state in (State.BLANK, State.IDLE):
                self._end(lease)

    def statistics(self) -> LeasesStatistics:
        """What the links do, and what has become of links so far."""
        return LeasesStatistics.of(self._leases, len(self._queue), self._opened, self._failed, self._retired)

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
                    self._settle(ticket, self._stopping())

    def warm(self) -> None:
        """The server is ready: if its calls will come here, have a link ready for the first one."""
        if self._spec.instances == "leased" and not self._connector.stateless:
            self._keep_spare()

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
            # What the client is asked goes by the lease, which so knows of questions that outlive the call.
            call = msgspec.structs.replace(call, ask=partial(lease.ask, call.ask))
            try:
                answer = await link.call(call, method, members)
            except RpcError as error:
                answered = not isinstance(error, (BackendError, ProtocolError))
                raise
            answered = True
            self._pace.answered()
            return answer
        finally:
            if answered:
                for _turn in range(SETTLING):
                    await trio.lowlevel.cancel_shielded_checkpoint()
            self._give_back(lease, answered=answered)

    # ---- taking and giving back ----------------------------------------------------------------------------

    async def _take(self, caller: Caller) -> Lease:
        """A link for one call. Raises: BackendError."""
        if self._nursery is None:
            raise self._stopping()
        shelf = self._shelves.of(key_for(caller))
        lease = self._pop_idle(shelf)
        if lease is None:
            return await self._wait(shelf)
        self._keep_spare()
        return lease

    def _pop_idle(self, shelf: Shelf) -> Lease | None:
        while shelf.idle:
            lease = shelf.idle[-1]
            if lease.lost:
                self._end(lease)
                continue
            lease.become(State.BUSY)
            return lease
        return None

    async def _wait(self, shelf: Shelf) -> Lease:
        if len(self._queue) >= LEASE_QUEUE_MAX:
            self._shelves.prune(shelf)
            raise self._in_use(f"{LEASE_QUEUE_MAX} calls wait for one")
        ticket = Ticket(shelf)
        self._queue[ticket] = shelf.waiting[ticket] = None
        self._serve()
        try:
            while not ticket.settled.is_set():
                with trio.move_on_after(LEASE_WAIT):
                    await ticket.settled.wait()
                if not ticket.settled.is_set() and not shelf.expects(ticket):
                    if self._pace.error is not None:
                        raise self._pace.unavailable("backing-off")
                    raise self._in_use(f"none was free for {LEASE_WAIT:g} s")
        except BaseException:
            self._leave(ticket)
            if ticket.lease is not None:
                self._give_back(ticket.lease, answered=True)
            raise
        if ticket.lease is None:
            assert ticket.error is not None
            raise ticket.error.with_traceback(None)
        return ticket.lease

    def _give_back(self, lease: Lease, *, answered: bool) -> None:
        self.last_used = trio.current_time()
        if lease.state is not State.BUSY:
            return  # its link was lost, and all of it is cleared away
        if lease.lost:
            self._end(lease)
        elif answered and lease.clear:
            self._rest(lease)
        else:
            self._retired += 1
            log.info("backend=%s event=lease_retired answered=%s questions=%d", self._spec.name, answered, lease.asking)
            self._end(lease, after=0.0 if answered else PARTING)

    def _rest(self, lease: Lease) -> None:
        """The link is free: for the oldest call that can use it, or its room."""
        lease.become(State.IDLE)
        self._serve()

    def _serve(self) -> None:
        """See what there is for each waiting call, the oldest first."""
        coming: dict[Shelf, int] = {}
        rooms = self._ending
        for ticket in list(self._queue):
            shelf = ticket.shelf
            lease = self._pop_idle(shelf)
            if lease is not None:
                self._settle(ticket, lease)
                self._keep_spare()
            elif coming.setdefault(shelf, shelf.opening):
                coming[shelf] -= 1
            elif self._blank is not None or self._has_room:
                self._try(ticket)
            elif rooms:
                rooms -= 1
            elif not self._make_room():
                break  # the next link that is given back is for this call

    @property
    def _has_room(self) -> bool:
        return len(self._leases) < self._spec.max_instances

    def _make_room(self) -> bool:
        """End the longest idle link, if any is idle."""
        lease = self._shelves.longest_idle
        if lease is not None:
            self._end(lease)
        return lease is not None

    def _keep_spare(self) -> None:
        """Calls come: have a blank link for the next one (rule 4). None without a process to start."""
        now = trio.current_time()
        if self._blank is not None:
            self._blank.idle_since = now
        elif self._spec.transport == "stdio" and self._has_room and self._nursery and now >= self._spare_after:
            self._blank = self._begin(self._nursery, ahead=True)

    def _settle(self, ticket: Ticket, outcome: Lease | BackendError) -> None:
        ticket.settle(outcome)
        self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        self._queue.pop(ticket, None)
        ticket.shelf.waiting.pop(ticket, None)
        self._shelves.prune(ticket.shelf)

    # ---- a link from its beginning to its end --------------------------------------------------------------

    def _try(self, ticket: Ticket) -> None:
        """Have a link opened for this call, unless that is to wait (rule 5)."""
        if self._pace.error is None:
            self._open(ticket.shelf)
        elif not self._shelves.opening:
            try:
                self._open(ticket.shelf, self._pace.patience())
            except BackendUnavailable as error:
                self._settle(ticket, error)

    def _open(self, shelf: Shelf, pause: float = 0.0) -> None:
        """Open the blank link for those who wait at this shelf, or else one that is only begun now."""
        assert self._nursery is not None, "when it is over nobody waits"
        lease, self._blank = self._blank or self._begin(self._nursery, pause=pause), None
        lease.place(shelf)

    def _begin(self, nursery: trio.Nursery, *, ahead: bool = False, pause: float = 0.0) -> Lease:
        lease = Lease(next(self._numbers), ahead=ahead)
        self._leases.add(lease)
        nursery.start_soon(self._keep, lease, pause)
        return lease

    async def _keep(self, lease: Lease, pause: float) -> None:
        failure: BackendError | None = None
        try:
            with lease.scope:
                await trio.sleep(pause)
                async with trio.open_nursery() as nursery:
                    try:
                        async with self._connector.connect(
                            nursery, self._listener, lease.wish, lease.owner, lease.claim
                        ) as link:
                            lease.link = link
                            opened = trio.current_time()
                            self._ready(lease, link)
                            await link.lost.wait()
                            if lease.state is State.IDLE:
                                self._end(lease)
                            elif isinstance(link.reason, BackendError):
                                self._pace.failed(link.reason, uptime=trio.current_time() - opened)
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

    def _ready(self, lease: Lease, link: Link) -> None:
        """The link is open: for who waits longest, which need not be the one for whom it was begun."""
        if link.carried is not None:
            lease.go_on(link)
            self._serve()
            return
        self._opened += 1
        self._rest(lease)
        self._keep_spare()

    def _end(self, lease: Lease, *, after: float = 0.0) -> None:
        """End a link that serves nobody, in `after` seconds."""
        if lease is self._blank:
            self._blank = None
        lease.become(State.ENDING)
        self._ending += 1
        lease.scope.deadline = trio.current_time() + after

    def _ended(self, lease: Lease, failure: BackendError | None) -> None:
        state = lease.state
        lease.become(State.ENDED)
        self._leases.discard(lease)
        if state is State.BLANK:
            self._blank = None
        elif state is State.ENDING:
            self._ending -= 1
        if failure is not None and state in (State.BLANK, State.OPENING):
            self._could_not_open(lease, failure)
        if lease.placed:
            self._shelves.prune(lease.shelf)
        self._serve()

    def _could_not_open(self, lease: Lease, failure: BackendError) -> None:
        self._failed += 1
        if not lease.ahead:
            self._pace.failed(failure)
        self._spare_after = trio.current_time() + SPARE_PAUSE
        log.warning("backend=%s event=lease_failed reason=%s", self._spec.name, failure)
        if not lease.placed or (lease.ahead and isinstance(failure, BackendCrashed)):
            return
        shelf = lease.shelf
        ticket = shelf.first
        if ticket is not None and len(shelf.waiting) > shelf.opening:
            self._settle(ticket, failure)

    def _end_idle(self) -> None:
        horizon = trio.current_time() - self._spec.instance_idle
        for lease in self._leases:
            if lease.state in (State.BLANK, State.IDLE) and lease.idle_since < horizon:
                log.info("backend=%s event=lease_idle", self._spec.name)
                self._end(lease)

    def _stopping(self) -> BackendError:
        return BackendUnavailable(self._spec.name, "mcpd is stopping")

    def _in_use(self, reason: str) -> BackendError:
        return BackendUnavailable(
            self._spec.name,
            f"{self._spec.max_instances} instances are in use, and {reason}",
            remedy=f"raise servers.{self._spec.name}.max_instances, or try later",
        )
