from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcpd.cli import table as module
from mcpd.cli.table import duration, json_text, printable, table


def test_columns_are_as_wide_as_they_need_to_be():
    rows = [("a", None, 5), ("longer", "x", ""), ("b", 0, "end")]
    assert table(("NAME", "V", "LAST"), rows).splitlines() == [
        "NAME    V  LAST",
        "a       -  5",
        "longer  x  -",
        "b       0  end",
    ]


def test_nothing_that_steers_a_terminal_is_shown():
    assert printable("état \u2026 日本") == "état \u2026 日本"
    assert printable("\x1b[31mred\x1b[0m\rforged\n\x9b2J") == "?[31mred?[0m?forged??2J"
    assert table(("NAME",), [("\x1b]0;title\x07",)]) == "NAME\n?]0;title?"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (61, "1m 1s"), (3600, "1h"), (3661, "1h 1m"), (90061, "1d 1h")],
)
def test_durations_have_their_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_json_is_written_in_one_way_for_scripts_and_for_people():
    value = {"name": "été", "list": [1]}
    assert json_text(value).splitlines() == ["{", '  "name": "été",', '  "list": [', "    1", "  ]", "}"]
    assert json.loads(json_text(value)) == value
    verbs = Path(module.__file__).parent.glob("*.py")
    assert [file.name for file in verbs if "indent=" in file.read_text(encoding="utf-8")] == ["table.py"]
