"""What a terminal does to what is printed: colours, and how wide characters are. Nothing of it where there is none."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import Final

GREEN: Final = "32"
YELLOW: Final = "33"
RED: Final = "31"
DIM: Final = "2"
BOLD: Final = "1"

STATES: Final = {
    "ready": GREEN,
    "ok": GREEN,
    "starting": YELLOW,
    "degraded": YELLOW,
    "draining": YELLOW,
    "stopping": YELLOW,
    "backing-off": YELLOW,
    "warning": YELLOW,
    "needs-operator": RED,
    "crash-looping": RED,
    "error": RED,
    "stopped": DIM,
    "asleep": DIM,
    "disabled": DIM,
}
"""The colour of words that say how something does."""


def is_coloured() -> bool:
    """Whether somebody looks at it who wants colours: https://no-color.org, and terminals that have none."""
    environ = os.environ
    return sys.stdout.isatty() and not environ.get("NO_COLOR", "") and environ.get("TERM", "") not in ("", "dumb")


def columns() -> int | None:
    """How wide the terminal is; None where what is printed goes elsewhere, and must not be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def paint(text: str, colour: str) -> str:
    """The text in a colour, where there are colours."""
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and is_coloured() else text


def width(text: str) -> int:
    """How many columns a text takes: East Asian characters take two, what combines with the one before none."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def fit(text: str, most: int) -> str:
    """The text in at most so many columns."""
    if width(text) <= most:
        return text
    taken = 0
    for place, character in enumerate(text):
        taken += _width(character)
        if taken > most - 1:
            return text[:place] + "…"
    return text


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Me", "Mn", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
