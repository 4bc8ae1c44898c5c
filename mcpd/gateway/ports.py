"""What a session holds of its frontend: calls to cancel, the way to its client, the frontend's own record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mcpd.protocol.jsonrpc import Buffer


class Running(Protocol):
    """A call in flight that its client can cancel."""

    def cancel(self) -> None:
        """Stop working on it."""


class Outlet(Protocol):
    """Where a client hears what belongs to none of its calls: its GET stream, its pipe, its event stream."""

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Send one message; False when it cannot be delivered (any more)."""


class Sweepable(Protocol):
    """What a frontend keeps with a session."""

    def sweep(self) -> None:
        """Forget what is too old to be of use."""
