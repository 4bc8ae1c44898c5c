"""How many calls there were of each server, how they ended and how long they took; and how often servers were started.

For metrics. On the way of a call are a bisection and a few additions; all labels are from fixed sets, or names of the
configuration's servers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final

from mcpd.errors import INVALID_PARAMS, METHOD_NOT_FOUND
from mcpd.failures import Kind
from mcpd.metrics.histogram import LATENCY, Histogram

if TYPE_CHECKING:
    from collections.abc import Collection

OWN_KINDS: Final = frozenset(
    ("tool-error", "server-error", "invalid-params", "method-not-found", "refused", "internal")
)
"""What went wrong with a call, where it is no failure of the server's: the tool says that it failed; the server
answered with an error; mcpd refused what was wrong, or for any other reason; a fault of mcpd's."""

KINDS: Final = frozenset(map(str, Kind)) | OWN_KINDS
"""Every kind of error that there is; `other` stands for what is none of them."""

_REFUSALS: Final = {INVALID_PARAMS: "invalid-params", METHOD_NOT_FOUND: "method-not-found"}


class Series:
    """Calls of one method at one server."""

    __slots__ = ("duration", "errors", "outcomes", "received", "sent")

    def __init__(self) -> None:
        self.duration = Histogram(LATENCY)
        self.outcomes: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.received = 0
        """Bytes of params."""
        self.sent = 0
        """Bytes of results."""


class Tally:
    """Counts since the start of the program. A server of the empty name stands for calls that reached none."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str], Series] = {}
        """By server and method."""
        self.starts: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        """By server and kind."""

    def note(
        self, server: str, method: str, outcome: str, code: int, why: str, seconds: float, received: int, sent: int
    ) -> None:
        """A call ended. `outcome`, `code` and `why` are those of its record (`ledger`)."""
        series = self.calls.get((server, method))
        if series is None:
            series = self.calls[server, method] = Series()
        duration = series.duration  # as `observe` does it, without its frame
        duration.counts[bisect_left(LATENCY, seconds)] += 1
        duration.sum += seconds
        series.received += received
        series.sent += sent
        outcomes = series.outcomes
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome not in ("ok", "cancelled"):
            kind = kind_of(outcome, code, why)
            series.errors[kind] = series.errors.get(kind, 0) + 1

    def failed(self, server: str, why: str) -> None:
        """An attempt to reach a server failed, or it was lost."""
        self.failures[server, why if why in KINDS else "other"] += 1

    def retain(self, servers: Collection[str]) -> None:
        """Forget all other servers: there are no others any more."""
        self.calls = {key: series for key, series in self.calls.items() if not key[0] or key[0] in servers}
        self.starts = Counter({name: count for name, count in self.starts.items() if name in servers})
        self.failures = Counter({key: count for key, count in self.failures.items() if key[0] in servers})


def kind_of(outcome: str, code: int, why: str) -> str:
    """What went wrong, in a word."""
    if why:
        return why if why in KINDS else "other"
    if outcome == "error":
        return "tool-error"
    if outcome == "failed":
        return "server-error"
    # Wrong arguments are answered with a result that says so, and no code.
    return _REFUSALS.get(code, "refused") if code else "invalid-params"
