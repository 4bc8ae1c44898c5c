"""The official suites as installed programs: which versions, which runs, how their checks are counted.

The suites' own summaries leave warnings out and say nothing of the single checks, so every `checks.json` that they
write is read instead.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import trio

from tests.packages import NodePackages, install_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NODE, NEWER, OLDER = "node22", "alpha12", "v0116"
PACKAGES = {
    NODE: "node@22",
    NEWER: "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    OLDER: "@modelcontextprotocol/conformance@0.1.16",
}
"""Folder → npm package. Both suites need Node 22, which comes as a package of its own."""
RUN_LIMIT = 300.0
"""Seconds of one run; they take two to twenty, and a server that never answers costs thirty for each scenario."""
REMARKABLE = ("FAILURE", "WARNING")
STARTED = re.compile(r"-\d{4}-\d\d-\d\dT[\d-]+Z$")
"""What a suite puts after a scenario's name to make a folder of it."""
DETAIL = 300
"""Characters of a failed check's explanation that are shown; the whole of it is in the results."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run against a server: which suite with which arguments, and the era that its client speaks."""

    suite: str
    arguments: tuple[str, ...]
    era: str


RUNS: dict[str, Run] = {
    "0.1.16-all": Run(OLDER, ("--suite", "all"), "legacy"),
    "req-2025-11-25": Run(NEWER, ("--requirements", "2025-11-25"), "legacy"),
    "2025-06-18": Run(NEWER, ("--suite", "all", "--spec-version", "2025-06-18"), "legacy"),
    "2025-03-26": Run(NEWER, ("--suite", "all", "--spec-version", "2025-03-26"), "legacy"),
    "req-2026-07-28": Run(NEWER, ("--requirements", "2026-07-28"), "modern"),
}


@dataclass(slots=True)
class Outcome:
    """What a run gave."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """Scenario → checks by status: SUCCESS, FAILURE, WARNING, SKIPPED, INFO."""
    remarks: dict[str, str] = field(default_factory=dict)
    """`FAILURE scenario:check` or `WARNING scenario:check` → what the suite says of it."""
    status: int | None = None
    """Exit status of the suite: 0, or 1 when checks failed; None when it took too long."""


class Suites:
    """The suites in a folder, which may be one that the suites' users share (`CONFORMANCE_HOME`)."""

    def __init__(self, home: Path) -> None:
        self._sets = {folder: NodePackages(home / folder, (package,)) for folder, package in PACKAGES.items()}

    async def install(self) -> None:
        """Installs what is missing. Raises: SetupError."""
        await install_all(self._sets.values())

    async def run_server(self, run: Run, url: str, output: Path) -> Outcome:
        """One run against the server at a URL; everything it writes goes to `output`."""
        return await self._run(run.suite, ["server", *run.arguments, "--url", url], output)

    async def run_client(self, scenario: str, version: str, command: str, done: str, output: Path) -> Outcome:
        """One scenario for a client, which the suite starts: a shell gets `command` and the mock server's URL.

        A client that does not print `done` has failed, whatever the suite says.
        """
        arguments = ["client", "--scenario", scenario, "--spec-version", version, "--command", command]
        outcome = await self._run(NEWER, arguments, output)
        if done not in printed(output, "stdout.txt"):
            outcome.remarks[f"FAILURE {scenario}:client"] = printed(output, "stderr.txt")[-DETAIL:]
        return outcome

    async def _run(self, suite: str, arguments: Sequence[str], output: Path) -> Outcome:
        outcome = Outcome()
        node = self._sets[NODE].file("node/bin")
        script = self._sets[suite].file("@modelcontextprotocol/conformance/dist/index.js")
        argv = [f"{node}/node", script, *arguments, "-o", str(output)]
        environment = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', '')}"}
        with open_log(output) as log, trio.move_on_after(RUN_LIMIT):
            done = await trio.run_process(argv, check=False, stdout=log, stderr=subprocess.STDOUT, env=environment)
            outcome.status = done.returncode
        count_checks(outcome, output)
        return outcome


def open_log(output: Path) -> BinaryIO:
    """The file for what a suite prints, in a folder made for it."""
    output.mkdir(parents=True, exist_ok=True)
    return (output / "log.txt").open("wb")


def printed(output: Path, name: str) -> str:
    """What the client wrote, as the suite keeps it, in one line."""
    return " ".join(word for file in output.rglob(name) for word in file.read_text(errors="replace").split())


def count_checks(outcome: Outcome, output: Path) -> None:
    """Adds what every checks.json below `output` says."""
    for file in sorted(output.rglob("checks.json")):
        scenario = STARTED.sub("", file.parent.name.removeprefix("server-"))
        counts = outcome.counts.setdefault(scenario, Counter())
        for check in json.loads(file.read_text()):
            status = check["status"]
            counts[status] += 1
            if status in REMARKABLE:
                said = check.get("errorMessage") or check.get("description") or ""
                outcome.remarks[f"{status} {scenario}:{check['id']}"] = " ".join(said.split())[:DETAIL]
