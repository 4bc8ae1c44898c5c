"""A cgroup of its own for each child, where mcpd was given one to divide up (systemd: `Delegate=yes`).

Theory of operation
    1. Used is a cgroup v2 that carries systemd's mark of delegation, and no other. That it can be written to is not
       enough: a terminal's scope belongs to its user as well, and in the root of a container's tree no further
       process could be started (`docker exec`) once controllers are enabled below it.
    2. mcpd itself moves into the leaf DAEMON: controllers can be enabled only below a cgroup without processes.
    3. A child enters its leaf before it is the configured command (see `trampoline`), so all that it ever forks is
       in there, whatever it does to its session, its parent and its environment.
    4. `cgroup.kill` kills all of a leaf at one instant, also what is forked meanwhile. `cgroup.events` tells when
       nothing lives in it any more; zombies do not count.
    5. A leaf is removed when its child is buried. What a killed daemon left is killed and removed by the next one.

Controllers of cgroup v1 are not used: they have neither `cgroup.kill` nor a safe delegation.
Source: the kernel's admin-guide/cgroup-v2, systemd's CGROUP_DELEGATION.
"""

from __future__ import annotations

import itertools
import os
import re
import select
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from mcpd.supervisor.tree import ProcessInfo, read_process

if TYPE_CHECKING:
    from collections.abc import Container

DAEMON: Final = "daemon"
"""The leaf of mcpd itself; also what `DelegateSubgroup=` should say, if anything."""

CONTROLLERS: Final = ("memory", "pids", "cpu")

CPU_PERIOD: Final = 100_000
"""Microseconds over which the kernel measures `cpu.max`; its own default, and systemd's."""

NAME_MAX: Final = 64
"""Characters of a server's name in a leaf's; the kernel allows 255."""

SWEEP_WAIT: Final = 2.0
"""Seconds for the killed to be gone, for all leaves together; only a process that hangs in the kernel takes longer."""

LOOK_MIN: Final = 0.001
LOOK_MAX: Final = 0.05
"""Seconds between two looks at a leaf that is being emptied: what was killed is gone in some milliseconds."""

_MARKS: Final = ("user.delegate", "trusted.delegate")
"""Extended attributes that systemd sets to 1; the second one can be read by root only."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_LEAF: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\.[0-9]{1,20}")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


class CgroupUnusable(Exception):
    """There is no cgroup to divide up. The message says why, in words for an operator."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may use; None: as much as there is. Bytes, tasks, and processors (0.5 is half of one)."""

    memory_max: int | None = None
    pids_max: int | None = None
    cpu_max: float | None = None

    def by_controller(self) -> dict[str, str]:
        """The value of each controller's `max` file that is to be written, with the controllers' names."""
        found: dict[str, str] = {}
        if self.memory_max is not None:
            found["memory"] = str(self.memory_max)
        if self.pids_max is not None:
            found["pids"] = str(self.pids_max)
        if self.cpu_max is not None:
            found["cpu"] = f"{max(1000, round(self.cpu_max * CPU_PERIOD))} {CPU_PERIOD}"
        return found


class Leaf:
    """The cgroup of one child. Everything about it is in its path."""

    __slots__ = ("memory_max", "path")

    def __init__(self, path: Path, *, memory_max: int | None = None) -> None:
        self.path = path
        self.memory_max = memory_max
        """The limit in bytes, if the kernel enforces one."""

    @property
    def procs(self) -> str:
        """The file that a process writes 0 to in order to enter."""
        return str(self.path / "cgroup.procs")

    @property
    def populated(self) -> bool:
        """Whether a process lives in it or below; False when it is not there any more."""
        return _read_number(self.path / "cgroup.events", "populated") > 0

    def members(self) -> list[ProcessInfo]:
        """The living processes in it and in what its processes made below it."""
        infos: list[ProcessInfo] = []
        for folder in _tree(self.path):
            try:
                pids = (folder / "cgroup.procs").read_text(encoding="ascii").split()
            except OSError:
                continue  # removed meanwhile
            infos += (info for pid in pids if (info := read_process(int(pid))) is not None and not info.dead)
        return infos

    async def wait_empty(self, seconds: float) -> None:
        """Wait until nothing lives in it, or the time is over."""
        # Trio waits for nothing but reading and writing, so it is looked: a look reads one small file.
        deadline = trio.current_time() + seconds
        pause = LOOK_MIN
        while self.populated and trio.current_time() < deadline:
            await trio.sleep(pause)
            pause = min(2 * pause, LOOK_MAX)

    def kill(self) -> None:
        """Kill everything in it and below."""
        try:
            (self.path / "cgroup.kill").write_text("1", encoding="ascii")
        except OSError:
            # It is gone, and so is what was in it; or what was in it changed it (cgroup.type), and is found without.
            return

    def oom_kills(self) -> int:
        """How many processes the kernel killed in it for lack of memory; 0 without the memory controller."""
        return _read_number(self.path / "memory.events", "oom_kill")

    def out_of_memory(self) -> str:
        """What its processes went over, when the kernel killed one of them for that; '' when it did not."""
        if not self.oom_kills():
            return ""
        if self.memory_max is None or not _read_number(self.path / "memory.events", "oom"):
            return "what mcpd's own service, or the machine, has left"
        return f"its memory_max of {in_words(self.memory_max)}"

    def remove(self) -> bool:
        """Remove it; False while something lives in it. Not to be used again."""
        for folder in _tree(self.path):
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


class Cgroup:
    """The cgroup that mcpd divides up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.controllers: frozenset[str] = frozenset()
        """Those that can limit a child. Set by `enter`."""
        self._serials = itertools.count(1)

    def __repr__(self) -> str:
        return f"path={self.path} controllers={','.join(sorted(self.controllers)) or 'none'}"

    def enter(self) -> None:
        """Move this process into DAEMON and enable what controllers there are. May be done again.

        Raises: CgroupUnusable. Then everything is as it was.
        """
        daemon = self.path / DAEMON
        try:
            daemon.mkdir(exist_ok=True)
            others = [info.pid for info in Leaf(daemon).members() if info.pid != os.getpid()]
            if others:
                raise CgroupUnusable(f"{self.path} is divided up by process {others[0]} already")
            (daemon / "cgroup.procs").write_text("0", encoding="ascii")
        except OSError as error:
            raise CgroupUnusable(f"{self.path} cannot be divided up: {error.strerror}") from None
        for name in CONTROLLERS:
            try:
                (self.path / "cgroup.subtree_control").write_text(f"+{name}", encoding="ascii")
            except OSError:
                continue  # not there, or something else runs in this cgroup: limits are told to be missing
        self.controllers = frozenset((self.path / "cgroup.subtree_control").read_text(encoding="ascii").split())

    def make_leaf(self, name: str, limits: Limits) -> Leaf:
        """A new leaf for the child of that name. A limit without its controller is left out (see `controllers`).

        Raises: OSError.
        """
        while True:
            path = self.path / f"{_UNSAFE.sub('_', name)[:NAME_MAX]}.{next(self._serials)}"
            try:
                path.mkdir()
            except FileExistsError:
                continue  # a child of an earlier run that cannot be killed
            break
        leaf = Leaf(path)
        try:
            for controller, value in limits.by_controller().items():
                if controller in self.controllers:
                    (path / f"{controller}.max").write_text(value, encoding="ascii")
            if "memory" in self.controllers:
                # All or none, as systemd's OOMPolicy=stop: a wrapper whose worker was killed looks healthy and is not.
                (path / "memory.oom.group").write_text("1", encoding="ascii")
                leaf.memory_max = limits.memory_max
        except OSError:
            leaf.remove()
            raise
        return leaf

    def sweep(self, *, keep: Container[str] = ()) -> tuple[list[ProcessInfo], list[ProcessInfo]]:
        """Kill and remove all leaves but those whose names are in `keep`. Blocks for SWEEP_WAIT at most: run it in a
        thread.

        Returns the processes that were killed and those that are left.
        """
        leaves = [
            Leaf(Path(entry.path))
            for entry in os.scandir(self.path)
            if entry.is_dir(follow_symlinks=False) and _LEAF.fullmatch(entry.name) and entry.name not in keep
        ]
        killed = [info for leaf in leaves for info in leaf.members()]
        for leaf in leaves:
            leaf.kill()
        _wait_empty(leaves)
        left = [info for leaf in leaves if not leaf.remove() for info in leaf.members()]
        return [info for info in killed if info not in left], left


def find_delegated(process: Path = Path("/proc/self")) -> Cgroup:
    """The cgroup that this process may divide up.

    Raises: CgroupUnusable.
    """
    try:
        own = (process / "cgroup").read_text(encoding="utf-8", errors="surrogateescape")
        mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise CgroupUnusable(f"{error.filename} cannot be read: {error.strerror}") from None
    here = locate(own, mounts)
    if here is None:
        raise CgroupUnusable("no cgroup v2 is mounted here")
    # After a start with DelegateSubgroup=, or an earlier `enter` of this very process.
    base = here.parent if here.name == DAEMON else here
    if not any(_attribute(base, mark) == b"1" for mark in _MARKS):
        raise CgroupUnusable(f"{base} was not delegated to mcpd; under systemd, set Delegate=yes")
    if not all(os.access(path, os.W_OK) for path in (base, base / "cgroup.procs", base / "cgroup.subtree_control")):
        raise CgroupUnusable(f"{base} cannot be written to; under systemd, set ProtectControlGroups=no")
    if not (base / "cgroup.kill").exists():
        raise CgroupUnusable("this kernel has no cgroup.kill, which came with Linux 5.14")
    return Cgroup(base)


def locate(own: str, mounts: str) -> Path | None:
    """Where a process's cgroup v2 is in the file system, from its /proc files `cgroup` and `mountinfo`. Pure."""
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), None)
    if path is None:
        return None
    for line in mounts.splitlines():
        mount, _, kind = line.partition(" - ")
        fields = mount.split(" ")
        if kind.split(" ")[0] != "cgroup2" or len(fields) < 5:
            continue
        root, point = (_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field) for field in fields[3:5])
        prefix = root.rstrip("/") + "/"
        if (path.rstrip("/") + "/").startswith(prefix):
            return Path(point) / path[len(prefix) :]
    return None


def in_words(size: int) -> str:
    """A size in bytes as people write it: '64 MiB', '1.5 GiB'."""
    unit, name = next(each for each in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1, "bytes")) if size >= each[0])
    return f"{size / unit:.4g} {name}"


def _tree(path: Path) -> list[Path]:
    """The cgroup and all below it, the lowest first."""
    return [Path(folder) for folder, _, _ in os.walk(path, topdown=False)]


def _read_number(path: Path, key: str) -> int:
    """A value of a file of `key value` lines; 0 when it is not there."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(value) for name, _, value in (line.partition(" ") for line in lines) if name == key), 0)


def _attribute(path: Path, name: str) -> bytes:
    try:
        return os.getxattr(path, name)
    except OSError:
        return b""


def _wait_empty(leaves: list[Leaf]) -> None:
    """Wait until nothing lives in them, SWEEP_WAIT at most: the kernel tells by POLLPRI of `cgroup.events`."""
    for leaf in leaves:
        try:
            fd = os.open(leaf.path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            # The number of leaves shares the time: what was killed at one instant is gone at about one instant.
            while b"populated 1" in os.pread(fd, 256, 0):
                if not poll.poll(SWEEP_WAIT * 1000 / len(leaves)):
                    break
        finally:
            os.close(fd)
