"""What `start`, `stop` and `restart` share: one server is asked for, and what became of it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from mcpd.cli import statuses
from mcpd.cli.table import json_text, printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client


def add_name(parser: ArgumentParser) -> None:
    """The server's name."""
    parser.add_argument("name", metavar="NAME", help="the server")


def started(client: Client, options: Namespace, work: str) -> int:
    """Have it started or restarted; the exit status, which is that of a failure unless it came up.

    Raises: Unreachable, Refused."""
    answer = switch(client, options.name, work)
    print(json_text(answer) if options.json else outcome(answer))
    return statuses.OK if answer["state"] == "ready" else statuses.FAILED


def switch(client: Client, name: str, work: str) -> Body:
    """Have it done; returns the server as it is then. Raises: Unreachable, Refused."""
    return client.post(f"/v1/servers/{quote(name, safe='')}/{work}")


def outcome(answer: Body) -> str:
    """The state, and what is the matter where something is."""
    error = f": {printable(answer['error'])}" if "error" in answer else ""
    return f"{answer['name']} is {answer['state']}{error}"
