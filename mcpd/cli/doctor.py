"""`mcpctl doctor`: what is the matter, and what can be done about it; also where mcpd does not run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from mcpd.cli import statuses, terminal
from mcpd.cli.doctoring import running
from mcpd.cli.doctoring.finding import Finding, Level, error, ok
from mcpd.cli.doctoring.reaching import unreachable
from mcpd.cli.table import json_text, printable
from mcpd.control.client import Refused, Unreachable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Client

SUMMARY: Final = "look for what is the matter, and say what can be done about it"

STATUS_OF: Final = {Level.OK: statuses.OK, Level.WARNING: statuses.ATTENTION, Level.ERROR: statuses.FAILED}
WORDS: Final = {Level.OK: "ok", Level.WARNING: "warning", Level.ERROR: "ERROR"}


def arguments(parser: ArgumentParser) -> None:
    """This verb has none of its own."""


def run(client: Client, options: Namespace) -> int:
    """Look at everything; the exit status is that of the worst finding."""
    found = examine(client)
    worst = max(each.level for each in found)
    if options.json:
        about = {"worst": worst.name.lower(), "findings": [each.describe() for each in found]}
        print(json_text(about))
    else:
        show(found)
    return STATUS_OF[worst]


def examine(client: Client) -> list[Finding]:
    """Every look that can be taken."""
    try:
        status = client.get("/v1/status")
        listed = client.get("/v1/servers")["servers"]
        diagnosis = client.get("/v1/diagnosis")
        different = client.get("/v1/config/diff")
    except Unreachable as problem:
        return unreachable(problem)
    except Refused as refused:
        code = "permission" if refused.code == "not_permitted" else "daemon"
        remedy = refused.remedy or "is mcpd older than mcpctl? 'mcpctl upgrade' makes it the one that is installed"
        return [error(code, str(refused), remedy)]
    return [
        ok("daemon", f"mcpd answers at {client.path}"),
        *running.version(status),
        *running.configuration(status),
        *running.files(different),
        *running.servers(listed),
        *running.names(diagnosis),
        *running.ports(diagnosis),
        *running.state_directory(diagnosis),
        *running.cgroup(diagnosis),
        *running.programs(diagnosis),
        *running.clock(diagnosis, time.time()),
    ]


def show(found: list[Finding]) -> None:
    """What is worst comes last, where a terminal shows it."""
    for each in sorted(found, key=lambda one: one.level):
        first, *more = each.message.splitlines()
        word = terminal.paint(f"{WORDS[each.level]:8}", terminal.STATES[each.level.name.lower()])
        print(f"{word} {each.code:16} {printable(first)}")
        for line in more:
            print(f"{'':25} {printable(line)}")
        if each.remedy:
            print(f"{'':25} → {printable(each.remedy)}")
