"""Waiting for orphans that were re-parented to this process, without taking anybody else's child.

The process table belongs to the whole process, and so does what is in this module: a pid that `starting` and
`own` have announced is reaped by its owner alone. An orphan is known by three signs: its parent is this
process, nobody here started it, and its session is not ours (a child of ours always has a session of its
own, so none of its descendants is in ours).
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from mcpd.supervisor.tree import ProcessInfo, Snapshot, read_process, scan

if TYPE_CHECKING:
    from collections.abc import Iterator

CHILDREN_FILE = "/proc/self/task/{}/children"
"""Of the main thread: to it the kernel gives the orphans that a process adopts."""

_own: set[int] = set()
_starting = 0


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """While a process is made: it exists before its pid is known here, so nothing may be reaped meanwhile."""
    global _starting
    _starting += 1
    try:
        yield
    finally:
        _starting -= 1


def own(pid: int) -> None:
    """This child has an owner who waits for it. Call it inside `starting`."""
    _own.add(pid)


def disown(pid: int) -> None:
    """It was waited for; the number may come back as somebody else."""
    _own.discard(pid)


def adopted(snapshot: Snapshot, *, since: int = 0) -> list[ProcessInfo]:
    """Living orphans that came to us, started at `since` (clock ticks) or later."""
    if _starting:
        return []
    me, session = os.getpid(), os.getsid(0)
    return [
        info
        for info in snapshot.values()
        if info.ppid == me and info.sid != session and info.pid not in _own and not info.dead and info.start >= since
    ]


def reap_adopted() -> int:
    """Wait for those orphans of ours that have ended. Returns how many."""
    if _starting:
        return 0
    count = 0
    session = os.getsid(0)
    for pid in _children():
        if pid in _own:
            continue
        info = read_process(pid)
        if info is None or not info.dead or info.sid == session:
            continue
        with contextlib.suppress(ChildProcessError):
            count += os.waitpid(pid, os.WNOHANG)[0] == pid
    return count


def _children() -> list[int]:
    me = os.getpid()
    try:
        with open(CHILDREN_FILE.format(me), "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        # A kernel without CONFIG_PROC_CHILDREN.
        return [info.pid for info in scan(since=1 << 62).values() if info.ppid == me]
