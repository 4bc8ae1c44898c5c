"""What is printed: tables for people, JSON for scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from mcpd.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


LEAST: Final = 12
"""Columns that the last one of a table keeps on a terminal, however narrow that is."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be, two spaces apart. Nothing is cut, but the last column on a terminal."""
    lines = [tuple(head), *(tuple("-" if cell in (None, "") else printable(str(cell)) for cell in row) for row in rows)]
    last = len(head) - 1
    widths = [max(terminal.width(line[column]) for line in lines) for column in range(len(head))]
    room = terminal.columns()
    if room is not None:
        left = max(LEAST, room - sum(each + 2 for each in widths[:last]))
        lines = [(*line[:last], terminal.fit(line[last], left)) for line in lines]
    return "\n".join(_line(head, line, widths, colour=number > 0) for number, line in enumerate(lines))


def _line(head: Sequence[str], cells: Sequence[str], widths: Sequence[int], *, colour: bool) -> str:
    parts = []
    for name, cell, width in zip(head, cells, widths, strict=True):
        shade = terminal.STATES.get(cell, "") if colour and name == "STATE" else "" if colour else terminal.BOLD
        parts.append((cell, shade, " " * (width - terminal.width(cell))))
    # Spaces at the end of a line are of no use, also behind a colour.
    while len(parts) > 1 and not parts[-1][0]:
        parts.pop()
    text = "".join(f"{terminal.paint(cell, shade)}{space}  " for cell, shade, space in parts[:-1])
    return (text + terminal.paint(parts[-1][0], parts[-1][1])).rstrip()


def printable(text: str) -> str:
    """One line without control characters: what a server says must not steer, or forge, what a terminal shows."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def json_text(value: object) -> str:
    """JSON as all verbs print it: for scripts, but people read it too."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def duration(seconds: float) -> str:
    """`3d 4h`, `12m 5s`: the two largest units."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
