"""Waiting for orphans that were re-parented to this process, without taking anybody else's child.

The process table belongs to the whole process, and so does what is in this module: a pid that `starting` and
`own` have announced is reaped by its owner alone. An orphan is known by three signs: its parent is this
process, nobody here started it, and its session is not ours (a child of ours always has a session of its
own, so none of its descendants is in ours).
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import trio

from mcpd.supervisor.tree import ProcessInfo, Snapshot, Tree, read_process, scan

if TYPE_CHECKING:
    from collections.abc import Iterator

CHILDREN_FILE = "/proc/self/task/{}/children"
"""Of the main thread: to it the kernel gives the orphans that a process adopts."""

MAKING = 1.0
"""Seconds at most until a process that is just being made is known to be somebody's; it takes milliseconds."""

LOOK = 0.005
"""Seconds between two looks whether it is known."""

_own: set[int] = set()
_starting: list[int] = []
"""When the makings that are under way began, in clock ticks since boot."""


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """While a process is made: it exists before its pid is known here, so nothing may be reaped meanwhile."""
    begun = ticks_now()
    _starting.append(begun)
    try:
        yield
    finally:
        _starting.remove(begun)


def own(pid: int) -> None:
    """This child has an owner who waits for it. Call it inside `starting`."""
    _own.add(pid)


def disown(pid: int) -> None:
    """It was waited for; the number may come back as somebody else."""
    _own.discard(pid)


def adopted(snapshot: Snapshot, *, since: int = 0) -> list[ProcessInfo]:
    """Living orphans that came to us, started at `since` (clock ticks) or later."""
    return sort_out(strangers(snapshot, since=since))[0]


async def claim_orphans(tree: Tree, snapshot: Snapshot) -> None:
    """Have the tree remember those that hold one of its pipes, once it is known which are orphans. Takes at most MAKING
    seconds.
    """
    found = strangers(snapshot, since=tree.start)
    with trio.move_on_after(MAKING):
        while found:
            orphans, found = sort_out(found)
            tree.claim(orphans)
            await trio.sleep(LOOK if found else 0)


def strangers(snapshot: Snapshot, *, since: int = 0) -> list[ProcessInfo]:
    """The same, and processes that are just being made, which cannot be told from orphans yet."""
    me, session = os.getpid(), os.getsid(0)
    return [
        info
        for info in snapshot.values()
        if info.ppid == me and info.sid != session and info.pid not in _own and not info.dead and info.start >= since
    ]


def sort_out(found: list[ProcessInfo]) -> tuple[list[ProcessInfo], list[ProcessInfo]]:
    """Of strangers, those that are orphans, and those that may still turn out to have an owner."""
    nobodys = [info for info in found if info.pid not in _own]
    unsure = [info for info in nobodys if any(info.start >= begun for begun in _starting)]
    return [info for info in nobodys if info not in unsure], unsure


def ticks_now() -> int:
    """In clock ticks since boot; one less, since the kernel rounds start times down."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")) - 1


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
