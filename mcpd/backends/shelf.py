"""Links that serve one call at a time and are alike, and the calls that wait for one of them.

Alike are links that were opened for the same principal and declared the same capabilities. A shelf knows what it holds;
what is done about it is decided for all shelves at once, by `leases`. A link that is begun before anybody needs it is
*blank*: it stands on no shelf yet.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import trio

from mcpd.backends.carrier import Wish
from mcpd.protocol.capabilities import ASKABLE, NOTHING, ClientCapability
from mcpd.protocol.methods import ASKING
from mcpd.supervisor.slots import Claim, Urgency
from mcpd.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.backends.link import Link
    from mcpd.errors import BackendError
    from mcpd.protocol.calls import Ask, Call, Caller
    from mcpd.protocol.jsonrpc import Buffer

Key: TypeAlias = tuple[str, ClientCapability]
"""What makes links alike: the principal, and what they declared on its behalf."""


def key_for(caller: Caller) -> Key:
    """What a link must be like to serve this client. Nobody says on it that roots changed: it is not open so long."""
    return caller.principal, caller.capabilities & ~ClientCapability.ROOTS_LIST_CHANGED


def may_be_asked(call: Call, method: str) -> bool:
    """Whether the backend may put a question to the client while it carries this out."""
    return method in ASKING and call.caller.capabilities & ASKABLE != NOTHING


class State(enum.Enum):
    """What a link does. It serves a call only while it is BUSY."""

    BLANK = enum.auto()
    OPENING = enum.auto()
    IDLE = enum.auto()
    BUSY = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()


class Lease:
    """One link, from the wish to open it to its end. It is blank until it is placed on a shelf. `ahead`: it was begun
    before any call needed it.
    """

    __slots__ = ("_shelf", "ahead", "asking", "claim", "idle_since", "knows", "link", "owner", "scope", "state", "wish")

    def __init__(self, number: int, *, ahead: bool = False) -> None:
        self.owner = SessionKey(f"lease{number}")
        """No session of a client is called so: what the backend says outside any call reaches nobody."""
        self.ahead = ahead
        self.claim = Claim(Urgency.SPARE if ahead else Urgency.CALL)
        self.wish = Wish()
        self.state = State.BLANK
        self.link: Link | None = None
        self.asking = 0
        """Questions that clients have not answered yet."""
        self.knows = False
        """Its backend was told what only one client may be known by."""
        self.idle_since = trio.current_time()
        """Since when it is of no use, while it is idle or blank."""
        self.scope = trio.CancelScope()
        """Round the task that keeps the link: to cancel it ends the link."""
        self._shelf: Shelf | None = None

    @property
    def placed(self) -> bool:
        """Whether it stands on a shelf."""
        return self._shelf is not None

    @property
    def shelf(self) -> Shelf:
        assert self._shelf is not None, "a blank one has none"
        return self._shelf

    def place(self, shelf: Shelf) -> None:
        """It is for those who wait at this shelf: let it be opened."""
        self._shelf = shelf
        shelf.links += 1
        self.become(State.OPENING)
        self.claim.hurry()
        _principal, capabilities = shelf.key
        self.wish.settle(capabilities)

    def go_on(self, link: Link) -> None:
        """It is open, and idle since before this program: among the others of its shelf it keeps its place."""
        assert link.carried is not None, "only what was carried goes on"
        link.level = link.carried.level
        link.errands.start(link.go_on)
        since = self.idle_since
        self.become(State.IDLE)
        self.idle_since = since
        self.shelf.idle.sort(key=lambda lease: lease.idle_since)

    def become(self, state: State) -> None:
        """Do something else from now on, and have its shelf know."""
        before, self.state = self.state, state
        if state is State.IDLE:
            self.idle_since = trio.current_time()
        if self._shelf is not None:
            self._shelf.note(self, before)

    @property
    def lost(self) -> bool:
        """Whether its link was open and is not any more."""
        return self.link is not None and self.link.lost.is_set()

    @property
    def clear(self) -> bool:
        """Whether nothing is left on it of a call that was answered."""
        return not self.asking and not self.knows and self.link is not None and not self.link.in_flight

    async def ask(self, ask: Ask, method: str, params: Buffer) -> Buffer:
        """Put a question to a client by its own `ask`, and know while it is open. Raises: RpcError."""
        self.asking += 1
        # Servers keep the roots of a session, and would take them for those of the next client.
        self.knows = self.knows or method == "roots/list"
        try:
            return await ask(method, params)
        finally:
            self.asking -= 1


class Ticket:
    """A call that waits for a link; it is settled once, with a lease or an error."""

    __slots__ = ("error", "lease", "settled", "shelf")

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.lease: Lease | None = None
        self.error: BackendError | None = None
        self.settled = trio.Event()

    def settle(self, outcome: Lease | BackendError) -> None:
        """Wake the call."""
        if isinstance(outcome, Lease):
            self.lease = outcome
        else:
            self.error = outcome
        self.settled.set()


class Shelf:
    """The links of one key, and who waits for one, the oldest first."""

    __slots__ = ("idle", "key", "links", "opening", "waiting")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.idle: list[Lease] = []
        """The one that was used last is at the end, and taken first: the others may come to the end of their time."""
        self.links = 0
        """All that are not ended, whatever they do."""
        self.opening = 0
        self.waiting: dict[Ticket, None] = {}

    @property
    def bare(self) -> bool:
        """Whether nothing would be lost with it."""
        return not self.links and not self.waiting

    @property
    def first(self) -> Ticket | None:
        """Who waits longest."""
        return next(iter(self.waiting), None)

    def note(self, lease: Lease, before: State) -> None:
        """A lease of this shelf does something else than `before`."""
        if before is State.OPENING:
            self.opening -= 1
        elif before is State.IDLE:
            self.idle.remove(lease)
        if lease.state is State.OPENING:
            self.opening += 1
        elif lease.state is State.IDLE:
            self.idle.append(lease)
        elif lease.state is State.ENDED:
            self.links -= 1

    def expects(self, ticket: Ticket) -> bool:
        """Whether a link is being opened that will be for this ticket, unless it fails."""
        return list(self.waiting).index(ticket) < self.opening


class Shelves:
    """Those of one server: each is there as long as something is on it, or somebody waits at it."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Shelf] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def of(self, key: Key) -> Shelf:
        """The one for such links, which is put up if need be."""
        shelf = self._by_key.get(key)
        if shelf is None:
            shelf = self._by_key[key] = Shelf(key)
        return shelf

    def prune(self, shelf: Shelf) -> None:
        """Take it away if it serves for nothing any more."""
        if shelf.bare:
            self._by_key.pop(shelf.key, None)

    @property
    def opening(self) -> bool:
        """Whether a link is just being opened."""
        return any(shelf.opening for shelf in self._by_key.values())

    @property
    def longest_idle(self) -> Lease | None:
        """Of all of them; None if none is idle."""
        idle = (lease for shelf in self._by_key.values() for lease in shelf.idle)
        return min(idle, key=lambda lease: lease.idle_since, default=None)


@dataclass(frozen=True, slots=True)
class LeasesStatistics:
    """Links now, by what they do, the calls that wait for one, and what was done since the start."""

    blank: int
    opening: int
    idle: int
    busy: int
    ending: int
    waiting: int
    opened: int
    failed: int
    retired: int
    """Ended by mcpd because of how their call ended."""

    @classmethod
    def of(cls, leases: Iterable[Lease], waiting: int, opened: int, failed: int, retired: int) -> LeasesStatistics:
        """Count what the links do."""
        states = [lease.state for lease in leases]
        return cls(
            blank=states.count(State.BLANK),
            opening=states.count(State.OPENING),
            idle=states.count(State.IDLE),
            busy=states.count(State.BUSY),
            ending=states.count(State.ENDING),
            waiting=waiting,
            opened=opened,
            failed=failed,
            retired=retired,
        )
