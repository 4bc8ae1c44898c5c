"""One link that serves one client session, or the clients of one principal; and what goes on when it is replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from mcpd.backends.subscribers import Subscribers
from mcpd.supervisor.slots import Claim

if TYPE_CHECKING:
    from mcpd.backends.link import Link
    from mcpd.backends.pace import Pace
    from mcpd.errors import BackendError
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Members
    from mcpd.types import SessionKey


class Instance:
    """One link, while it is opened, open, or lost. `key` is its owner's; `former` is the one that it replaces."""

    __slots__ = (
        *("begun", "caller", "claim", "error", "key", "level", "link", "opened", "pace", "scope"),
        *("listens", "sessions", "subscribers", "subscriptions"),
    )

    def __init__(self, key: SessionKey, caller: Caller, former: Instance | None) -> None:
        self.key = key
        self.caller = caller
        """Who needed it first."""
        self.claim = Claim()
        self.level: str | None = None
        """What was set on its link by another program, if that is known."""
        self.subscriptions: dict[str, Members] = former.subscriptions if former is not None else {}
        """What its link is, or was, subscribed to."""
        self.subscribers: Subscribers = former.subscribers if former is not None else Subscribers()
        """By whom."""
        self.sessions: set[SessionKey] = former.sessions if former is not None else set()
        """Those that use it."""
        self.listens: set[SessionKey] = former.listens if former is not None else set()
        """Requests of clients without a session that are subscribed to something on it."""
        self.pace: Pace | None = former.pace if former is not None else None
        """How often its links were lost. None until one was."""
        self.begun = trio.current_time()
        self.opened = trio.Event()
        self.link: Link | None = None
        self.error: BackendError | None = None
        self.scope = trio.CancelScope()

    @property
    def lost(self) -> bool:
        """Whether its link ended, or could not be opened."""
        return self.opened.is_set() and (self.link is None or self.link.lost.is_set())

    @property
    def in_flight(self) -> int:
        return self.link.in_flight if self.link is not None else 0

    @property
    def last_used(self) -> float:
        return self.link.last_used if self.link is not None else self.begun
