"""Run all rows in all columns, and write docs/compatibility.md, or with --check compare it.

    python -m tests.compatibility.run [--check]

A cell whose outcome is not the expected one is told with its reason, and then nothing is written.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.compatibility.columns import COLUMNS, open_bench
from tests.compatibility.features import ROWS, THEMES
from tests.compatibility.notes import NOTES
from tests.compatibility.render import render
from tests.fixtures.peer import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.compatibility.columns import Bench, Column
    from tests.compatibility.rows import Row

DOCUMENT = ROOT / "docs" / "compatibility.md"
AT_ONCE = 4
"""Columns: they wait more than they work, and two processors are to be had."""
ROW_LIMIT = 60.0
"""Seconds; more than any single wait of the test clients, so that those say what they waited for."""
COLUMN_LIMIT = 400.0


@dataclass(slots=True)
class Report:
    """What came of a run."""

    outcomes: dict[tuple[Row, Column], str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def document(self) -> str:
        """Only where there are no failures."""
        return render(THEMES, COLUMNS, self.outcomes, NOTES)


async def run(columns: Sequence[Column] = COLUMNS, rows: Sequence[Row] = ROWS) -> Report:
    """All of them, each column with processes of its own."""
    report = Report()
    limiter = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:
        for column in columns:
            nursery.start_soon(run_column, column, rows, report, limiter)
    return report


async def run_column(column: Column, rows: Sequence[Row], report: Report, limiter: trio.CapacityLimiter) -> None:
    async with limiter:
        try:
            with trio.fail_after(COLUMN_LIMIT):
                async with open_bench(column) as bench:
                    for row in rows:
                        await run_cell(row, bench, report)
        except Exception as error:
            report.failures.append(f"{column.title}: {reason(error)}")


async def run_cell(row: Row, bench: Bench, report: Report) -> None:
    column = bench.column
    try:
        with trio.fail_after(ROW_LIMIT):
            outcome = await row.test(bench)
    except Exception as error:
        report.failures.append(f"{column.title}, {row.title}: {reason(error)}")
        return
    report.outcomes[row, column] = outcome
    expected = row.expected[column]
    if outcome != expected:
        report.failures.append(f"{column.title}, {row.title}: {outcome!r} came out where {expected!r} is expected")


def reason(error: BaseException) -> str:
    """The error and the line of a test that it is about."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    here = Path(__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == here]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return f"{type(error).__name__}: {str(error)[:1000]}{where}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    check = parser.parse_args().check
    report = trio.run(run, strict_exception_groups=True)
    for failure in report.failures:
        sys.stderr.write(f"FAILED {failure}\n")
    if report.failures:
        return 1
    text = report.document()
    if not check:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(text, encoding="utf-8")
    elif not DOCUMENT.is_file() or DOCUMENT.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{DOCUMENT.name} is not what a run gives: make compatibility\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
