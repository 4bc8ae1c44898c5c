"""Runs the official conformance suites against mcpd in front of one backend, and says whether all is as it must be.

    python -m tests.conformance.run            every front run in front of every backend, and the client suite
    python -m tests.conformance.run --quick    one legacy and one modern run, over HTTP
    python -m tests.conformance.run --direct   the backend itself, without mcpd: shows that the fixture is right
    python -m tests.conformance.run --run req-2026-07-28 --run client
    python -m tests.conformance.run --backend-url http://127.0.0.1:3901/mcp --backend-era legacy
    python -m tests.conformance.run --backend-command "python3 server.py --stdio --era {era}"

A server that is given takes the fixture's place; `{era}` in its command is filled in with legacy, modern and both.
The client suite is graded through mcpd, too: it plays the backend, a client of ours calls what it offers, once as a
legacy and once as a modern client, and the suite looks at what mcpd sends.

The suites are installed by npm into .cache/conformance of the checkout, or found in $CONFORMANCE_HOME. Exit status: 0
when every run gives what it must (`expectations`), 1 otherwise, 2 when nothing could be run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # Started by its path, from whatever directory: make `tests` importable.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import trio

from tests.conformance.backends import ERAS, Case, cases, configuration
from tests.conformance.drive import DONE
from tests.conformance.expectations import CLIENT, Expectation, complaints, expectation, is_known, reason
from tests.conformance.suites import RUNS, Outcome, Suites
from tests.fixtures.peer import ROOT, WAIT, Closed, HttpPeer, PeerError, start_daemon
from tests.packages import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

QUICK = ("req-2025-11-25", "req-2026-07-28")
CLIENT_SUITE = "client"
FRONTS = ("legacy", "modern")
DRIVE = Path(__file__).resolve().parent / "drive.py"
RETRY = 0.05
"""Seconds between two looks whether the backend's tools have arrived."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run and what it gave."""

    run: str
    other: str
    """Who was at the other end."""
    outcome: Outcome
    expected: Expectation

    def line(self) -> str:
        passed, failed, warned = (self.expected.count(self.outcome, s) for s in ("SUCCESS", "FAILURE", "WARNING"))
        numbers = f"{passed:6} {failed:6} {warned:8}"
        return f"{self.run:46} {self.other:13} {numbers}  {'; '.join(self.wrong) or 'ok'}"

    @property
    def wrong(self) -> list[str]:
        return complaints(self.expected, self.outcome)

    def remarks(self) -> Iterator[str]:
        """Every check that failed or warned with what the suite says of it, or with the reason if it is known."""
        for key, said in self.outcome.remarks.items():
            if known := reason(self.expected, key):
                yield f"{key}: known: {known}"
            elif not is_known(self.expected, key):
                yield f"{key}: {said}"
        for scenarios, why in self.expected.apart.items():
            yield f"{scenarios}*: not counted: {why}"


async def wait_warm(url: str, front: str) -> None:
    """Waits until the endpoint lists tools: the suites allow for no cold start."""
    with trio.fail_after(WAIT):
        async with HttpPeer(url) as peer:
            if front == "legacy":
                await peer.initialize()
            while True:
                if await has_tools(peer, front):
                    break
                await trio.sleep(RETRY)
            if front == "legacy":
                await peer.delete()


async def has_tools(peer: HttpPeer, front: str) -> bool:
    if front == "legacy":
        return bool((await peer.request("tools/list", {}))["tools"])
    answer = await peer.modern("tools/list")
    return bool(answer.get("result", {}).get("tools"))


class Runner:
    """Runs what the options ask for; `rows` is the table so far, and each row is printed when it is there."""

    def __init__(self, options: argparse.Namespace, suites: Suites) -> None:
        self._options = options
        self._suites = suites
        self.rows: list[Row] = []

    async def run(self) -> None:
        options = self._options
        wanted = options.run or (QUICK if options.quick else (*RUNS, CLIENT_SUITE))
        for case in cases(options):
            for front in FRONTS:
                runs = [name for name in wanted if name in RUNS and RUNS[name].era == front]
                # Without mcpd nobody translates.
                if runs and (not options.direct or case.era in (front, "both")):
                    await self._run_servers(case, front, runs)
        given = options.direct or options.backend_url or options.backend_command
        if CLIENT_SUITE in wanted and (options.run or not given):
            await self._run_clients()

    async def _run_servers(self, case: Case, front: str, runs: Sequence[str]) -> None:
        """The runs of one era against one backend. What cannot even be started is a row, too."""
        before = len(self.rows)
        try:
            await self._serve_and_run(case, front, runs)
        except* (RuntimeError, OSError, trio.TooSlowError, PeerError, Closed) as errors:
            for name in runs[len(self.rows) - before :]:
                self._add(name, case, Outcome(remarks={"FAILURE start": first(errors)}))

    async def _serve_and_run(self, case: Case, front: str, runs: Sequence[str]) -> None:
        options = self._options
        async with AsyncExitStack() as stack:
            entry = await stack.enter_async_context(case.entry())
            url = entry.get("url", "")
            if not options.direct:
                config = configuration(entry, front, case.era)
                url = (await stack.enter_async_context(start_daemon(config))).url
            await wait_warm(url, front)
            for name in runs:
                output = options.output / f"{name}-{case.era}-{case.transport}"
                self._add(name, case, await self._suites.run_server(RUNS[name], url, output))

    async def _run_clients(self) -> None:
        """Every scenario of the client suite, through a client of each era."""
        for (scenario, version), passed in CLIENT.items():
            for front in FRONTS:
                name = f"{scenario} {version}"
                command = shlex.join([sys.executable, str(DRIVE), "--front", front])
                output = self._options.output / CLIENT_SUITE / name.replace(" ", "-") / front
                outcome = await self._suites.run_client(scenario, version, command, DONE, output)
                self._show(Row(name, f"{front} client", outcome, Expectation(passed)))

    def _add(self, run: str, case: Case, outcome: Outcome) -> None:
        expected = expectation(run, case.era, self._options.direct)
        self._show(Row(run, f"{case.era} {case.transport}", outcome, expected))

    def _show(self, row: Row) -> None:
        self.rows.append(row)
        print(row.line(), flush=True)


def first(errors: BaseExceptionGroup[BaseException]) -> str:
    """What went wrong first, out of groups in groups."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def main(options: argparse.Namespace) -> int:
    suites = Suites(options.home)
    try:
        await suites.install()
    except SetupError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    shutil.rmtree(options.output, ignore_errors=True)
    print(f"{'run':46} {'other end':13} {'passed':>6} {'failed':>6} {'warnings':>8}")
    runner = Runner(options, suites)
    await runner.run()
    where: dict[str, list[str]] = {}
    for row in runner.rows:
        for remark in row.remarks():
            where.setdefault(remark, []).append(f"{row.run} {row.other}")
    for remark, runs in where.items():
        print(f"  {remark} ({', '.join(runs)})")
    good = bool(runner.rows) and not any(row.wrong for row in runner.rows)
    print("all as it must be" if good else f"not as it must be; details are in {options.output}")
    return 0 if good else 1


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    cache = ROOT / ".cache" / "conformance"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one legacy and one modern run over HTTP only")
    parser.add_argument("--direct", action="store_true", help="test the backend (given by URL, or the fixture) itself")
    parser.add_argument("--backend-url", default="", help="another backend, by its Streamable HTTP endpoint")
    parser.add_argument("--backend-command", default="", help="another backend, as a command line for stdio")
    parser.add_argument("--backend-era", choices=ERAS, default="both", help="what the given backend speaks")
    parser.add_argument("--run", action="append", choices=[*RUNS, CLIENT_SUITE], help="this only; may be repeated")
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
