"""`mcpctl disable NAME`: a server does not run, and clients do not see it, whatever its definition says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.changing import place, reached
from mcpd.cli.switching import add_name

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "switch a server off, for good"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    add_name(parser)


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.post(place(options.name, "disable"))


def show(answer: Body, options: Namespace) -> None:
    """The state that was reached."""
    print("\n".join(reached(answer)))
