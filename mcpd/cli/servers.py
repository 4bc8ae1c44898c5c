"""`mcpctl servers`: every configured server with its true state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.listing import brief
from mcpd.cli.table import table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "list the servers and their states"

HEAD: Final = ("SERVER", "STATE", "TRANSPORT", "TOOLS", "RESOURCES", "PROMPTS", "CALLS", "RESTARTS", "PID", "ERROR")
KEYS: Final = ("name", "state", "transport", "tools", "resources", "prompts", "calls_in_flight", "restarts", "pid")

ERROR_MAX: Final = 100
"""Characters of an error in the table; all of it is in the JSON."""


def arguments(parser: ArgumentParser) -> None:
    """This verb has none of its own."""


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.get("/v1/servers")


def show(answer: Body, options: Namespace) -> None:
    """A table."""
    # Stopped because nobody needs it is another thing than stopped.
    servers = [{**each, "state": "asleep"} if each.get("asleep") else each for each in answer["servers"]]
    rows = [(*(each.get(key) for key in KEYS), brief(each.get("error", ""), ERROR_MAX)) for each in servers]
    print(table(HEAD, rows) if rows else "no servers")
