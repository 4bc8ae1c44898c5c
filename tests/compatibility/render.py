"""The document: a table for each theme, with the outcomes of a run, and the notes that the rows refer to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.compatibility.columns import Column
    from tests.compatibility.rows import Row, Theme

INTRODUCTION = """\
# What works between clients and servers of MCP

mcpd stands between clients and servers that need not speak the same version. **L** is *legacy*, the versions with a
handshake (2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25); **M** is *modern*, 2026-07-28. `L→M` is a legacy client that
uses a modern server. A column is one transport on both sides; `sse` is HTTP+SSE, which has no modern version, so the
modern side of those columns is on Streamable HTTP. Where nothing else is said the legacy side speaks 2025-11-25.

Each cell is what came out of a test that ran: a client, mcpd as a process, and a server, all over real transports.

- **yes**: the client gets what it would get without mcpd between, in the form of its own version.
- **—**: there is no such thing between these two; where that can be seen, the test saw it.
- Anything else is what the client gets instead; negative numbers are JSON-RPC error codes. The last column names the
  notes at the end, which say why.

mcpd has its default settings, but for `instances: leased` where modern clients use a legacy server on stdio.

This file is made by `make compatibility`; the test suite fails when it is not what a run gives, or when an outcome is
not one of those written beside the test (`tests/compatibility/`)."""


def render(
    themes: Sequence[Theme],
    columns: Sequence[Column],
    outcomes: Mapping[tuple[Row, Column], str],
    notes: Mapping[str, str],
) -> str:
    """The whole text. Notes are numbered in the order in which the rows come to them."""
    numbers: dict[str, int] = {}
    parts = [INTRODUCTION]
    for theme in themes:
        parts.append(f"## {theme.title}")
        lines = [["", *(column.title for column in columns), "notes"]]
        for row in theme.rows:
            marks = [str(numbers.setdefault(name, len(numbers) + 1)) for name in row.notes]
            lines.append([row.title, *(outcomes[row, column] for column in columns), ", ".join(marks)])
        parts.append(table(lines))
    parts.append("## Notes")
    parts.append("\n".join(f"{number}. {notes[name]}" for name, number in numbers.items()))
    return "\n\n".join(parts) + "\n"


def table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are as wide as they have to be; the first line is its head."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head, *rest = lines

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), line("-" * width for width in widths), *map(line, rest)])
