"""Where calls wait for a server that cannot be reached at the moment.

Rules.
1. A call waits for the attempt to connect that is under way as long as `patience` says, counted from its beginning.
2. The time that a start waits for its turn is nobody's: neither the handshake's nor that of the calls. It is bounded by
   the line, in which a start that a call waits for is among the first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from mcpd.supervisor.slots import Claim, Urgency

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.backends.link import Link

WAIT_FOR_ATTEMPT: Final = 10.0
"""Seconds that a call waits for an attempt to connect that is under way; clients give up after 30 to 60."""


class Lobby:
    """Of one server."""

    def __init__(self) -> None:
        self.claim = Claim(moved=self.tell)
        """With which the server is started."""
        self._waiting = 0
        self._changed = trio.Event()
        self._patience = WAIT_FOR_ATTEMPT

    def __len__(self) -> int:
        """How many calls wait."""
        return self._waiting

    def begin(self, patience: float = WAIT_FOR_ATTEMPT) -> None:
        """An attempt to connect begins, for which calls wait so long."""
        self._patience = patience
        self.claim.urgency = Urgency.CALL if self._waiting else Urgency.BACKGROUND

    def tell(self) -> None:
        """Something changed: let those who wait look again."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def wait(self, look: Callable[[], Link | None], held: Callable[[], bool]) -> Link | None:
        """Wait until `look` finds a link; None when that took too long. While it is `held`, there is no attempt yet
        from which the time could be counted.

        Raises: what `look` raises, when there is nothing to be waited for.
        """
        self._waiting += 1
        self.claim.hurry()
        try:
            with trio.CancelScope() as scope:
                while (link := look()) is None:
                    if self.claim.waiting or held():
                        scope.deadline = math.inf
                    elif scope.deadline == math.inf:
                        scope.deadline = trio.current_time() + self._patience
                    await self._changed.wait()
                return link
            return None
        finally:
            self._waiting -= 1
