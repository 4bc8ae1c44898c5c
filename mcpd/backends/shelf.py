"""Links that serve one call at a time and are alike, and the calls that wait for one of them.

Alike are links that were opened for the same principal and declared the same capabilities. A shelf knows what it holds;
what is done about it is decided for all shelves at once, by `leases`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, TypeAlias

import trio

from mcpd.types import SessionKey

if TYPE_CHECKING:
    from mcpd.backends.link import Link
    from mcpd.errors import BackendError
    from mcpd.protocol.calls import Ask
    from mcpd.protocol.capabilities import ClientCapability
    from mcpd.protocol.jsonrpc import Buffer

Key: TypeAlias = "tuple[str, ClientCapability]"
"""What makes links alike: the principal, and what they declared on its behalf."""


class State(enum.Enum):
    """What a link does. It serves a call only while it is BUSY."""

    OPENING = enum.auto()
    IDLE = enum.auto()
    BUSY = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()


class Lease:
    """One link, from the wish to open it to its end."""

    __slots__ = ("asking", "idle_since", "link", "owner", "scope", "shelf", "state")

    def __init__(self, shelf: Shelf, number: int) -> None:
        self.shelf = shelf
        self.owner = SessionKey(f"lease{number}")
        """No session of a client is called so: what the backend says outside any call reaches nobody."""
        self.state = State.OPENING
        self.link: Link | None = None
        self.asking = 0
        """Questions that clients have not answered yet."""
        self.idle_since = 0.0
        self.scope = trio.CancelScope()
        """Round the task that keeps the link: to cancel it ends the link."""

    @property
    def lost(self) -> bool:
        """Whether its link was open and is not any more."""
        return self.link is not None and self.link.lost.is_set()

    @property
    def clear(self) -> bool:
        """Whether nothing is left on it of a call that was answered."""
        return not self.asking and self.link is not None and not self.link.in_flight

    async def ask(self, ask: Ask, method: str, params: Buffer) -> Buffer:
        """Put a question to a client by its own `ask`, and know while it is open. Raises: RpcError."""
        self.asking += 1
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

    @property
    def has_spare(self) -> bool:
        """Whether a link is at hand for the next call, or will be without anybody waiting for it."""
        return bool(self.idle) or self.opening > len(self.waiting)

    def expects(self, ticket: Ticket) -> bool:
        """Whether a link is being opened that will be for this ticket, unless it fails."""
        return list(self.waiting).index(ticket) < self.opening
