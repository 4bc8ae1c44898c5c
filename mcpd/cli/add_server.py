"""`mcpctl add-server NAME -- COMMAND …` or `--url URL`: a server more, from now on and after every restart."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from mcpd.cli import statuses
from mcpd.cli.changing import reached

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "add a server, for good"

COMMAND_BEHIND: Final = True
"""What is behind `--` is a command, and no option of ours."""

SAME: Final = ("prefix", "instances", "transport", "description", "start", "cwd")
"""Options that are keys of the configuration."""


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.usage = (
        "mcpctl add-server NAME [OPTION ...] -- COMMAND [ARGUMENT ...]\n"
        "       mcpctl add-server NAME [OPTION ...] --url URL"
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="what it is called, and its names begin with")
    add("words", nargs="*", help=argparse.SUPPRESS)  # what was meant as a command is told so
    add("--url", metavar="URL", help="where a remote server is")
    add("--env", action="append", metavar="K=V", help="a variable; K alone takes the value that it has here")
    add("--header", action="append", metavar="K=V", help="a header that is sent to the url")
    add("--prefix", metavar="TEXT", help="what its names begin with, instead of NAME_")
    add("--instances", metavar="HOW", help="shared, leased, per-session or per-principal")
    add("--transport", metavar="KIND", help="of a url: streamable-http, sse, websocket or auto")
    add("--cwd", metavar="DIR", help="where the command runs")
    add("--description", metavar="TEXT", help="for people")
    add("--start", metavar="WHEN", help="eager, or lazy: by the first call")
    add("--disabled", action="store_true", help="do not start it: mcpctl enable NAME does")
    add("--replace", action="store_true", help="instead of the one that was added under this name before")


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    query = {"replace": "1"} if options.replace else None
    return client.post("/v1/servers", query, {"mcpServers": {options.name: table(options)}})


def show(answer: Body, options: Namespace) -> None:
    """The state that was reached, and why not a better one."""
    print("\n".join(reached(answer)))


def table(options: Namespace) -> dict[str, Any]:
    """The server as a configuration file has it. Ends mcpctl when the command line gives none."""
    made: dict[str, Any] = {}
    command = options.command
    if options.words:
        _wrong(f"'{options.words[0]}' is no option; put the command behind '--'")
    if options.url is not None:
        if command:
            _wrong("a url and a command: give one of them")
        made["url"] = options.url
    elif command:
        first = command[0]
        # `./server` is where whoever types it is, not where mcpd was started.
        made["command"] = os.path.abspath(first) if os.sep in first else first
        if len(command) > 1:
            made["args"] = command[1:]
    else:
        _wrong("what is it? Give a command behind '--', or --url URL")
    if options.env:
        made["env"] = dict(_variable(each) for each in options.env)
    if options.header:
        made["headers"] = dict(_pair(each, "--header") for each in options.header)
    made |= {key: value for key in SAME if (value := getattr(options, key)) is not None}
    if options.cwd is not None:
        made["cwd"] = os.path.abspath(options.cwd)
    if options.disabled:
        made["enabled"] = False
    return made


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        _wrong(f"--env {name}: there is no such variable here; write {name}=VALUE")
    # As it is: what is looked up again by mcpd would be its own variables.
    return name, os.environ[name].replace("$", "$$")


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        _wrong(f"{option} {text}: write it as NAME=VALUE")
    return name, value


def _wrong(reason: str) -> NoReturn:
    print(f"mcpctl add-server: {reason}", file=sys.stderr)
    sys.exit(statuses.USAGE)
