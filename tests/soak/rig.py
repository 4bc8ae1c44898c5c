"""The daemon under test, what it has open, and what is left of it and of its children."""

# ruff: noqa: ASYNC110 - processes tell nothing of what goes on inside them

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import trio

from tests.e2e.backends import processes_with
from tests.e2e.background import descriptors, resident
from tests.fixtures.peer import ROOT, HttpPeer
from tests.fixtures.peer_process import READY, Running, wait_ready, watch
from tests.soak.hostile_server import HOSTILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVER = str(Path(__file__).with_name("hostile_server.py"))

STOP = {"eof": 0.1, "term": 0.1, "kill": 10}
"""Seconds: most of the kinds go all the way down, and a soak has no time for more."""

RESTART = {"initial": 0.01, "cap": 0.05, "stable": 0.01, "start_limit_interval": 0}
"""Each end is the first one: what is measured is mcpd's speed, not its patience."""

CONCURRENCY = 8
"""The setting `limits.spawn_concurrency`."""

PATIENCE = 60.0
"""Seconds for anything that is waited for; a loaded machine takes some, more is a failure."""

LOOK = 0.05
"""Seconds between two looks at processes, which tell nothing of their own accord."""


class Miss(Exception):
    """Something did not come about in time; the text says what."""


class Daemon(Protocol):
    """What the parts know of one that runs. `url` is its MCP endpoint, `base` its origin."""

    @property
    def pid(self) -> int: ...
    @property
    def url(self) -> str: ...
    @property
    def base(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Level:
    """What a daemon at rest has: bytes of memory, open descriptors, processes of its children, zombies, cgroups."""

    resident: int
    descriptors: int
    processes: int
    zombies: int
    cgroups: int


class Rig:
    """One state directory, and the daemons that use it one after the other."""

    python = sys.executable
    script = SERVER
    """What the hostile servers are, where mcpd runs."""

    def __init__(self, directory: Path) -> None:
        self.token = f"soak-{uuid.uuid4().hex}"
        self.state = directory / "state"
        self.config = directory / "mcpd.yaml"
        servers = {kind.replace("-", ""): self._server(kind, "per-session") for kind in HOSTILE}
        servers["plain"] = self._server("plain", "shared")
        self._configure(servers)

    def _configure(self, servers: dict[str, Any]) -> None:
        self.servers = len(servers)
        limits = {"spawn_concurrency": CONCURRENCY}
        self.config.write_text(json.dumps({"limits": limits, "mcpServers": servers}))

    def crowd(self, count: int) -> Path:
        """Configure so many well-behaved servers instead; the journal that they keep of their starts."""
        journal = self.config.with_name("journal")
        self._configure({f"s{number}": self._server("plain", "shared", str(journal)) for number in range(count)})
        return journal

    def _server(self, kind: str, instances: str, *more: str) -> dict[str, Any]:
        return {
            "command": self.python,
            "args": ["-ISs", self.script, self.token, kind, *more],
            "instances": instances,
            "era": "legacy",
            "stop": STOP,
            "restart": RESTART,
        }

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Running]:
        """One daemon, which the block may kill; what is left of it then is for the next one."""
        argv = [sys.executable, "-m", "mcpd", "--config", str(self.config), "--port", "0"]
        process = await trio.lowlevel.open_process(
            [*argv, "--state-dir", str(self.state)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        running = Running(process)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, process.stdout, running.output)
            nursery.start_soon(watch, process.stderr, running.errors)
            try:
                running.base = await wait_ready(running, READY, PATIENCE)
                yield running
            finally:
                with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE):
                    if process.returncode is None:
                        process.send_signal(signal.SIGTERM)
                    await process.wait()
                process.kill()
                nursery.cancel_scope.cancel()

    def processes(self) -> list[int]:
        """Living processes of children, of whichever daemon."""
        return processes_with(self.token)

    def zombies(self, daemon: Daemon) -> int:
        """Processes that ended, and that nobody has waited for."""
        return zombies_of(daemon.pid)

    def cgroups(self, daemon: Daemon) -> int:
        """Those of the children."""
        return cgroups_of(daemon.pid)

    def crash(self, pid: int) -> None:
        """SIGKILL for a child, by the pid that it has told."""
        os.kill(pid, signal.SIGKILL)

    async def wait_processes(self, count: int) -> list[int]:
        """Wait until so many are left; what there is, if that does not come about."""
        with trio.move_on_after(PATIENCE):
            while len(self.processes()) != count:
                await trio.sleep(LOOK)
        return self.processes()

    async def settled(self, daemon: Daemon) -> Level:
        """The level of a daemon that is at rest: every server ready, no session, and nothing of them running."""
        async with HttpPeer(daemon.url) as peer:
            with trio.move_on_after(PATIENCE):
                while not (await self._at_rest(peer, daemon) and self.zombies(daemon) == 0):
                    await trio.sleep(LOOK)
        # That of the connection above is closed as soon as the daemon gets round to it.
        before = -1
        with trio.move_on_after(PATIENCE):
            while before != (before := descriptors(daemon.pid)):
                await trio.sleep(20 * LOOK)
        return Level(
            resident=resident(daemon.pid),
            descriptors=descriptors(daemon.pid),
            processes=len(self.processes()),
            zombies=self.zombies(daemon),
            cgroups=self.cgroups(daemon),
        )

    async def wait_ready(self, daemon: Daemon) -> None:
        """Wait until every server is."""
        async with HttpPeer(daemon.url) as peer:
            with trio.move_on_after(PATIENCE):
                while not all(each["state"] == "ready" for each in await self._states(peer, daemon)):
                    await trio.sleep(LOOK)

    async def _states(self, peer: HttpPeer, daemon: Daemon) -> list[dict[str, Any]]:
        reply = await peer.raw("GET", url=daemon.base + "/servers")
        return list(reply.json()["servers"])

    async def _at_rest(self, peer: HttpPeer, daemon: Daemon) -> bool:
        servers = await self._states(peer, daemon)
        ready = all(each["state"] == "ready" and not each["sessions"] for each in servers)
        return ready and len(self.processes()) == self.at_rest

    @property
    def at_rest(self) -> int:
        """Processes of the servers themselves, and of what they leave about while they run."""
        # Two kinds are wrappers, three have a worker that nobody knows of.
        return self.servers + 2 + 3


def zombies_of(pid: int) -> int:
    """Children of that process that were not waited for."""
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            count += state == "Z" and int(parent) == pid
    return count


def cgroups_of(pid: int) -> int:
    """Cgroups beside the daemon's own, when it has one to divide up: those of its children."""
    try:
        own = Path("/sys/fs/cgroup") / Path(f"/proc/{pid}/cgroup").read_text().strip().partition("::")[2].lstrip("/")
        return sum(entry.is_dir() for entry in own.parent.iterdir()) - 1 if own.name == "daemon" else 0
    except OSError:
        return 0
