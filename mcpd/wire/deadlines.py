"""One task that watches every deadline, so that no request needs a timer or a cancel scope of its own.

A cancel scope costs several microseconds, adding to a dict a tenth of one. The price is precision: an entry
expires at most `resolution` seconds late, which no timeout of seconds cares about.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

import trio

from mcpd.metrics.histogram import LAG, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

RESOLUTION = 0.25
"""Seconds between two sweeps at least: timeouts are whole seconds, and a sweep looks at every entry."""


class Expiring(Protocol):
    """Something that ends at `deadline`, a time on `trio.current_time()`'s scale; `math.inf` is never."""

    deadline: float

    def expire(self) -> None:
        """Called at most once per `add`, after the entry was removed; must neither block nor raise."""


@dataclass(frozen=True, slots=True)
class DeadlinesStatistics:
    """Entries watched now, and what was done since the start."""

    entries: int
    sweeps: int
    expired: int
    lag: Histogram
    """How late sweeps were, in seconds: how long the event loop was busy with something else."""


class Deadlines:
    """The entries, and the task that sweeps them.

    `deadline` may move later at any time without a word. When it moves earlier, `add` the entry again: that
    is idempotent and wakes the sweeper in time.
    """

    def __init__(self, *, resolution: float = RESOLUTION) -> None:
        self._resolution = resolution
        self._entries: dict[Expiring, None] = {}
        self._scope: trio.CancelScope | None = None
        self._wake = math.inf
        self._swept = -math.inf
        self._sweeps = 0
        self._expired = 0
        self._lag = Histogram(LAG)

    def add(self, entry: Expiring) -> None:
        """Watch `entry`, which must be hashable by identity. O(1)."""
        self._entries[entry] = None
        if entry.deadline < self._wake:
            # Not in the past: a sweep that is asked for too late is not late.
            self._wake = max(entry.deadline, self._swept + self._resolution, trio.current_time())
            if self._scope is not None:
                self._scope.deadline = self._wake

    def discard(self, entry: Expiring) -> None:
        """Forget `entry`; nothing happens if it is not watched. O(1)."""
        self._entries.pop(entry, None)

    def statistics(self) -> DeadlinesStatistics:
        """How much is watched and how much has expired."""
        return DeadlinesStatistics(len(self._entries), self._sweeps, self._expired, self._lag.copy())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Sweep for ever: asleep until the earliest deadline known, for good when there is none.

        Cancellation: ends it; the entries stay, unwatched.
        """
        task_status.started()
        try:
            while True:
                with trio.CancelScope(deadline=self._wake) as self._scope:
                    await trio.sleep_forever()
                now = trio.current_time()
                self._lag.observe(max(0.0, now - self._wake))
                self._sweep(now)
        finally:
            self._scope = None

    def _sweep(self, now: float) -> None:
        self._sweeps += 1
        self._swept = now
        self._wake = math.inf
        due = []
        earliest = math.inf
        for entry in self._entries:
            deadline = entry.deadline
            if deadline <= now:
                due.append(entry)
            elif deadline < earliest:
                earliest = deadline
        for entry in due:
            # An earlier expire() of this round may have discarded or postponed this one.
            if entry.deadline > now:
                earliest = min(earliest, entry.deadline)
            elif self._entries.pop(entry, self) is None:
                self._expired += 1
                self._call(entry.expire)
        # What expire() added has set _wake itself.
        self._wake = min(self._wake, max(earliest, now + self._resolution))

    def _call(self, expire: Callable[[], None]) -> None:
        try:
            expire()
        except Exception:
            # One bad entry must not leave all the others without a deadline.
            logger.exception("event=expire-failed")
