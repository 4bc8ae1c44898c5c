"""The official suites as installed programs: which versions, which runs, what each run must give."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import trio

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
    """One run: which suite with which arguments, and how many checks must pass. None may fail."""

    suite: str
    arguments: tuple[str, ...]
    expected: int


RUNS: dict[str, Run] = {
    "0.1.16-all": Run(OLDER, ("--suite", "all"), 44),
    "req-2025-11-25": Run(NEWER, ("--requirements", "2025-11-25"), 84),
    "2025-06-18": Run(NEWER, ("--suite", "all", "--spec-version", "2025-06-18"), 56),
    "2025-03-26": Run(NEWER, ("--suite", "all", "--spec-version", "2025-03-26"), 3),
}


@dataclass(slots=True)
class Outcome:
    """What a run gave. `remarks` has a line for every check that failed or warned."""

    run: str
    backend: str
    expected: int
    counts: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    status: int | None = None
    """Exit status of the suite; None when it took too long."""

    @property
    def good(self) -> bool:
        return self.status == 0 and self.counts["FAILURE"] == 0 and self.counts["SUCCESS"] == self.expected


async def install(home: Path) -> None:
    """Installs what is missing, once. Raises: SetupError."""
    for folder, package in PACKAGES.items():
        if (home / folder / "node_modules").is_dir():
            continue
        npm = shutil.which("npm")
        if npm is None:
            raise SetupError(f"npm is needed to install {package}; install Node.js, or set CONFORMANCE_HOME")
        print(f"installing {package} into {home / folder}", flush=True)
        (home / folder).mkdir(parents=True, exist_ok=True)
        (home / folder / "package.json").write_text(json.dumps({"name": folder, "private": True}))
        command = [npm, "install", "--no-audit", "--no-fund", "--silent", package]
        with trio.move_on_after(INSTALL_LIMIT) as scope:
            done = await trio.run_process(
                command, cwd=home / folder, check=False, capture_stdout=True, stderr=subprocess.STDOUT
            )
        if scope.cancelled_caught or done.returncode:
            shutil.rmtree(home / folder, ignore_errors=True)
            reason = (
                "took too long" if scope.cancelled_caught else done.stdout.decode(errors="replace")[-2000:]
            )
            raise SetupError(f"npm install {package}: {reason}")


async def execute(name: str, backend: str, url: str, home: Path, output: Path) -> Outcome:
    """One run against a URL; everything it writes goes to `output`."""
    run = RUNS[name]
    outcome = Outcome(name, backend, run.expected)
    output.mkdir(parents=True)
    node = home / "node22" / "node_modules" / "node" / "bin"
    script = home / run.suite / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    command = [str(node / "node"), str(script), "server", *run.arguments, "--url", url, "-o", str(output)]
    environment = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', '')}"}
    with trio.move_on_after(RUN_LIMIT):
        done = await trio.run_process(
            command, check=False, capture_stdout=True, stderr=subprocess.STDOUT, env=environment
        )
        outcome.status = done.returncode
        (output / "log.txt").write_bytes(done.stdout)
    for file in sorted(output.rglob("checks.json")):
        for check in json.loads(file.read_text()):
            outcome.counts[check["status"]] += 1
            if check["status"] in ("FAILURE", "WARNING"):
                detail = (check.get("errorMessage") or "")[:200]
                outcome.remarks.append(
                    f"{check['status']} {file.parent.name.rpartition('-2')[0]} {check['id']} {detail}"
                )
    return outcome
