"""`mcpctl logs`: what servers wrote to stderr, and when they began and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcpd.cli import statuses
from mcpd.cli.following import as_line, clock, follow
from mcpd.cli.table import json_text, printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Client

SUMMARY: Final = "show what servers wrote to stderr, with their starts and ends"

LINES: Final = 100


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("name", nargs="*", metavar="NAME", help="only these servers")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until interrupted")
    parser.add_argument("-n", "--lines", type=int, default=LINES, metavar="N", help=f"the last N lines ({LINES})")


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    query = {"server": ",".join(options.name), "lines": str(options.lines)}
    if options.follow:
        for event in follow(client, "/v1/logs", {**query, "follow": "1"}):
            print(as_line(event) if options.json else shown(event.data), flush=True)
        return statuses.OK
    answer = client.get("/v1/logs", {key: value for key, value in query.items() if value})
    if options.json:
        print(json_text(answer))
        return statuses.OK
    for line in answer["lines"]:
        print(shown(line))
    return statuses.OK


def shown(line: dict[str, Any]) -> str:
    """A line for people. What mcpd says itself stands between dashes: no server can write that unseen, its lines begin
    after the colon.
    """
    text = printable(str(line.get("text", "")))
    pid = f"[{line['pid']}]" if line.get("pid") else ""
    who = f"{printable(str(line.get('server') or 'mcpd'))}{pid}"
    return (
        f"{clock(line.get('at'))} {who}: {text}"
        if line.get("kind") == "line"
        else (f"{clock(line.get('at'))} {who} -- {text} --")
    )
