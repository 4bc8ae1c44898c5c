"""Real clients through mcpd to real servers: runs every check of every client on every transport.

    python -m tests.interop.run                                    everything
    python -m tests.interop.run --client typescript-1 --transport sse --check cancel

One mcpd over HTTP serves the clients of /mcp and /sse one after the other; on stdio each starts its own. A column says
which version the client and mcpd agreed on; a line below the matrix, in which versions mcpd reached the servers.
Needs npm, git and, for the first run, the package registries; installs into .cache/interop of the checkout.
Exit status: 0 when every check passes, 1 otherwise, 2 when nothing could be run.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # Started by its path, from whatever directory: make `tests` importable.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import trio

from tests.fixtures.peer import start_daemon
from tests.interop.checks import CHECKS, left_out
from tests.interop.client import ClientFailure, ProgramClient
from tests.interop.kinds import KINDS, TRANSPORTS
from tests.interop.matrix import Column, render
from tests.interop.packages import HOME, SERVERS
from tests.interop.place import SECRET, Place, serve_page
from tests.interop.visit import Visit
from tests.packages import SetupError, install_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fixtures.peer import JSON, Running

LEAVE = "leave"
"""The last row: the client ends well, and leaves nothing behind."""
CHECK_LIMIT = 90.0
"""Seconds of one check. The longest of the Inspector starts mcpd and nine servers seven times."""
RUN_LIMIT = 1500.0
"""Seconds of all. A run takes about five minutes, most of them for the starts of the Inspector's mcpds."""
REACHED = re.compile(r"backend=(\S+) event=ready version=(\S+)")
"""How mcpd's log tells of a server that it has reached."""
TROUBLE = ("Traceback", "internal_error")
"""Words in mcpd's log that are never right."""
GONE_LIMIT = 15.0
"""Seconds until what a client leaves behind must be gone: mcpd gives a child five to end by itself."""
LOOK_AGAIN = 0.05


class Station:
    """Where clients find mcpd: its place, and the daemon, if one runs there."""

    def __init__(self, place: Place, daemon: Running | None) -> None:
        self.place = place
        self.daemon = daemon

    def target(self, transport: str, tag: str) -> JSON:
        """What the client program of a visit is told."""
        base = self.daemon.base if self.daemon is not None else ""
        return {
            "transport": transport,
            "url": f"{base}/{'sse' if transport == 'sse' else 'mcp'}",
            "command": self.place.command(),
            "alone": self.place.commands(),
            "env": {SECRET: "not for servers"},
            "root": self.place.root(tag),
        }

    async def ask(self, path: str) -> JSON:
        """One of the management routes."""
        assert self.daemon is not None
        return json.loads(await trio.to_thread.run_sync(read, f"{self.daemon.base}{path}"))

    async def reached(self) -> dict[str, str]:
        """Server → the version in which mcpd has reached it: from /servers, or on stdio from the log."""
        if self.daemon is None:
            return dict(REACHED.findall(self.log))
        servers = (await self.ask("/servers"))["servers"]
        return {server["name"]: server["protocol_version"] for server in servers}

    @property
    def log(self) -> str:
        """Of mcpd, or of the ones that were started here so far."""
        if self.daemon is not None:
            return self.daemon.stderr
        return self.place.log.read_text(errors="replace") if self.place.log.exists() else ""


def read(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=GONE_LIMIT) as answer:
        return answer.read()


async def visit_all(name: str, transport: str, station: Station, wanted: Sequence[str]) -> Column:
    """One column: all checks in one session (the Inspector has one for each request), then leaving."""
    kind = KINDS[name]
    column = Column(name, transport, version=kind.version)
    began = trio.current_time()
    tag = f"{name}_{transport}".replace("-", "_")
    before = await station.ask("/health") if station.daemon is not None else {}
    logged = len(station.log)
    try:
        async with kind.connect(station.target(transport, tag)) as client:
            lasting = isinstance(client, ProgramClient) or station.daemon is not None
            visit = Visit(name, client, station.place, tag, lasting, column.version, station.reached)
            column.remarks = client.remarks
            for check in wanted:
                if reason := left_out(name, column.version, check):
                    column.left_out[check] = reason
                    continue
                await attempt(column, check, visit)
            column.reached = await station.reached()
            if isinstance(client, ProgramClient):
                await client.leave()
        if left := await left_behind(station, before, inspector_over_http(name, transport)):
            raise ClientFailure(left)
        column.passed.add(LEAVE)
    except ClientFailure as failure:
        reached = column.passed or column.failures
        column.failures[LEAVE if reached else wanted[0]] = str(failure)
    if trouble := [line for line in station.log[logged:].splitlines() if any(word in line for word in TROUBLE)]:
        column.failures["log"] = f"mcpd's log has {trouble[0]}"
    column.seconds = trio.current_time() - began
    return column


async def attempt(column: Column, check: str, visit: Visit) -> None:
    """One check, in bounded time; what it found goes into the column."""
    try:
        with trio.fail_after(CHECK_LIMIT):
            await CHECKS[check](visit)
    except ClientFailure as failure:
        column.failures[check] = str(failure)
    except trio.TooSlowError:
        column.failures[check] = f"not done after {CHECK_LIMIT:g} s"
    except (
        LookupError,
        TypeError,
        ValueError,
    ) as surprise:  # The answer has another shape than it must have.
        column.failures[check] = f"{type(surprise).__name__}: {surprise}"
    else:
        column.passed.add(check)


def inspector_over_http(name: str, transport: str) -> bool:
    """The one client that does not end its sessions: it leaves them for mcpd to forget."""
    return name == "inspector" and transport == "http"


async def left_behind(station: Station, before: JSON, sessions_stay: bool) -> str:
    """What is still there long after a client left; empty when nothing is."""
    left = ""
    with trio.move_on_after(GONE_LIMIT):
        while True:
            if station.daemon is None:
                left = "; ".join(f"process {pid}: {argv}" for pid, argv in station.place.processes().items())
            else:
                now = await station.ask("/health")
                sessions = 0 if sessions_stay else now["sessions"] - before["sessions"]
                left = "" if sessions <= 0 else f"{sessions} sessions more than before"
                if now["calls_in_flight"]:
                    left += f" {now['calls_in_flight']} calls in flight"
            if not left:
                return ""
            await trio.sleep(LOOK_AGAIN)
    return f"left behind: {left.strip()}"


async def run_http(options: argparse.Namespace, folder: Path, page_url: str) -> list[Column]:
    """The columns of /mcp and /sse, all against one daemon, which must end without a trace."""
    transports = [transport for transport in options.transport if transport != "stdio"]
    if not transports:
        return []
    place = Place(folder, page_url)
    place.prepare()
    columns = []
    extra = ("--log-level", "info")
    async with start_daemon(place.config.read_text(), extra=extra, env={SECRET: "not for servers"}) as daemon:
        station = Station(place, daemon)
        for name in options.client:
            for transport in (each for each in transports if each in KINDS[name].transports):
                columns.append(await visit_all(name, transport, station, options.check))
                report(columns[-1])
    (HOME / "mcpd-http.log").write_bytes(daemon.errors)
    if left := await left_behind(Station(place, None), {}, False):
        columns[-1].failures["daemon"] = left
    place.kill_processes()
    return columns


async def run_stdio(options: argparse.Namespace, folder: Path, page_url: str) -> list[Column]:
    """The columns of stdio: each client, and each request of the Inspector, starts an mcpd of its own."""
    if "stdio" not in options.transport:
        return []
    place = Place(folder, page_url)
    place.prepare()
    columns = []
    for name in options.client:
        try:
            columns.append(await visit_all(name, "stdio", Station(place, None), options.check))
        finally:
            place.kill_processes()
        report(columns[-1])
    (HOME / "mcpd-stdio.log").write_text(Station(place, None).log)
    return columns


def report(column: Column) -> None:
    """A word while the run goes on."""
    outcome = f"{len(column.failures)} failed" if column.failures else "ok"
    print(f"{column.title}: {outcome} ({column.seconds:.1f} s)", file=sys.stderr, flush=True)


async def main(options: argparse.Namespace) -> int:
    try:
        await install_all({*SERVERS, *(KINDS[name].packages for name in options.client)})
        with (
            trio.fail_after(RUN_LIMIT),
            tempfile.TemporaryDirectory(prefix="mcpd-interop-") as directory,
            serve_page() as page_url,
        ):
            folder = Path(directory)
            columns = await run_http(options, folder / "http", page_url)
            columns += await run_stdio(options, folder / "stdio", page_url)
    except SetupError as error:
        print(f"interop: {error}", file=sys.stderr)
        return 2
    except trio.TooSlowError:
        print(f"interop: not done after {RUN_LIMIT:g} s", file=sys.stderr)
        return 1
    columns.sort(key=lambda column: options.client.index(column.client))
    print(render(columns, [*CHECKS, LEAVE, "log", "daemon"]))
    failed = sum(len(column.failures) for column in columns)
    passed = sum(len(column.passed) for column in columns)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", action="append", choices=KINDS, help="this one only; may be repeated")
    parser.add_argument("--transport", action="append", choices=TRANSPORTS, help="likewise")
    parser.add_argument("--check", action="append", choices=CHECKS, help="likewise")
    options = parser.parse_args(arguments)
    options.client = options.client or list(KINDS)
    options.transport = options.transport or list(TRANSPORTS)
    options.check = options.check or list(CHECKS)
    return options


if __name__ == "__main__":
    sys.exit(trio.run(main, parse()))
