"""Packages from npm and PyPI for the suites that run other people's programs: installed once, found again.

Theory of operation. A set of packages has a folder of its own. npm writes down what it put there when it is
done (`node_modules/.package-lock.json`), so a folder is looked up in that, whoever filled it. pip leaves no such
word, so a virtual environment gets a stamp as the last act; a folder without one, or with another, is made anew.

Rules
1. Versions are pinned by whoever names the set: what is tested does not change by itself.
2. A virtual environment is made without pip and filled by the pip of the running interpreter: Debian keeps
   `ensurepip` in a package of its own.
3. Installing blocks, for callers without an event loop; `install_all` is for those with one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

INSTALL_LIMIT = 900.0
"""Seconds of one installation. Eighty packages of a Python framework take a minute on a good day."""
AT_ONCE = 2
"""Installations at the same time: they wait for the network more than they compute."""
OUTPUT_TAIL = 2000
"""Characters of an installer's output in an error: its last lines say what went wrong."""
STAMP = "installed"


class SetupError(Exception):
    """Something that a run needs cannot be had; the message says what, and the remedy."""


class Packages(Protocol):
    """A set of packages in a folder."""

    @property
    def is_installed(self) -> bool:
        """Whether exactly this set is there."""

    def install(self) -> None:
        """Installs it, unless it is there. Blocks. Raises: SetupError."""


@dataclass(frozen=True, slots=True)
class NodePackages:
    """Packages of npm, each as `name@version`; a version may be only the beginning of one (`node@22`)."""

    home: Path
    packages: tuple[str, ...]

    @property
    def is_installed(self) -> bool:
        try:
            written = json.loads((self.home / "node_modules" / ".package-lock.json").read_text())["packages"]
        except (OSError, ValueError, KeyError):
            return False
        return all(has(written, package) for package in self.packages)

    def install(self) -> None:
        if self.is_installed:
            return
        npm = shutil.which("npm")
        if npm is None:
            raise SetupError("npm is needed (Node.js 20 or newer): install it, and run this again")
        make_anew(self.home, self.packages)
        # A project of its own, so that npm installs here and not into a parent folder that has one.
        (self.home / "package.json").write_text(json.dumps({"name": self.home.name, "private": True}))
        run([npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *self.packages], self.home)

    def program(self, name: str) -> str:
        """The path of a program that one of them brings."""
        return str(self.home / "node_modules" / ".bin" / name)

    def file(self, path: str) -> str:
        """The path of a file, given from `node_modules` on."""
        return str(self.home / "node_modules" / path)


@dataclass(frozen=True, slots=True)
class PythonPackages:
    """A virtual environment with these requirements, in pip's words."""

    home: Path
    requirements: tuple[str, ...]

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    @property
    def is_installed(self) -> bool:
        try:
            there = json.loads((self.home / STAMP).read_text()) == list(self.requirements)
        except (OSError, ValueError):
            return False
        return there and self.python.exists()  # It is a link to an interpreter, which may be gone.

    def install(self) -> None:
        if self.is_installed:
            return
        make_anew(self.home, self.requirements)
        venv.create(self.home, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.python)]
        run([*pip, "install", "--quiet", *self.requirements], self.home)
        (self.home / STAMP).write_text(json.dumps(self.requirements))

    def program(self, name: str) -> str:
        """The path of a program that one of them brings."""
        return str(self.home / "bin" / name)


async def install_all(sets: Iterable[Packages]) -> None:
    """Installs what is missing, some at a time. Raises: SetupError with all that went wrong."""
    limiter = trio.CapacityLimiter(AT_ONCE)
    failures: list[SetupError] = []

    async def one(packages: Packages) -> None:
        try:
            await trio.to_thread.run_sync(packages.install, limiter=limiter)
        except SetupError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for packages in sets:
            nursery.start_soon(one, packages)
    if failures:
        raise SetupError("; ".join(map(str, failures)))


def has(written: dict[str, dict[str, str]], package: str) -> bool:
    """Whether npm wrote down this package at this version."""
    name, _, wanted = package.rpartition("@")
    version = written.get(f"node_modules/{name}", {}).get("version", "")
    return version == wanted or version.startswith(f"{wanted}.")


def make_anew(home: Path, packages: Sequence[str]) -> None:
    """An empty folder, and a word to whoever waits."""
    print(f"installing {', '.join(packages)} into {home}", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)


def run(argv: Sequence[str], cwd: Path) -> None:
    """Runs an installer to its end. Raises: SetupError with the end of its output."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"{' '.join(argv)}: not done after {INSTALL_LIMIT:g} s") from None
    except OSError as error:
        raise SetupError(f"{argv[0]}: {error}") from error
    if done.returncode:
        output = " ".join(done.stdout.decode(errors="replace").split())[-OUTPUT_TAIL:]
        raise SetupError(f"{' '.join(argv)}: status {done.returncode}: {output}")
