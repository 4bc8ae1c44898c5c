"""`mcpctl start NAME`: have a server run now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.switching import add_name, outcome, switch

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "start a server now, also one that waits to be tried again"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    add_name(parser)


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return switch(client, options.name, "start")


def show(answer: Body, options: Namespace) -> None:
    """The state that was reached."""
    print(outcome(answer))
