"""`mcpctl resources`: all resources, and the templates of more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.listing import add_server, query, show_entries

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "list the resources of all servers, and their templates"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    add_server(parser)


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.get("/v1/resources", query(options.server))


def show(answer: Body, options: Namespace) -> None:
    """A table, and one more where there are templates."""
    templates = answer["resource_templates"]
    if answer["resources"] or not templates:
        show_entries("resource", "uri", answer["resources"])
    if templates:
        show_entries("template", "uriTemplate", templates)
