"""Where in an event stream reading has come to, and how long to wait before it is taken up again. No I/O.

Source: "Resumability and Redelivery" of 2025-03-26 to 2025-11-25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.protocol.exchange_client import RETRY_MAX, retry_delay

if TYPE_CHECKING:
    from mcpd.protocol.sse import Event


class Position:
    """How far a stream was read, and when its server wants to be asked for the rest."""

    __slots__ = ("_barren", "last_id", "retry")

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry: int | None = None
        self._barren = 0

    def note(self, event: Event) -> None:
        """Remember what an event says about resuming."""
        if event.data or (event.id and event.id != self.last_id):
            self._barren = 0
        self.last_id = event.id or self.last_id
        self.retry = event.retry if event.retry is not None else self.retry

    def pause(self) -> float:
        """Seconds until the next attempt: what the server asked for, and twice as long after each that
        brought nothing.
        """
        delay = retry_delay(self.retry) * 2.0 ** min(self._barren, 20)
        self._barren += 1
        return min(delay, RETRY_MAX)
