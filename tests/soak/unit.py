"""The package's service in a box with a systemd of its own, as what the parts of the soak are driven against.

Looked at from outside: this machine sees every process and control group of the box, by numbers of its own.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.soak.rig import Rig, zombies_of
from tests.systemd.machine import cgroup2
from tests.systemd.service import BASE, TESTS, UNITS, URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fixtures.peer import HttpPeer
    from tests.soak.rig import Daemon
    from tests.systemd.service import Service


@dataclass(slots=True)
class Unit:
    """The daemon that runs as the service, under whatever pid it has at the time."""

    pid: int
    base: str = BASE
    url: str = URL


class UnitRig(Rig):
    """One service, which systemd starts, starts again and stops: the package's unit as it is, confined and all."""

    python = "/usr/bin/python3"
    script = f"{TESTS}/soak/hostile_server.py"

    def __init__(self, service: Service, directory: Path) -> None:
        super().__init__(directory)
        self.service = service
        self.group = _box_group(service.box.leader) / "system.slice/mcpd.service"
        self.main = 0

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Unit]:
        """The service, started and ready; stopped after the block, with its sockets."""
        configured = json.loads(self.config.read_text())
        await self.service.configure(configured.pop("mcpServers"), **configured)
        await self.service.systemctl("start", "mcpd.service")
        try:
            unit = Unit(0)
            await self.find(unit)
            yield unit
        finally:
            with trio.CancelScope(shield=True):  # as bounded as every command in a box
                await self.service.systemctl("stop", *reversed(UNITS))
            self.main = 0

    async def find(self, unit: Unit) -> None:
        """Note the process that the service now is."""
        unit.pid = self.main = self._outside(await self.service.pid())

    async def kill(self, unit: Unit) -> None:
        """SIGKILL for mcpd; returns when systemd has another one up and ready, by itself."""
        old = await self.service.pid()
        await self.service.systemctl("kill", "--kill-whom=main", "--signal=KILL", "mcpd.service")
        await self.service.until_new(old)
        await self.find(unit)

    def processes(self) -> list[int]:
        """Whatever is in the service's control group beside mcpd, and children that are anywhere else."""
        return sorted(set(super().processes()) | (set(_members(self.group)) - {self.main}))

    def zombies(self, daemon: Daemon) -> int:
        """Of mcpd, and of process 1, which gets what has lost its parent."""
        return zombies_of(daemon.pid) + zombies_of(self.service.box.leader)

    def cgroups(self, daemon: Daemon) -> int:
        """Below the service's, however deep, beside the one that mcpd itself is in."""
        return len(self.groups()) - 2

    def groups(self) -> list[Path]:
        """The service's control group, and all below it; none once systemd has removed it."""
        return [Path(directory) for directory, _, _ in os.walk(self.group)]

    async def _at_rest(self, peer: HttpPeer, daemon: Daemon) -> bool:
        # A cgroup is removed a moment after its last process is gone.
        return await super()._at_rest(peer, daemon) and self.cgroups(daemon) == self.servers

    def crash(self, pid: int) -> None:
        os.kill(self._outside(pid), signal.SIGKILL)

    def _outside(self, pid: int) -> int:
        """What this machine calls a process of the service. Raises: ProcessLookupError."""
        for member in _members(self.group):
            if _pid_inside(member) == pid:
                return member
        raise ProcessLookupError(f"process {pid} of the box is not in the control group of the service")


def _box_group(leader: int) -> Path:
    """The control group that a box has for its root, by the number of its process 1."""
    lines = Path(f"/proc/{leader}/cgroup").read_text().splitlines()
    own = next(line for line in lines if line.startswith("0::")).removeprefix("0::/")
    root = cgroup2()
    assert root is not None
    return root / own.removesuffix("/init.scope")


def _members(group: Path) -> list[int]:
    """All processes in a control group and below it, none that has ended."""
    pids: list[int] = []
    for directory, _, _ in os.walk(group):
        try:
            pids += map(int, (Path(directory) / "cgroup.procs").read_text().split())
        except OSError:
            continue  # removed meanwhile
    return pids


def _pid_inside(pid: int) -> int | None:
    """What a process calls itself; None when it has ended. See proc_pid_status(5), NSpid."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[-1]) for line in lines if line.startswith("NSpid:")), None)
