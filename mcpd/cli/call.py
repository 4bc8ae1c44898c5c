"""`mcpctl call TOOL [NAME=VALUE …]`: call a tool as a client would."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from mcpd.cli import content, statuses, typed
from mcpd.cli.asking import ask, definition
from mcpd.cli.table import json_text
from mcpd.control.client import Refused

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "call a tool, and answer what it asks"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("tool", metavar="TOOL", help="the tool's name, as clients see it")
    parser.add_argument(
        "words", metavar="NAME=VALUE", nargs="*", help="an argument, read as the tool's schema says; or all as JSON"
    )
    parser.add_argument("--arguments", metavar="JSON", help="all arguments as one JSON object; - reads it from stdin")


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    known = definition(client, "tools", options.tool)
    schema = known.get("inputSchema")
    schema = schema if isinstance(schema, dict) else {}
    result = ask(client, "tools/call", {"name": options.tool, "arguments": given(options, schema)}, schema)
    failed = result.get("isError") is True
    if options.json:
        print(json_text(result))
    else:
        blocks = result.get("content")
        content.show_blocks([each for each in blocks if isinstance(each, dict)] if isinstance(blocks, list) else [])
    return statuses.TOOL_FAILED if failed else statuses.OK


def given(options: Namespace, schema: Body) -> Body:
    """The arguments. Raises: Refused."""
    whole, words = options.arguments, options.words
    if whole is None and words and words[0].lstrip().startswith("{"):
        whole, words = words[0], words[1:]  # no name begins so
    try:
        if whole is None:
            return typed.arguments(words, schema)
        if words:
            raise typed.Mistyped("the JSON object has all arguments, beside it there are none")
        found: Any = json.loads(sys.stdin.read() if whole == "-" else whole)
        if not isinstance(found, dict):
            raise typed.Mistyped("all arguments together are a JSON object")
    except typed.Mistyped as wrong:
        raise _wrong(str(wrong), options.tool) from None
    except ValueError as error:
        raise _wrong(f"the arguments are no JSON: {error}", options.tool) from None
    return found


def _wrong(why: str, tool: str) -> Refused:
    remedy = f"mcpctl tools --json has the inputSchema of {tool}"
    return Refused(0, {"code": "invalid_arguments", "message": why, "remedy": remedy})
