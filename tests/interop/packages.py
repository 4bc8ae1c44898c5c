"""What is installed for the runs, in exact versions: real servers, and the SDKs of real clients.

Everything goes into one folder for each set of packages, and is used again while its stamp names the same
set. Python's sets are virtual environments filled by the pip of the running interpreter, for Debian keeps
`ensurepip` in a package of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

import trio

from tests.fixtures.peer import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

HOME = ROOT / ".cache" / "interop"
INSTALL_LIMIT = 600.0
"""Seconds of one installation. The largest, three Python servers with their SDK, takes about thirty."""
AT_ONCE = 2
"""Installations at the same time: they wait for the network more than they compute."""
OUTPUT_TAIL = 2000
STAMP = "installed"

NPM: dict[str, tuple[str, ...]] = {
    "node-servers": (
        "@modelcontextprotocol/server-everything@2026.8.31",
        "@modelcontextprotocol/server-filesystem@2026.8.31",
        "@modelcontextprotocol/server-memory@2026.8.31",
        "@modelcontextprotocol/server-sequential-thinking@2026.8.31",
    ),
    "typescript-sdk": ("@modelcontextprotocol/sdk@1.32.2",),
    # The last one that runs on Node 20; later ones ask for 22.19.
    "inspector": ("@modelcontextprotocol/inspector-cli@0.15.0",),
}
PIP: dict[str, tuple[str, ...]] = {
    "python-servers": (
        "mcp-server-time==2026.10.19",
        "mcp-server-git==2026.10.19",
        "mcp-server-fetch==2026.10.24",
    ),
    # Written for SDK 1; with SDK 2 it ends at once.
    "sqlite-server": ("mcp-server-sqlite==2025.4.25", "mcp<2"),
    "python-sdk-1": ("mcp==1.27.1",),
    "python-sdk-2": ("mcp==2.3.0",),
}


class SetupError(Exception):
    """Something that the runs need cannot be had; the message says what, and the remedy."""


def node_program(folder: str, name: str) -> str:
    """The path of a program of an npm package."""
    return str(HOME / folder / "node_modules" / ".bin" / name)


def python_program(folder: str, name: str) -> str:
    """The path of a program in a virtual environment."""
    return str(HOME / folder / "bin" / name)


async def install(folders: Iterable[str]) -> None:
    """Installs what is missing of these sets. Raises: SetupError."""
    missing = [folder for folder in folders if not is_installed(folder)]
    limiter = trio.CapacityLimiter(AT_ONCE)
    failures: list[SetupError] = []

    async def one(folder: str) -> None:
        async with limiter:
            try:
                await (install_npm if folder in NPM else install_pip)(folder)
            except SetupError as error:
                failures.append(error)

    async with trio.open_nursery() as nursery:
        for folder in missing:
            nursery.start_soon(one, folder)
    if failures:
        raise SetupError("; ".join(map(str, failures)))


def is_installed(folder: str) -> bool:
    """Whether exactly this set is there, and an environment's interpreter still is."""
    home = HOME / folder
    try:
        there = json.loads((home / STAMP).read_text()) == list(wanted(folder))
    except (OSError, ValueError):
        return False
    return there and (folder in NPM or (home / "bin" / "python").exists())


def wanted(folder: str) -> tuple[str, ...]:
    return NPM[folder] if folder in NPM else PIP[folder]


async def install_npm(folder: str) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise SetupError("npm and node are needed (Node.js 20 or newer): install them, and run this again")
    home = fresh(folder)
    # A project of its own, so that npm installs here and not into a parent folder that has one.
    (home / "package.json").write_text(json.dumps({"name": folder, "private": True}))
    await run([npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *NPM[folder]], home)
    stamp(folder)


async def install_pip(folder: str) -> None:
    home = fresh(folder)
    venv.create(home, with_pip=False, symlinks=True)
    python = str(home / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    await run([*pip, "install", "--quiet", *PIP[folder]], home)
    stamp(folder)


def fresh(folder: str) -> Path:
    print(f"installing {', '.join(wanted(folder))}", file=sys.stderr, flush=True)
    home = HOME / folder
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    return home


def stamp(folder: str) -> None:
    (HOME / folder / STAMP).write_text(json.dumps(wanted(folder)))


async def run(argv: Sequence[str], cwd: Path) -> None:
    """Runs an installer to its end. Raises: SetupError with the end of its output."""
    with trio.move_on_after(INSTALL_LIMIT):
        done = await trio.run_process(argv, cwd=cwd, check=False, capture_stdout=True, stderr=subprocess.STDOUT)
        if done.returncode == 0:
            return
        output = done.stdout.decode(errors="replace").strip()[-OUTPUT_TAIL:]
        raise SetupError(f"{' '.join(argv)}: status {done.returncode}: {output}")
    raise SetupError(f"{' '.join(argv)}: not done after {INSTALL_LIMIT:g} s")
