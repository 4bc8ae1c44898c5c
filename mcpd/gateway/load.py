"""How busy each server is, from the calls that ended lately: nothing is counted for it while they run."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from mcpd.events import Events

WINDOW: Final = 10.0
"""Seconds that are looked back upon: long enough for a rate that does not jump about, short enough to see a change."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Of one server."""

    rate: float = 0.0
    """Calls a second."""
    failed: float = 0.0
    """The share of them that failed or whose tool said that it did, 0 to 1."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    """How long half of the calls took at most, and nineteen of twenty; None without a call."""


def load(events: Events, window: float = WINDOW) -> dict[str, Load]:
    """By the server's name; servers without a call are left out."""
    now = perf_counter()
    calls = events.calls_since(now - window)
    if not calls:
        return {}
    # On a busy mcpd less than the window is kept.
    span = max(window if events.keeps_since(now - window) else now - calls[0].ended, 0.001)
    times: dict[str, list[float]] = {}
    failures: dict[str, int] = {}
    for call in calls:
        about = call.describe()
        server, ms = about.get("server"), about.get("ms")
        if isinstance(server, str) and isinstance(ms, float):
            times.setdefault(server, []).append(ms)
            failures[server] = failures.get(server, 0) + (about.get("outcome") in ("failed", "error"))
    return {server: _load(sorted(each), failures[server], span) for server, each in times.items()}


def _load(times: list[float], failures: int, span: float) -> Load:
    count = len(times)
    return Load(
        rate=round(count / span, 2),
        failed=round(failures / count, 3),
        p50_ms=times[(count - 1) // 2],
        p95_ms=times[min(count - 1, int(count * 0.95))],
    )
