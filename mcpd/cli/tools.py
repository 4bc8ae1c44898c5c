"""`mcpctl tools`: all tools under the names that clients see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.listing import add_server, query, show_entries

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "list the tools of all servers, under the names that clients see"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    add_server(parser)


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.get("/v1/tools", query(options.server))


def show(answer: Body, options: Namespace) -> None:
    """A table."""
    show_entries("tool", "name", answer["tools"])
