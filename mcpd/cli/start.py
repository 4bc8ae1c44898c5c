"""`mcpctl start NAME`: have a server run now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.switching import add_name, started

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Client

SUMMARY: Final = "start a server now, also one that waits to be tried again"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    add_name(parser)


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    return started(client, options, "start")
