"""When a backend that failed is tried again: a pure function of its history.

Theory of operation
    1. Delays grow by `factor` from `initial` to `cap` and stay there for ever: a backend is never given up
       silently, and never hammered. Jitter only shortens, so that `cap` is a true bound and replicas do not
       meet.
    2. What counts is a score, not a number of restarts: each failure adds one, `stable` seconds of being
       ready clear it, and shorter times clear it in proportion (FORGIVENESS). A backend that dies once an
       hour always restarts at once; one that dies a second after each start backs off like one that never
       started.
    3. The first restart of a backend that had been ready is immediate: most deaths are single (an update, an
       OOM kill), and calls are waiting.
    4. A Retry-After moves the next attempt later, never earlier.
    5. Rule 2 forgives what works in between; the start limit does not: after `start_limit` starts within
       `start_limit_interval`, whatever came of them, it is tried at the slow pace alone, one start in `cap`,
       until it was ready for a stable period. So is what only an operator can mend.
    6. A call that meets the backend in backoff makes one attempt happen, and the next such attempt is allowed
       after a time that doubles from WAKE_INTERVAL to `cap`. So in an outage of T seconds there are at most
       start_limit + T / (cap * (1 - jitter)) attempts, and with calls all the time besides them at most
       log2(cap / WAKE_INTERVAL) + 2 + T / cap: with the defaults 380 and 676 in a day.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcpd.config.model import Restart

FORGIVENESS = 3.0
"""Failures forgiven in one stable period: with 30 s, a death every 10 s or more is restarted at once (8,640
starts a day at the worst, of a backend that works between them); more often than that the delays grow."""

RETRY_AFTER_MAX = 86_400.0
"""Seconds. A server that asks for more than a day has a broken clock or means never; then once a day is rare
enough."""

CRASH_LOOP = 5.0
"""The score from which status and metrics say "crash-looping": five failures in a row, about 6 s with the
defaults."""

WAKE_INTERVAL = 5.0
"""Seconds between the first two attempts that calls cause during backoff: a person who retries sees a fresh
attempt, a client that loops does not undo the backoff."""

_EXPONENT_MAX = 1000.0
"""Of two: keeps the power finite for every factor; the cap is reached long before."""


class Mode(enum.StrEnum):
    """Which ends are followed by a restart."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """All times are in seconds; `jitter` is the largest part by which a delay is shortened.

    Raises: ValueError for values that would hammer, stop trying or go backwards.
    """

    mode: Mode = Mode.ALWAYS
    initial: float = 0.2
    """Below about 0.05 a command that fails at once would be started twenty times a second."""
    factor: float = 2.0
    cap: float = 300.0
    """A dead backend is noticed to be back after five minutes at most, at the price of some 340 attempts a
    day."""
    jitter: float = 0.2
    stable: float = 30.0
    start_limit: int = 20
    """With the interval: one that dies every ten seconds is slowed down after some minutes, while the delays
    alone, which allow twelve starts in ten minutes, never get there."""
    start_limit_interval: float = 600.0
    """0: no limit."""

    @classmethod
    def of(cls, restart: Restart) -> RestartPolicy:
        """The policy that a server's configuration asks for."""
        return cls(
            mode=Mode(restart.policy),
            initial=restart.initial,
            factor=restart.factor,
            cap=restart.cap,
            jitter=restart.jitter,
            stable=restart.stable,
            start_limit=restart.start_limit,
            start_limit_interval=restart.start_limit_interval,
        )

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.cap < math.inf:
            raise ValueError("restart: 0 < initial <= cap is required")
        if not 1 <= self.factor < math.inf:
            raise ValueError("restart: factor must be at least 1")
        if not 0 <= self.jitter < 1:
            raise ValueError("restart: jitter must be at least 0 and less than 1")
        if not 0 < self.stable < math.inf:
            raise ValueError("restart: stable must be more than 0")
        if self.start_limit < 1:
            raise ValueError("restart: start_limit must be at least 1")
        if not 0 <= self.start_limit_interval < math.inf:
            raise ValueError("restart: start_limit_interval must be at least 0")


@dataclass(frozen=True, slots=True)
class RestartStatistics:
    """For status and metrics. `next_at` is None unless a restart is planned."""

    failures: int
    score: float
    looping: bool
    delay: float
    next_at: float | None


@dataclass(frozen=True, slots=True)
class History:
    """What decides of the next delays, for another program to go on with."""

    failures: int = 0
    score: float = 0.0
    limited: bool = False
    ends: tuple[float, ...] = ()
    """Seconds ago, the oldest first."""


class Restarts:
    """One backend's history of failures. Its owner asks `next_delay` after each end."""

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self._failures = 0
        # A start counts once it has come to its end: what is stopped because nobody uses it has not failed.
        self._ends: deque[float] = deque(maxlen=policy.start_limit)
        self._clear()

    def _clear(self) -> None:
        self._score = 0.0
        self._delay = 0.0
        self._next_at: float | None = None
        self._held = False
        self._limited = False
        self._woken = -math.inf
        self._wakes = 0

    def next_delay(
        self,
        *,
        now: float,
        failed: bool,
        uptime: float,
        random: float,
        retry_after: float | None = None,
        slow: bool = False,
    ) -> float | None:
        """Seconds until the next attempt, or None when the policy wants none.

        `failed`: it crashed, was lost or did not start (an exit with status 0 is not a failure, but counts
        in the score, or `always` would spin). `uptime`: seconds for which it had been ready, 0 if it never
        was. `random`: in [0, 1). `slow`: trying again will not help before somebody changed something.
        """
        policy = self.policy
        if failed:
            self._failures += 1
        if policy.mode is Mode.NEVER or (policy.mode is Mode.ON_FAILURE and not failed):
            self._next_at = None
            return None
        self._ends.append(now)
        if uptime >= policy.stable:
            self._clear()
        else:
            self._score = max(0.0, self._score - FORGIVENESS * uptime / policy.stable)
        self._score += 1.0
        single = uptime > 0 and self._score <= 1.0
        jitter = 1 - policy.jitter * random
        delay = 0.0 if single else self._backoff() * jitter
        self._limited = self._limited or self._exceeds_limit(now + delay)
        if slow or self._limited:
            delay = policy.cap * jitter
        self._held = retry_after is not None and retry_after > delay
        if retry_after is not None and retry_after > delay:
            # The server named an instant that it names to everybody: come a little after it, not all at once.
            delay = min(retry_after, RETRY_AFTER_MAX) + policy.initial * random
        self._delay = delay
        self._next_at = now + delay
        return delay

    def wake(self, *, now: float) -> bool:
        """Whether a call that meets this backend in backoff may start it now instead of waiting (rule 6).

        Never before a Retry-After is over.
        """
        if self._next_at is None:
            return False
        if now >= self._next_at:
            return True
        cap = self.policy.cap
        pause = cap if self._limited else min(cap, WAKE_INTERVAL * 2.0 ** min(self._wakes - 1, _EXPONENT_MAX))
        if self._held or now - self._woken < pause:
            return False
        self._woken = now
        self._wakes += 1
        return True

    def reset(self) -> None:
        """Forget the history: an operator started it, or its configuration changed."""
        self._clear()
        self._ends.clear()

    def history(self, *, now: float) -> History:
        return History(self._failures, self._score, self._limited, tuple(now - end for end in self._ends))

    def remember(self, history: History, *, now: float) -> None:
        """Go on from there, with an attempt that is due at once."""
        self._failures, self._score, self._limited = history.failures, history.score, history.limited
        self._ends.extend(now - end for end in history.ends)

    @property
    def looping(self) -> bool:
        """Whether it is to be shown as crash-looping."""
        return self._limited or self._score >= CRASH_LOOP

    @property
    def next_at(self) -> float | None:
        """When the next attempt is due; None when none is planned."""
        return self._next_at

    def statistics(self) -> RestartStatistics:
        return RestartStatistics(self._failures, self._score, self.looping, self._delay, self._next_at)

    def _exceeds_limit(self, at: float) -> bool:
        """Whether a start at that time would be one too many (rule 5)."""
        ends, policy = self._ends, self.policy
        return len(ends) == policy.start_limit and at - ends[0] < policy.start_limit_interval

    def _backoff(self) -> float:
        policy = self.policy
        doublings = (self._score - 1.0) * math.log2(policy.factor)
        return float(min(policy.cap, policy.initial * 2.0 ** min(doublings, _EXPONENT_MAX)))
