"""What the gateway holds of a frontend: calls to cancel, the way to a client, one exchange with a modern client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from mcpd.errors import RpcError
    from mcpd.gateway.handover import Streams
    from mcpd.protocol.jsonrpc import Buffer, Members

Outcome: TypeAlias = "tuple[Buffer, Members | None] | RpcError"
"""How a request ends: its result and the members beside it, or an error."""


class Running(Protocol):
    """A call in flight that its client can cancel."""

    def cancel(self) -> None:
        """Stop working on it."""


class Outlet(Protocol):
    """Where a client hears what belongs to none of its calls: its GET stream, its pipe, its event stream."""

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Send one message; False when it cannot be delivered (any more)."""


class Feed(Outlet, Protocol):
    """Where a modern client listens for news, for as long as one request of its lasts."""

    @property
    def queued(self) -> int:
        """Bytes that the client has not taken yet."""


class Sweepable(Protocol):
    """What a frontend keeps with a session."""

    def sweep(self) -> None:
        """Forget what is too old to be of use."""

    def capture(self) -> Streams | None:
        """What the next run of mcpd needs of it; None when that is nothing."""


class Turn(Protocol):
    """One exchange with a modern client. A call that needs input takes several of them to its end."""

    def notify(self, method: str, params: Buffer) -> None:
        """A notification of the call. Never waits, never raises."""

    def settle(self, outcome: Outcome) -> None:
        """The end of this exchange, exactly once; the call itself may go on. Never waits, never raises."""

    def cancel(self) -> None:
        """Cancel the task in which the call runs that began in this turn."""
