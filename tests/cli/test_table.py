from __future__ import annotations

import pytest

from mcpd.cli.table import duration, table


def test_columns_are_as_wide_as_they_need_to_be():
    rows = [("a", None, 5), ("longer", "x", ""), ("b", 0, "end")]
    assert table(("NAME", "V", "LAST"), rows).splitlines() == [
        "NAME    V  LAST",
        "a       -  5",
        "longer  x  -",
        "b       0  end",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (61, "1m 1s"), (3600, "1h"), (3661, "1h 1m"), (90061, "1d 1h")],
)
def test_durations_have_their_two_largest_units(seconds, text):
    assert duration(seconds) == text
