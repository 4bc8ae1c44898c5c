"""`mcpctl restart NAME`: have another process of a server run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.switching import add_name, started

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Client

SUMMARY: Final = "stop a server, then start it"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    add_name(parser)


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    return started(client, options, "restart")
