"""Finding a child's whole process tree in /proc, and killing it.

Theory of operation
    1. A process is named by (pid, start time); a pid alone may have been used again. A signal goes through a
       pidfd, after the start time was read once more behind it, so that it cannot hit another process.
    2. To a child belong: itself, its descendants by parent, everything in its session or process group,
       everything that carries its marker in the environment, everything that was seen to belong to it
       before, orphans that hold one of its pipes, and the descendants of all of these. A process can shake
       off one of these signs by a double fork, setsid or a clean environment, hardly all.
    3. Numbers of sessions and groups are trusted only while the leader is still there, if only as a zombie:
       the kernel gives the number to nobody else until the leader was waited for. So a child is reaped last.
    4. mcpd is a "subreaper": orphans become its children, not those of process 1, and stay below it in the
       tree.
    5. One scan is one snapshot; nobody is killed on a mixture of two.

A process that left the session, scrubbed its environment, closed its pipes and lost its parent between two
scans is found only when the daemon ends (it is then an adopted child of ours), and not at all when the daemon
is killed before; a cgroup (see there) finds that one, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from mcpd.supervisor.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MARKER_NAME = "MCPD_OWNER"
"""The environment variable that says whose child a process is. See `registry` for its value."""

ENVIRON_MAX = 256 << 10
"""Bytes of one environment that are searched for the marker; it is put first, and programs rarely reorder
it."""

KILL_ROUNDS = 40
"""Scans in `kill_until_gone`. Each round kills all that it sees, so only a tree that forks faster than we
scan needs many."""

KILL_PAUSE = 0.025
"""Seconds at most between two rounds, spent waiting for the killed to be gone."""

_PR_SET_CHILD_SUBREAPER = 36
_DEAD = frozenset("ZXx")
_PREFIX = b"\0" + MARKER_NAME.encode() + b"="


TICKS_OF_MAX: Final = 64
"""Processes of one tree whose time is added up: a wrapper and its worker are two or three."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One line of /proc. `start` is in clock ticks since boot; `marker` is "" when absent or not readable."""

    pid: int
    state: str
    ppid: int
    pgid: int
    sid: int
    start: int
    marker: str = ""

    @property
    def dead(self) -> bool:
        return self.state in _DEAD


Snapshot = dict[int, ProcessInfo]


@dataclass(slots=True)
class Tree:
    """What is known about one child's tree. `seen` remembers members (pid to start time) that may lose their
    signs."""

    pid: int
    start: int
    marker: str
    seen: dict[int, int] = field(default_factory=dict)
    pipes: frozenset[int] = frozenset()
    """Inodes of its standard streams, of which nobody else has the other end."""

    def members(self, snapshot: Snapshot) -> list[ProcessInfo]:
        """All living members; remembers them."""
        leader = snapshot.get(self.pid)
        numbers_ours = leader is not None and leader.start == self.start
        found = {
            info.pid
            for info in snapshot.values()
            if (info.marker == self.marker and self.marker)
            or self.seen.get(info.pid) == info.start
            or (numbers_ours and self.pid in (info.pid, info.sid, info.pgid))
        }
        living = [
            info
            for info in (snapshot[pid] for pid in with_descendants(snapshot, found))
            if not info.dead and info.pid != os.getpid()
        ]
        for info in living:
            self.seen[info.pid] = info.start
        return living

    def claim(self, orphans: Iterable[ProcessInfo]) -> None:
        """Remember those of the orphans that came to us that hold one of its pipes. They must be no children of our
        own: such a one has the pipes of all, until it is the program that it is to be.
        """
        for info in orphans:
            if info.pid not in self.seen and self.pipes & held_pipes(info.pid):
                self.seen[info.pid] = info.start


def with_descendants(snapshot: Snapshot, pids: Iterable[int]) -> set[int]:
    """The given processes and all below them."""
    children: dict[int, list[int]] = {}
    for info in snapshot.values():
        children.setdefault(info.ppid, []).append(info.pid)
    result: set[int] = set()
    todo = list(pids)
    while todo:
        pid = todo.pop()
        if pid not in result:
            result.add(pid)
            todo += children.get(pid, ())
    return result


def read_process(pid: int) -> ProcessInfo | None:
    """The process without its marker, or None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(1024)
    except OSError:
        return None
    # The second field, the command, is in parentheses and may contain anything.
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return None
    return ProcessInfo(pid, fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), start=int(fields[19]))


def read_end(pidfd: int) -> Exit | None:
    """How a process ended that has ended; it stays a zombie (WNOWAIT), and with it its number, until it is waited
    for. None while only a debugger is told, which comes first (ptrace(2)): that the descriptor is readable does not
    exclude it."""
    status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if status is None:
        return None
    if status.si_code == os.CLD_EXITED:
        return Exit(code=status.si_status)
    return Exit(signal=status.si_status)


def cpu_ticks(pid: int) -> int:
    """Processor time in clock ticks that a process and what it started have used; 0 when it is gone."""
    total = 0
    todo = [pid]
    for _ in range(TICKS_OF_MAX):
        if not todo:
            break
        at = todo.pop()
        try:
            with open(f"/proc/{at}/stat", "rb", buffering=0) as file:
                text = file.read(1024)
            with open(f"/proc/{at}/task/{at}/children", "rb", buffering=0) as file:
                todo += map(int, file.read(4096).split())
        except (OSError, ValueError):
            continue
        fields = text[text.rfind(b")") + 2 :].split()
        total += sum(map(int, fields[11:15]))
    return total


def read_marker(pid: int) -> str:
    """The value of MCPD_OWNER that the process was started with; "" when there is none or it is not ours to
    read."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            text = b"\0" + file.read(ENVIRON_MAX)
    except OSError:
        return ""
    at = text.find(_PREFIX)
    if at < 0:
        return ""
    value = text[at + len(_PREFIX) :]
    return value[: value.find(b"\0")].decode("ascii", "replace")


def held_pipes(pid: int) -> set[int]:
    """Inodes of the pipes that a process has open; none when it is not ours to look at."""
    found: set[int] = set()
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):  # closed meanwhile
                target = os.readlink(f"{folder}/{name}")
                if target.startswith("pipe:["):
                    found.add(int(target[6:-1]))
    return found


def pipe_inodes(fds: Iterable[int]) -> frozenset[int]:
    """Of the pipes that these are ends of; both ends have the same one."""
    return frozenset(os.fstat(fd).st_ino for fd in fds if fd >= 0)


def scan(since: int = 0) -> Snapshot:
    """Every process; markers are read of those that started at `since` (clock ticks) or later."""
    snapshot: Snapshot = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        info = read_process(int(name))
        if info is None:
            continue
        if info.start >= since and not info.dead and (marker := read_marker(info.pid)):
            info = ProcessInfo(info.pid, info.state, info.ppid, info.pgid, info.sid, start=info.start, marker=marker)
        snapshot[info.pid] = info
    return snapshot


class Scanner:
    """Scans in a worker thread, and shares one scan between all who asked before it began: stopping a
    hundred children at once reads /proc a few times, not a few hundred times."""

    def __init__(self, since: int) -> None:
        self._since = since
        self._lock = trio.Lock()
        self._begun = 0
        self._last: Snapshot = {}

    async def snapshot(self) -> Snapshot:
        """A snapshot that was begun after this call."""
        wanted = self._begun + 1
        async with self._lock:
            if self._begun < wanted:
                self._begun += 1
                self._last = await trio.to_thread.run_sync(scan, self._since)
            return self._last


def send_signal(process: ProcessInfo, number: int) -> bool:
    """Signal exactly this process; False when it is gone or not ours to signal."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        now = read_process(process.pid)
        if now is None or now.start != process.start:
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def terminate(processes: Iterable[ProcessInfo]) -> None:
    """Ask them to end; stopped ones are continued so that they can."""
    for process in processes:
        if send_signal(process, signal.SIGTERM):
            send_signal(process, signal.SIGCONT)


def kill(processes: Iterable[ProcessInfo]) -> None:
    for process in processes:
        send_signal(process, signal.SIGKILL)


def signal_group(pgid: int, *numbers: int) -> None:
    """Signal a whole group at one instant; needs no descriptor, so it works when there are none left.

    Only while the group's leader has not been waited for (rule 3).
    """
    for number in numbers:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pgid, number)


def kill_until_gone(
    find: Callable[[Snapshot], list[ProcessInfo]], *, since: int = 0, rounds: int = KILL_ROUNDS
) -> tuple[list[ProcessInfo], list[ProcessInfo]]:
    """Kill what `find` finds, and look again, until it finds nothing. Blocks for a second at most: run it in
    a thread.

    Returns those that were killed and those that are left.
    """
    killed: dict[tuple[int, int], ProcessInfo] = {}
    found: list[ProcessInfo] = []
    for _ in range(rounds):
        found = find(scan(since))
        if not found:
            break
        kill(found)
        killed |= {(info.pid, info.start): info for info in found}
        _wait_gone(found)
    left = {(info.pid, info.start) for info in found}
    return [info for key, info in killed.items() if key not in left], found


def _wait_gone(processes: Iterable[ProcessInfo]) -> None:
    """Wait up to KILL_PAUSE for the first of them that is still there: the others were killed at the same
    time."""
    for process in processes:
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:
            continue
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(KILL_PAUSE * 1000)
        finally:
            os.close(pidfd)
        return


def become_subreaper() -> bool:
    """Have orphaned descendants re-parented to this process; False where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def ancestors(snapshot: Mapping[int, ProcessInfo], pid: int) -> set[int]:
    """The process and all above it."""
    result: set[int] = set()
    while pid in snapshot and pid not in result:
        result.add(pid)
        pid = snapshot[pid].ppid
    return result
