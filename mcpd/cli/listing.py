"""Lists of what servers offer, for people: a line for each entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.table import table

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterable

    from mcpd.control.client import Body

BRIEF_MAX: Final = 80
"""Characters of a description in a table; all of it is in the JSON."""


def add_server(parser: ArgumentParser) -> None:
    """The option that makes one server's list of all servers'."""
    parser.add_argument("--server", metavar="NAME", help="only those of this server")


def query(server: str | None) -> dict[str, str] | None:
    """The same, as mcpd is asked."""
    return {"server": server} if server is not None else None


def show_entries(noun: str, key: str, entries: Iterable[Body]) -> None:
    """A table: what it is called, whose it is, and what its server says of it."""
    rows = [(each[key], each["server"], brief(described(each["definition"]))) for each in entries]
    print(table((noun.upper(), "SERVER", "DESCRIPTION"), rows) if rows else f"no {noun}s")


def described(definition: Body) -> str:
    """What a definition says of itself: its description, else its title."""
    texts = (definition.get(name) for name in ("description", "title"))
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")


def brief(text: str, most: int = BRIEF_MAX) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
