"""`mcpctl remove-server NAME`: a server that was added is there no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.changing import place, reached
from mcpd.cli.switching import add_name

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "remove a server that was added"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    add_name(parser)


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.delete(place(options.name))


def show(answer: Body, options: Namespace) -> None:
    """That it is gone; or which one of its name, that a file defines, is still there."""
    print(f"{options.name} is removed" + (" from what was added; a file defines one too" if reached(answer) else ""))
    for line in reached(answer):
        print(line)
    for name in answer["draining"]:
        print(f"{name} finishes its calls")
