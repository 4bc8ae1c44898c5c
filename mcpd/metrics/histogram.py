"""A histogram that costs a bisection and two additions: observations by size, and their sum.

prometheus-client's own has a lock and an object for each bucket, and costs several microseconds an observation; on the
way of a call that is too much.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds. From what mcpd itself takes to the longest `timeouts.call` that people set."""

LAG: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds. A loop is late by less than one of the first, and a stall of seconds is a fault."""


class Histogram:
    """`bounds` are the largest value of each bucket, in ascending order; what is larger has one more bucket."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Of each bucket alone, not cumulated."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Take one down."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def copy(self) -> Histogram:
        """As it is now, for another thread."""
        copy = Histogram(self.bounds)
        copy.counts, copy.sum = self.counts.copy(), self.sum
        return copy

    def merged(self, other: Histogram) -> Histogram:
        """Both in one; they have the same bounds."""
        copy = self.copy()
        copy.counts = [own + others for own, others in zip(self.counts, other.counts, strict=True)]
        copy.sum += other.sum
        return copy
