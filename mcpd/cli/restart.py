"""`mcpctl restart NAME`: have another process of a server run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.switching import add_name, outcome, switch

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "stop a server, then start it"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    add_name(parser)


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return switch(client, options.name, "restart")


def show(answer: Body, options: Namespace) -> None:
    """The state that was reached."""
    print(outcome(answer))
