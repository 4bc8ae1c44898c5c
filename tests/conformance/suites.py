"""The official suites as installed programs: which versions, which runs, what each run must give."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = {
    "node22": "node@22",
    "alpha12": "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "v0116": "@modelcontextprotocol/conformance@0.1.16",
}
"""Folder → npm package. Both suites need Node 22, which comes as a package of its own."""
NEWER, OLDER = "alpha12", "v0116"
RUN_LIMIT = 580.0
"""Seconds of one run; they take two to twenty."""
INSTALL_LIMIT = 600.0


class SetupError(Exception):
    """The suites cannot be installed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: which suite with which arguments. One of `expected` checks must pass, and none fail."""

    suite: str
    arguments: tuple[str, ...]
    expected: tuple[int, ...]


RUNS: dict[str, Run] = {
    # Its polling scenario sends a 2025-03-26 header in a session of 2025-11-25. A server that goes by the
    # header does not prime the stream: two warnings and 44. One that goes by the session primes, is resumed,
    # and has three more.
    "0.1.16-all": Run(OLDER, ("--suite", "all"), (44, 47)),
    "req-2025-11-25": Run(NEWER, ("--requirements", "2025-11-25"), (84,)),
    "2025-06-18": Run(NEWER, ("--suite", "all", "--spec-version", "2025-06-18"), (56,)),
    "2025-03-26": Run(NEWER, ("--suite", "all", "--spec-version", "2025-03-26"), (3,)),
}


@dataclass(slots=True)
class Outcome:
    """What a run gave. `remarks` has a line for every check that failed or warned."""

    run: str
    backend: str
    expected: tuple[int, ...]
    counts: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    status: int | None = None
    """Exit status of the suite; None when it took too long."""

    @property
    def good(self) -> bool:
        return self.status == 0 and self.counts["FAILURE"] == 0 and self.counts["SUCCESS"] in self.expected


async def install(home: Path) -> None:
    """Installs what is missing, once. Raises: SetupError."""
    for folder, package in PACKAGES.items():
        if is_installed(home / folder):
            continue
        npm = shutil.which("npm")
        if npm is None:
            raise SetupError(f"npm is needed to install {package}; install Node.js, or set CONFORMANCE_HOME")
        print(f"installing {package} into {home / folder}", flush=True)
        make_package(home / folder, folder)
        command = [npm, "install", "--no-audit", "--no-fund", "--silent", package]
        with trio.move_on_after(INSTALL_LIMIT) as scope:
            done = await trio.run_process(
                command, cwd=home / folder, check=False, capture_stdout=True, stderr=subprocess.STDOUT
            )
        if scope.cancelled_caught or done.returncode:
            shutil.rmtree(home / folder, ignore_errors=True)
            reason = "took too long" if scope.cancelled_caught else done.stdout.decode(errors="replace")[-2000:]
            raise SetupError(f"npm install {package}: {reason}")


async def execute(name: str, backend: str, url: str, home: Path, output: Path) -> Outcome:
    """One run against a URL; everything it writes goes to `output`."""
    run = RUNS[name]
    outcome = Outcome(name, backend, run.expected)
    node = home / "node22" / "node_modules" / "node" / "bin"
    script = home / run.suite / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    command = [str(node / "node"), str(script), "server", *run.arguments, "--url", url, "-o", str(output)]
    environment = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', '')}"}
    with trio.move_on_after(RUN_LIMIT):
        done = await trio.run_process(
            command, check=False, capture_stdout=True, stderr=subprocess.STDOUT, env=environment
        )
        outcome.status = done.returncode
        write_log(output, done.stdout)
    count_checks(outcome, output)
    return outcome


def is_installed(folder: Path) -> bool:
    return (folder / "node_modules").is_dir()


def count_checks(outcome: Outcome, output: Path) -> None:
    """Reads every checks.json below `output`: the suites' own summaries leave warnings out."""
    for file in sorted(output.rglob("checks.json")):
        scenario = file.parent.name.removeprefix("server-").partition("-20")[0]
        for check in json.loads(file.read_text()):
            status = check["status"]
            outcome.counts[status] += 1
            if status in ("FAILURE", "WARNING"):
                detail = (check.get("errorMessage") or "")[:200]
                outcome.remarks.append(f"{status} {scenario} {check['id']} {detail}")


def write_log(output: Path, text: bytes) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "log.txt").write_bytes(text)


def make_package(folder: Path, name: str) -> None:
    """An empty npm project, so that npm installs here and not into a parent folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text(json.dumps({"name": name, "private": True}))
