"""`mcpctl upgrade`: have mcpd become the code that is installed now, and wait until it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from mcpd.cli.table import duration
from mcpd.control.client import Refused, Unreachable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Body, Client

SUMMARY: Final = "become the code that is installed now, without losing a client or a server"

COME_BACK: Final = 60.0
"""Seconds for the new code to answer. It has shown before that it can, so this is for a machine that is very busy."""

LOOK: Final = 0.05
"""Seconds between two looks whether it does."""


def arguments(parser: ArgumentParser) -> None:
    """This verb has none of its own."""


def ask(client: Client, options: Namespace) -> Body:
    """Raises: Unreachable, Refused."""
    before = client.get("/v1/status")
    began = time.monotonic()
    try:
        client.post("/v1/upgrade")
    except Unreachable as error:
        if not error.parted:
            raise
    after = _come_back(client, before["started"])
    if after["pid"] != before["pid"]:
        raise Refused(
            500, {"code": "restarted", "message": "mcpd ended and was started again", "remedy": "see its log"}
        )
    seconds = round(time.monotonic() - began, 3)
    return {"pid": after["pid"], "from": before["version"], "to": after["version"], "seconds": seconds}


def _come_back(client: Client, started: float) -> Body:
    """The first answer of a program that was started later. Raises: Unreachable."""
    until = time.monotonic() + COME_BACK
    while time.monotonic() < until:
        try:
            status = client.get("/v1/status")
        except Unreachable:
            pass
        else:
            if status["started"] != started:
                return status
        time.sleep(LOOK)  # noqa: TID251 - there is no event loop here
    raise Unreachable(client.path, f"it did not answer within {duration(COME_BACK)} of the upgrade")


def show(answer: Body, options: Namespace) -> None:
    """Which version became which."""
    print(f"mcpd {answer['from']} became {answer['to']} in {answer['seconds']:.1f} s, pid {answer['pid']} as before")
