"""`mcpctl show NAME`: everything about one server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mcpd.cli.table import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "say everything about one server"

FIRST: Final = ("name", "state", "asleep", "error")
"""What is read first."""


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("name", metavar="NAME", help="the server")


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.get(f"/v1/servers/{quote(options.name, safe='')}")


def show(answer: Body, options: Namespace) -> None:
    """A line for each thing that is known."""
    about: Body = {key: answer[key] for key in FIRST if key in answer}
    for label, value in lines({**about, **answer}):
        print(f"{label:23} {printable(value)}".rstrip())


def lines(about: Body, prefix: str = "") -> list[tuple[str, str]]:
    """What is in an object, and in the objects in it, as label and text; without what there is none of."""
    found: list[tuple[str, str]] = []
    for key, value in about.items():
        label = prefix + key.replace("_", " ")
        if isinstance(value, dict):
            found += lines(value, f"{label} ")
        elif isinstance(value, list):
            texts = [each if isinstance(each, str) else " ".join(text for _, text in lines(each)) for each in value]
            found += [(label if not number else "", text) for number, text in enumerate(texts)]
        elif value not in (None, ""):
            found.append((label, _said(value)))
    return found


def _said(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
