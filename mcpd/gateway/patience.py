"""How long the first lists and calls wait for servers that are still starting.

Theory of operation. Right after the start nothing is known, and an empty list misleads clients that never ask again.
So a list waits until every backend had its first verdict, but not for one that hangs: a hanging process is told from a
slow one by whether it works.

Rules.
1. A backend whose process has used the processor a moment ago is worth waiting for, up to STIRRING_MAX.
2. Any other is waited for half as long again as the slowest one that became ready took, but no less than PATIENCE_MIN.
3. Nobody waits longer than the limit given, counted from the start; afterwards never again.
4. A call by a name that is not known yet waits for those backends that could offer it, by their prefix.
5. A list does not wait for a backend whose catalogue was kept from an earlier run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from mcpd.gateway.naming import default_prefix
from mcpd.supervisor.states import USABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcpd.backends.base import Backend

PATIENCE_MIN: Final = 0.5
"""Seconds after the start that every backend gets before a list is answered without it."""

SHARE: Final = 1.5
MORE: Final = 0.9
"""A quiet backend that needs more than 1.5 times what the slowest other one took to get ready, or 0.9 s more, is
not waited for. One that failed is no measure for the others: a command that does not exist fails at once."""

STIRRING_MAX: Final = 5.0
"""Seconds after the start in which work is a sign of life; a process that still works then may be spinning."""

FIRST_WAIT: Final = 10.0
"""Seconds after the start in which lists wait at all; clients wait 30 to 60 s."""

LOOK: Final = 0.0625
"""Seconds between looks at the processes of those that are waited for; a look costs a read of /proc for each."""


class Patience:
    """Knows who had a verdict, and decides who is worth waiting for."""

    def __init__(self, separator: str, wait_news: Callable[[], Awaitable[None]]) -> None:
        self.separator = separator
        """Between a server's name and a tool's, where the server sets no prefix."""
        self._wait_news = wait_news
        self._waiting: dict[str, Backend] = {}
        """Those without a verdict."""
        self._unknown: dict[str, Backend] = {}
        """Those among them of which nothing is known at all."""
        self._started = 0.0
        self._slowest: float | None = None
        """Seconds that the last backend which became ready took."""

    def start(self, backends: Sequence[Backend]) -> None:
        """The backends are being started now."""
        self._waiting = {backend.name: backend for backend in backends}
        self._unknown = {name: backend for name, backend in self._waiting.items() if backend.hello is None}
        self._started = trio.current_time()

    def use(self, backends: Sequence[Backend]) -> None:
        """Others took the place of some: nobody waits for those that are gone, nor for one that came later."""
        self._waiting = {backend.name: backend for backend in backends if backend.name in self._waiting}
        self._unknown = {name: self._waiting[name] for name in self._unknown if name in self._waiting}

    def judged(self, backend: Backend) -> None:
        """A backend had its first verdict: it is ready, or failed."""
        if self._waiting.get(backend.name) is not backend:
            return
        del self._waiting[backend.name]
        self._unknown.pop(backend.name, None)
        if backend.state in USABLE:
            self._slowest = trio.current_time() - self._started

    @property
    def all_judged(self) -> bool:
        """Whether every backend has had its first verdict."""
        return not self._waiting

    async def settle(self, limit: float) -> None:
        """Wait until no backend is worth waiting for, or `limit` seconds after the start."""
        while self._unknown and self._worth_waiting(limit):
            now, least = trio.current_time() - self._started, self._least
            await self._look_again(min(limit, least) if now < least else limit)

    @property
    def _least(self) -> float:
        """Seconds after the start in which all are waited for, whether they stir or not."""
        slowest = self._slowest
        return math.inf if slowest is None else max(PATIENCE_MIN, min(slowest * SHARE, slowest + MORE))

    def _worth_waiting(self, limit: float) -> bool:
        now = trio.current_time() - self._started
        # Each of them, and from the first moment on: a look sees what was done since the one before.
        stirring = [backend.stirs() for backend in self._unknown.values()]
        if now >= limit:
            return False
        return now < self._least or (now < STIRRING_MAX and any(stirring))

    async def for_name(self, name: str, known: Callable[[], bool]) -> None:
        """Wait until a name is known, as long as a backend without a verdict could offer it."""
        await self._while_open(known, lambda: any(name.startswith(self._prefix(b)) for b in self._waiting.values()))

    async def for_resource(self, known: Callable[[], bool]) -> None:
        """Wait until a URI's owner is known, as long as any backend has no verdict: URIs tell nothing of it."""
        await self._while_open(known, lambda: bool(self._waiting))

    async def _while_open(self, known: Callable[[], bool], possible: Callable[[], bool]) -> None:
        while not known() and possible() and trio.current_time() - self._started < FIRST_WAIT:
            await self._look_again(FIRST_WAIT)

    async def _look_again(self, limit: float) -> None:
        """Wait for a verdict or for the next look, whichever comes first."""
        with trio.move_on_after(min(LOOK, self._started + limit - trio.current_time())):
            await self._wait_news()

    def _prefix(self, backend: Backend) -> str:
        prefix = backend.spec.prefix
        return default_prefix(backend.name, self.separator) if prefix is None else prefix
