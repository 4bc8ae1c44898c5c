"""A row of the table: a feature, the test of it, and what has to come out in each column.

A test returns the outcome in a word or two, `YES` where everything is as it would be without mcpd between. What else it
may return is written beside the test: a run whose outcome is another is a failure and not a new truth.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tests.compatibility.columns import COLUMNS, Bench, Column

YES = "yes"
NONE = "—"
"""There is no such thing in this column; where that can be seen, the test has to see it."""

Test: TypeAlias = Callable[[Bench], Awaitable[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """`expected` is the outcome by column, `notes` the names of what explains it."""

    title: str
    theme: str
    test: Test
    expected: Mapping[Column, str]
    notes: tuple[str, ...]


class Theme:
    """Collects rows in the order of their definition."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[Row] = []

    def row(self, title: str, outcome: str = YES, *notes: str, **others: str) -> Callable[[Test], Test]:
        """`others` names the columns where the outcome is another: by one side or both (`L_`, `_M`, `LM`), and by
        transport (`LL_http`, `___stdio`); of several that fit, the one that names most of a column counts."""

        def register(test: Test) -> Test:
            expected = {column: self._outcome(column, outcome, others) for column in COLUMNS}
            self.rows.append(Row(title, self.title, test, expected, notes))
            return test

        return register

    @staticmethod
    def _outcome(column: Column, outcome: str, others: Mapping[str, str]) -> str:
        fitting: dict[int, str] = {}
        for key, other in others.items():
            parts = (*key[:2], key[3:])
            if all(part in ("_", "", its) for part, its in zip(parts, (*column.cell, column.transport), strict=True)):
                named = sum(part not in ("_", "") for part in parts)
                assert fitting.setdefault(named, other) == other, f"{key} and another say as much of {column.title}"
        return fitting[max(fitting)] if fitting else outcome
