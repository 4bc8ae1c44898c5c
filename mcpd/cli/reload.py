"""`mcpctl reload`: have mcpd read its configuration anew, and wait for the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.planned import show_plan

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "read the configuration anew, and do what differs"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.post("/v1/reload", {"dry_run": "1"} if options.dry_run else None)


def show(answer: Body, options: Namespace) -> None:
    """One line for everything that differs."""
    show_plan(answer)
