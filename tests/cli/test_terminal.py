from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from mcpd.cli import terminal
from mcpd.cli.terminal import STATES, fit, paint, width
from mcpd.supervisor.states import State
from tests.e2e.background import ENVIRONMENT


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("日本", 4), ("e\u0301", 1), ("👍", 2), ("a\u200db", 2), ("", 0), ("é", 1)],
)
def test_how_wide_texts_are(text, columns):
    assert width(text) == columns


def test_texts_are_cut_at_a_character():
    assert fit("abcdef", 4) == "abc…"
    assert fit("日本語", 5) == "日本…"
    assert fit("日本語", 4) == "日…"
    assert fit("ab", 2) == "ab"


def test_every_state_has_its_colour():
    assert {state.value for state in State} <= set(STATES)


def test_without_a_terminal_there_is_nothing(capsys):
    assert paint("x", terminal.RED) == "x"
    assert terminal.columns() is None


PROGRAM = """
from mcpd.cli.table import table
print(table(("NAME", "STATE", "ERROR"), [("日本", "ready", "-"), ("b", "needs-operator", "x" * 200)]))
"""


def printed(**environ: str) -> str:
    """What a terminal of forty columns gets."""
    master, slave = pty.openpty()
    environment = {**ENVIRONMENT, "COLUMNS": "40", "LINES": "9", "PYTHONIOENCODING": "utf-8", **environ}
    try:
        subprocess.run([sys.executable, "-c", PROGRAM], stdout=slave, check=True, env=environment, timeout=60)
        os.close(slave)
        found = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # everybody has left the other end
                break
            if not part:
                break
            found += part
    finally:
        os.close(master)
    return found.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_and_no_more_than_fits():
    head, first, second = printed(TERM="xterm").splitlines()
    assert first == "日本  \x1b[32mready\x1b[0m           -"
    assert "\x1b[31mneeds-operator\x1b[0m" in second
    assert second.endswith("x…")
    assert head.startswith("\x1b[1mNAME\x1b[0m")


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": ""}])
def test_who_wants_no_colours_gets_none(environ):
    lines = printed(**environ).splitlines()
    assert lines[1] == "日本  ready           -"
    assert max(map(width, lines)) <= 40
