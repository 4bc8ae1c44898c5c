"""`mcpctl top`: how busy each server is, looked at again and again."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from mcpd.cli import statuses
from mcpd.cli.table import json_text, table
from mcpd.control.client import Unreachable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from mcpd.control.client import Body, Client

SUMMARY: Final = "watch how busy the servers are; q ends it"

HEAD: Final = ("SERVER", "STATE", "CALLS/S", "IN FLIGHT", "P50 MS", "P95 MS", "FAILED", "PROCS", "MEMORY", "CPU %")

EVERY: Final = 2.0

ENTER: Final = "\x1b[?1049h\x1b[?25l"
LEAVE: Final = "\x1b[?25h\x1b[?1049l"
"""The terminal's other screen, without a cursor, and back (xterm's control sequences, which all have)."""
HOME: Final = "\x1b[H"
REST: Final = "\x1b[K"
BELOW: Final = "\x1b[J"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("--every", type=float, default=EVERY, metavar="SECONDS", help=f"look so often ({EVERY:g} s)")
    parser.add_argument("--once", action="store_true", help="look once, as where the output is no terminal")


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    if options.json:
        print(json_text(client.get("/v1/load")))
        return statuses.OK
    if options.once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        print(picture(client.get("/v1/load"), None))
        return statuses.OK
    before = client.get("/v1/load")  # what is wrong from the start is said on the screen where it stays
    with _screen():
        shown: Body | None = None
        while True:
            _draw(picture(before, shown))
            if _wait(max(0.1, options.every)):
                return statuses.OK
            try:
                shown, before = before, client.get("/v1/load")
            except Unreachable as error:
                _draw(f"{error}; waiting for it")


def picture(load: Body, before: Body | None) -> str:
    """One look, compared with the one before, if there was one."""
    earlier = {each["name"]: each for each in before["servers"]} if before is not None else {}
    elapsed = load["time"] - before["time"] if before is not None else 0.0
    rows = [_row(each, earlier.get(each["name"]), elapsed) for each in load["servers"]]
    total = sum(each["calls"]["rate"] for each in load["servers"])
    clock = time.strftime("%H:%M:%S", time.localtime(load["time"]))
    head = f"{clock}  {total:g} calls/s, {load['calls_in_flight']} in flight, {load['sessions']} sessions"
    return f"{head}\n\n{table(HEAD, rows) if rows else 'no servers'}"


def _row(server: dict[str, Any], before: dict[str, Any] | None, elapsed: float) -> tuple[object, ...]:
    calls, usage = server["calls"], server["usage"]
    cpu = None
    if before is not None and elapsed > 0 and usage["processes"]:
        cpu = f"{max(0.0, usage['cpu'] - before['usage']['cpu']) / elapsed * 100:.0f}"
    return (
        server["name"],
        "asleep" if server.get("asleep") else server["state"],
        f"{calls['rate']:g}",
        server.get("calls_in_flight"),
        calls["p50_ms"],
        calls["p95_ms"],
        f"{calls['failed'] * 100:.0f}%" if calls["rate"] else None,
        usage["processes"] or None,
        _bytes(usage["memory"]) if usage["processes"] else None,
        cpu,
    )


def _bytes(count: int) -> str:
    return f"{count / (1 << 20):.1f}M" if count < 1 << 30 else f"{count / (1 << 30):.1f}G"


def _draw(text: str) -> None:
    """Over what was there, cut to the size that the terminal has now: nothing flickers, and nothing scrolls."""
    size = shutil.get_terminal_size()
    lines = [line[: size.columns] for line in text.split("\n")][: size.lines - 1]
    sys.stdout.write(HOME + "".join(f"{line}{REST}\r\n" for line in lines) + BELOW)
    sys.stdout.flush()


def _wait(seconds: float) -> bool:
    """Whether somebody pressed q meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0]:
            keys = os.read(sys.stdin.fileno(), 64)
            if not keys or b"q" in keys.lower():
                return True
    return False


@contextmanager
def _screen() -> Iterator[None]:
    """The other screen, with keys that come at once; whatever happens, the terminal is as before afterwards."""

    fd = sys.stdin.fileno()
    modes = termios.tcgetattr(fd)
    sys.stdout.write(ENTER)
    try:
        tty.setcbreak(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, modes)
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
