"""What the processes of each server use: how many there are, their memory and the processor time that they have had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.supervisor.process import Child
    from mcpd.supervisor.tree import ProcessInfo, Scanner

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")
"""Seconds of a clock tick."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Of all processes of one server. `memory` is resident, in bytes, what they share counted for each; `cpu` is in
    seconds since they began, and falls when one of them ends.
    """

    processes: int = 0
    memory: int = 0
    cpu: float = 0.0

    def plus(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(
            processes=self.processes + other.processes,
            memory=self.memory + other.memory,
            cpu=round(self.cpu + other.cpu, 2),
        )


async def measure(children: Iterable[Child], scanner: Scanner) -> dict[str, Usage]:
    """What each server uses now, by its name. Searches /proc once, in a thread, where no cgroup knows the processes."""
    children = list(children)
    if any(child.leaf is None for child in children):
        snapshot = await scanner.snapshot()
    found: dict[str, Usage] = {}
    for child in children:
        members = child.tree.members(snapshot) if child.leaf is None else child.leaf.members()
        found[child.name] = found.get(child.name, Usage()).plus(_of(members))
    return found


def _of(members: Iterable[ProcessInfo]) -> Usage:
    total = Usage()
    for info in members:
        directory = Path("/proc", str(info.pid))
        try:
            pages = int((directory / "statm").read_bytes().split()[1])
            # proc_pid_stat(5): what follows the name in parentheses begins with field 3; utime and stime are 14 and 15.
            fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
        except (OSError, IndexError, ValueError):
            continue  # it ended meanwhile
        total = total.plus(Usage(processes=1, memory=pages * PAGE, cpu=(int(fields[11]) + int(fields[12])) * TICK))
    return total
