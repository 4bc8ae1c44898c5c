"""Runs the official conformance suites against mcpd in front of one backend, and says whether all is as it
must be.

    python -m tests.conformance.run               every run, backend over HTTP, then over stdio
    python -m tests.conformance.run --quick       the one run that matters most, over HTTP
    python -m tests.conformance.run --direct      the backend itself, without mcpd: shows that the fixture is
    right python -m tests.conformance.run --backend-url http://127.0.0.1:3901/mcp
    python -m tests.conformance.run --backend-command "python3 server.py --stdio"

The suites are installed by npm into .cache/conformance of the checkout, or found in $CONFORMANCE_HOME. Exit
status: 0 when every run passes its number of checks and none fails, 1 otherwise, 2 when nothing could be run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # Started by its path, from whatever directory: make `tests` importable.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import trio

from tests.conformance.suites import RUNS, Outcome, SetupError, execute, install
from tests.fixtures.peer import JSON, ROOT, WAIT, HttpPeer, fixture_command, start_daemon, start_fixture

if TYPE_CHECKING:
    from collections.abc import Sequence

QUICK = ("req-2025-11-25",)
POLL_AFTER = 0.1
"""Seconds after which mcpd ends the stream of a running call, so that the client polls. A backend on HTTP
ends its own; a pipe cannot, so without this the suite's polling scenario has nothing to see."""
RETRY = 0.05
"""Seconds between two looks whether the backend's tools have arrived."""


def backends(options: argparse.Namespace) -> dict[str, JSON]:
    """Label → mcpd's entry for the backend. An empty entry is our own fixture over HTTP, started first."""
    if options.backend_url:
        return {"url": {"url": options.backend_url}}
    if options.backend_command:
        command, *arguments = shlex.split(options.backend_command)
        return {"command": {"command": command, "args": arguments}}
    if options.quick or options.direct:
        return {"http": {}}
    command, *arguments = fixture_command("everything")
    return {"http": {}, "stdio": {"command": command, "args": arguments}}


async def wait_warm(url: str) -> None:
    """Waits until the endpoint lists tools: the suites allow for no cold start."""
    with trio.fail_after(WAIT):
        async with HttpPeer(url) as peer:
            await peer.initialize()
            while True:
                if (await peer.request("tools/list", {}))["tools"]:
                    break
                await trio.sleep(RETRY)
            await peer.delete()


async def run_backend(label: str, entry: JSON, runs: Sequence[str], options: argparse.Namespace) -> list[Outcome]:
    """All runs against one backend; what was started for them is stopped."""
    async with AsyncExitStack() as stack:
        if not entry:
            entry = {"url": (await stack.enter_async_context(start_fixture("everything"))).url}
        if options.direct:
            url = str(entry["url"])
        else:
            streams = {"poll_after": POLL_AFTER} if "command" in entry else {}
            servers = {"everything": {**entry, "prefix": ""}}
            config = {"listen": {"port": 0}, "streams": streams, "mcpServers": servers}
            daemon = await stack.enter_async_context(start_daemon(config))
            url = daemon.url
        await wait_warm(url)
        outcomes = []
        for name in runs:
            output = options.output / label / name
            outcomes.append(await execute(name, label, url, options.home, output))
            print(row(outcomes[-1]), flush=True)
    return outcomes


def row(outcome: Outcome) -> str:
    """One line of the table."""
    counts = outcome.counts
    verdict = "ok" if outcome.good else f"WRONG: {' or '.join(map(str, outcome.expected))} must pass and 0 fail"
    if outcome.status is None:
        verdict = "WRONG: took too long"
    numbers = f"{counts['SUCCESS']:6} {counts['FAILURE']:6} {counts['WARNING']:8}"
    return f"{outcome.run:16} {outcome.backend:8} {numbers}  {verdict}"


async def main(options: argparse.Namespace) -> int:
    try:
        await install(options.home)
    except SetupError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    shutil.rmtree(options.output, ignore_errors=True)
    runs = options.run or (QUICK if options.quick else tuple(RUNS))
    print(f"{'run':16} {'backend':8} {'passed':>6} {'failed':>6} {'warnings':>8}")
    outcomes: list[Outcome] = []
    for label, entry in backends(options).items():
        outcomes += await run_backend(label, entry, runs, options)
    for outcome in outcomes:
        for remark in outcome.remarks:
            print(f"  {outcome.run} {outcome.backend}: {remark}")
    good = all(outcome.good for outcome in outcomes)
    print("all as it must be" if good else f"not as it must be; details are in {options.output}")
    return 0 if good else 1


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    cache = ROOT / ".cache" / "conformance"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="req-2025-11-25 over HTTP only")
    parser.add_argument("--direct", action="store_true", help="test the backend (given by URL, or the fixture) itself")
    parser.add_argument("--backend-url", default="", help="another backend, by its Streamable HTTP endpoint")
    parser.add_argument("--backend-command", default="", help="another backend, as a command line for stdio")
    parser.add_argument("--run", action="append", choices=RUNS, help="this run only; may be repeated")
    parser.add_argument("--home", type=Path, default=os.environ.get("CONFORMANCE_HOME") or cache)
    parser.add_argument("--output", type=Path, default=cache / "results", help="emptied first")
    options = parser.parse_args(arguments)
    if options.direct and options.backend_command:
        parser.error("the suites speak HTTP only: --direct needs --backend-url")
    if options.backend_url and options.backend_command:
        parser.error("give one backend")
    return options


if __name__ == "__main__":
    sys.exit(trio.run(main, parse()))
