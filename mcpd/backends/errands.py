"""What a link does beside: answers to questions, cancellations, whatever nobody waits for. Bounded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from mcpd.backends.carrier import SessionLost
from mcpd.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

log = logging.getLogger("mcpd.backends")

ERRANDS_MAX: Final = 4096
"""At once, for one link: twice the calls that may be cancelled at the same time. A backend that causes more, and takes
none of our answers, is not answered any more."""


class Errands:
    """Runs in the link's own nursery, which its owner opened and which ends with the link."""

    def __init__(self, name: str, nursery: trio.Nursery, over: trio.Event) -> None:
        self._name = name
        self._nursery = nursery
        self._over = over
        self.count = 0
        """Now being done."""

    def start(self, work: Callable[..., Awaitable[None]], *args: object) -> bool:
        """Do something beside. False: it is not done, because the link is lost, or there is too much to do."""
        if self._over.is_set():
            return False
        if self.count >= ERRANDS_MAX:
            log.warning("backend=%s event=too_many_errands limit=%d", self._name, ERRANDS_MAX)
            return False
        self.count += 1
        self._nursery.start_soon(self._run, work, args)
        return True

    async def _run(self, work: Callable[..., Awaitable[None]], args: tuple[object, ...]) -> None:
        try:
            await work(*args)
        except (RpcError, SessionLost) as error:
            log.debug("backend=%s event=errand_failed reason=%r", self._name, error)
        finally:
            self.count -= 1
