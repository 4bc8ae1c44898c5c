"""`mcpctl status`: how mcpd does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.cli.table import duration

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "say how mcpd does"


def arguments(parser: ArgumentParser) -> None:
    """This verb has none of its own."""


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    return client.get("/v1/status")


def show(answer: Body, options: Namespace) -> None:
    """A line for each thing worth knowing."""
    lines = [
        ("mcpd", f"{answer['version']}, pid {answer['pid']}, up {duration(answer['uptime'])}"),
        ("servers", answer["status"]),
        ("clients", f"{answer['sessions']} sessions, {answer['calls_in_flight']} calls in flight"),
        ("configuration", answer["configuration"]),
    ]
    last = answer["last_reload"]
    if last is not None:
        ago = duration(max(0.0, answer["time"] - last["at"]))
        lines.append(("last reload", f"{ago} ago" + ("" if last["ok"] else ", failed: nothing was changed")))
        lines += [("", fault) for fault in last["errors"]]
    if answer["needs_restart"]:
        lines.append(("restart", f"needed for {', '.join(answer['needs_restart'])}"))
    if answer["draining"]:
        lines.append(("draining", ", ".join(answer["draining"])))
    lines += [("problem", problem) for problem in answer["problems"]]
    lines += [
        ("conflict", f"{each['name']}: {each['file']}:{each['line']} wins over what was added: mcpctl config diff")
        for each in answer["conflicts"]
    ]
    for label, text in lines:
        print(f"{label:15}{text}")
