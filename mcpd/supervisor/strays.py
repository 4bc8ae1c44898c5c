"""Processes that a daemon left behind because it was killed itself. Swept by the next daemon of the same
state directory.

Theory of operation
    1. A stray carries our instance word in its marker and names an owner that is no longer alive, or it is
       in the file of such an owner with the same start time. Everything below a stray is one, and so is the
       session it leads. So is what holds a pipe of a recorded child and is not older than that: it may have
       lost its marker, its session and its parent.
    2. Nothing of a living owner is touched: several daemons may share a state directory.
    3. Nothing of another pid namespace is touched: an owner that seems dead from here may be alive in there.
    4. Strays get SIGKILL at once. Their stdin ended with their daemon, so they had their chance, and a
       server that still holds a lock or a port would keep its successor from starting.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mcpd.supervisor.registry import (
    CHILDREN_DIR,
    Owner,
    Record,
    Registry,
    decode_records,
    parse_marker,
    read_pid_namespace,
)
from mcpd.supervisor.tree import ProcessInfo, Snapshot, ancestors, held_pipes, kill_until_gone, with_descendants

if TYPE_CHECKING:
    from collections.abc import Collection


FOREIGN_KEEP = 7 * 86_400.0
"""Seconds after which the file of a daemon in another pid namespace (a container) is removed. Such a daemon
rewrites it whenever a child starts or ends; with its namespace gone, nobody else would remove it."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did, for the log. `left` could not be killed."""

    killed: tuple[ProcessInfo, ...]
    left: tuple[ProcessInfo, ...]


class Strays:
    """Finds and kills what dead daemons of this state directory left behind."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def sweep(self) -> Swept:
        """Kill all strays. Blocks: run it in a thread."""
        files = self._dead_files()
        recorded = {record.pid: record for _, records in files for record in records}
        namespace = read_pid_namespace("self")

        def find(snapshot: Snapshot) -> list[ProcessInfo]:
            return find_strays(
                snapshot, instance=self._registry.instance, recorded=tuple(recorded.values()), namespace=namespace
            )

        killed, left = kill_until_gone(find)
        if not left:
            for path, _ in files:
                path.unlink(missing_ok=True)
        return Swept(tuple(killed), tuple(left))

    def _dead_files(self) -> list[tuple[Path, tuple[Record, ...]]]:
        if self._registry.state_dir is None:
            return []
        result: list[tuple[Path, tuple[Record, ...]]] = []
        for entry in os.scandir(self._registry.state_dir / CHILDREN_DIR):
            pid, _, start = entry.name.removesuffix(".new").partition(".")
            if not (pid.isdecimal() and start.isdecimal()) or Owner(int(pid), int(start)).alive:
                continue
            path = Path(entry.path)
            try:
                records = decode_records(path.read_bytes())
                old = time.time() - entry.stat().st_mtime > FOREIGN_KEEP
            except OSError:
                continue  # another daemon swept it at the same time
            if records is not None or old:
                result.append((path, records or ()))
        return result


def find_strays(
    snapshot: Snapshot, *, instance: str, recorded: Collection[Record], namespace: str
) -> list[ProcessInfo]:
    """The living strays in the snapshot; never this process or one above it."""
    alive: dict[Owner, bool] = {}
    roots: set[int] = set()
    for info in snapshot.values():
        marker = parse_marker(info.marker) if info.marker else None
        if marker is None or marker.instance != instance:
            continue
        if marker.owner not in alive:
            alive[marker.owner] = marker.owner.alive
        if not alive[marker.owner] and read_pid_namespace(info.pid) == namespace:
            roots.add(info.pid)
    leaders = {
        record.pid for record in recorded if record.pid in snapshot and snapshot[record.pid].start == record.start
    }
    roots |= leaders
    roots |= {info.pid for info in snapshot.values() if info.sid in leaders or info.pgid in leaders}
    roots |= _holders(snapshot, recorded)
    found = with_descendants(snapshot, roots) - ancestors(snapshot, os.getpid())
    return [snapshot[pid] for pid in found if not snapshot[pid].dead]


def _holders(snapshot: Snapshot, recorded: Collection[Record]) -> set[int]:
    """Who has a pipe of a recorded child open. Nobody else was given one, and inodes of pipes are not used again."""
    since = {inode: record.start for record in recorded for inode in record.pipes}
    if not since:
        return set()
    oldest = min(since.values())
    return {
        info.pid
        for info in snapshot.values()
        if info.start >= oldest and any(info.start >= since.get(inode, math.inf) for inode in held_pipes(info.pid))
    }
