"""docs/compatibility.md is what a run gives, and a run gives what the rows expect."""

from __future__ import annotations

import pytest
import trio

from tests.compatibility.columns import COLUMNS, TRANSPORTS, Column
from tests.compatibility.features import ROWS
from tests.compatibility.notes import NOTES
from tests.compatibility.render import render, table
from tests.compatibility.rows import NONE, YES, Theme
from tests.compatibility.run import DOCUMENT, run

LL_HTTP, LM_STDIO, ML_HTTP, MM_HTTP = (
    Column("legacy", "legacy", "http"),
    Column("legacy", "modern", "stdio"),
    Column("modern", "legacy", "http"),
    Column("modern", "modern", "http"),
)


@pytest.mark.slow
def test_the_document_is_what_a_run_gives():
    report = trio.run(run, strict_exception_groups=True)  # it has limits of its own
    assert report.failures == []
    assert set(report.outcomes) == {(row, column) for row in ROWS for column in COLUMNS}
    assert DOCUMENT.read_text(encoding="utf-8") == report.document(), "make compatibility"


def test_there_is_a_column_for_every_pair_of_eras_on_every_transport():
    cells = {cell: {column.transport for column in COLUMNS if column.cell == cell} for cell in ("LL", "LM", "ML", "MM")}
    assert cells.pop("MM") == {"http", "stdio", "websocket"}
    assert all(found == set(TRANSPORTS) for found in cells.values())
    [half_old] = [column for column in COLUMNS if column.title == "M→L sse"]
    assert (half_old.front_transport, half_old.back_transport) == ("http", "sse")


def test_rows_have_titles_of_their_own():
    titles = [row.title for row in ROWS]
    assert len(set(titles)) == len(titles)


def test_notes_are_used_and_explain_what_is_not_plain():
    assert {name for row in ROWS for name in row.notes} == set(NOTES)
    bare = [row.title for row in ROWS if not row.notes and len({*row.expected.values(), YES, NONE}) > 2]
    plain_codes = {"-32601", "-32602", "-32600"}
    assert [row.title for row in ROWS if row.title in bare and not set(row.expected.values()) <= plain_codes] == []


async def nothing(bench) -> str:
    return YES


def test_the_expectation_that_names_most_of_a_column_counts():
    theme = Theme("t")
    theme.row("a", "x", "note", L_="1", MM="2", LM="3", LM_stdio="5")(nothing)
    [row] = theme.rows
    with pytest.raises(AssertionError, match="as much of L→M"):
        theme.row("b", "x", L_="1", _M="2")(nothing)
    assert (row.theme, row.title, row.notes, row.test) == ("t", "a", ("note",), nothing)
    assert [row.expected[column] for column in (LL_HTTP, LM_STDIO, ML_HTTP, MM_HTTP)] == ["1", "5", "x", "2"]


def test_the_text():
    first, second = Theme("First"), Theme("Second")
    first.row("a", "x", "late")(nothing)
    second.row("b", YES, "early", "late")(nothing)
    rows = [*first.rows, *second.rows]
    outcomes = {(row, column): f"{row.title}{column.cell}" for row in rows for column in (LL_HTTP, ML_HTTP)}
    text = render([first, second], [LL_HTTP, ML_HTTP], outcomes, {"early": "Early.", "late": "Late."})
    _, *sections = text.split("\n## ")
    assert sections == [
        "First\n\n"
        "|   | L→L http | M→L http | notes |\n"
        "| - | -------- | -------- | ----- |\n"
        "| a | aLL      | aML      | 1     |\n",
        "Second\n\n"
        "|   | L→L http | M→L http | notes |\n"
        "| - | -------- | -------- | ----- |\n"
        "| b | bLL      | bML      | 2, 1  |\n",
        "Notes\n\n1. Late.\n2. Early.\n",
    ]


def test_a_table_is_as_wide_as_its_cells():
    assert table([["", "b"], ["long", ""]]) == "|      | b |\n| ---- | - |\n| long |   |"


async def test_another_outcome_is_a_failure_and_so_is_an_error():
    async def wrong(bench) -> str:
        raise AssertionError("what a surprise")

    theme = Theme("t")
    theme.row("surprising", "no")(nothing)
    theme.row("broken")(wrong)
    theme.row("fine")(nothing)
    report = await run([LL_HTTP], theme.rows)
    assert [failure.partition(" (")[0] for failure in report.failures] == [
        "L→L http, surprising: 'yes' came out where 'no' is expected",
        "L→L http, broken: AssertionError: what a surprise",
    ]
    assert list(report.outcomes.values()) == [YES, YES]
