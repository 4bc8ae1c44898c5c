"""`mcpctl prompt NAME [NAME=VALUE …]`: get a prompt as a client would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli import content, statuses, typed
from mcpd.cli.asking import ask
from mcpd.cli.table import json_text
from mcpd.control.client import Refused

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Client

SUMMARY: Final = "get a prompt, filled in"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("name", metavar="NAME", help="the prompt's name, as clients see it")
    parser.add_argument("words", metavar="NAME=VALUE", nargs="*", help="an argument; all of them are texts")


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    try:
        given = typed.arguments(options.words, {})
    except typed.Mistyped as wrong:
        remedy = "mcpctl prompts --json has what it takes"
        raise Refused(0, {"code": "invalid_arguments", "message": str(wrong), "remedy": remedy}) from None
    result = ask(client, "prompts/get", {"name": options.name, "arguments": given})
    if options.json:
        print(json_text(result))
        return statuses.OK
    messages = result.get("messages")
    for message in messages if isinstance(messages, list) else ():
        print(f"{message.get('role')}:")
        content.show_blocks([message.get("content") or {}])
    return statuses.OK
