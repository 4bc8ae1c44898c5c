"""How a daemon's children are told from everybody else's: by a marker in their environment and by a file.

    MCPD_OWNER=<instance>.<daemon pid>.<daemon start time>.<serial>

`instance` is a random word kept in the state directory, so a daemon knows the children of its predecessors
and leaves alone those of a daemon with another state directory. Several daemons may use one state directory
at the same time (one for each stdio client); pid and start time say which of them a child belongs to.

The marker can be lost (sudo, env -i), so the direct children are also written to `children/<pid>.<start
time>` in the state directory: one file for each daemon, replaced as a whole. It is not synced to disk: it
has to survive our death, and after the machine's there is nothing to sweep.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpd.supervisor.tree import read_process

if TYPE_CHECKING:
    from pathlib import Path

    from mcpd.supervisor.tree import ProcessInfo

INSTANCE_FILE = "instance"
CHILDREN_DIR = "children"
PRIVATE = 0o600

_INSTANCE = re.compile(r"[0-9a-f]{32}")
_MARKER = re.compile(r"([0-9a-f]{32})\.(\d{1,10})\.(\d{1,20})\.(\d{1,20})")


@dataclass(frozen=True, slots=True)
class Owner:
    """A daemon: `start` is its start time in clock ticks since boot."""

    pid: int
    start: int

    @property
    def alive(self) -> bool:
        info = read_process(self.pid)
        if info is None:
            return _exists(self.pid)
        return info.start == self.start and not info.dead


def _exists(pid: int) -> bool:
    """Whether there is such a process, though /proc does not show it (hidepid): to take the living for dead would end
    its children."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@dataclass(frozen=True, slots=True)
class Marker:
    """The parsed value of MCPD_OWNER."""

    instance: str
    owner: Owner
    serial: int


@dataclass(frozen=True, slots=True)
class Record:
    """A direct child in the file. Its pid is also its session and its process group."""

    name: str
    pid: int
    start: int
    pipes: tuple[int, ...] = ()
    """Inodes of its standard streams: whoever has one of them open is of its tree."""


def parse_marker(text: str) -> Marker | None:
    match = _MARKER.fullmatch(text)
    if match is None:
        return None
    instance, pid, start, serial = match.groups()
    return Marker(instance, Owner(int(pid), int(start)), int(serial))


class Registry:
    """This daemon's children. Without a state directory there is only the marker, and nothing to sweep."""

    def __init__(self, state_dir: Path | None) -> None:
        info = read_process(os.getpid())
        if info is None:
            raise OSError("the process table is not readable: is /proc mounted?")
        self.owner = Owner(info.pid, info.start)
        self.state_dir = state_dir
        self.instance = secrets.token_hex(16) if state_dir is None else _read_instance(state_dir)
        self._serials = itertools.count(1)
        self._records: dict[int, Record] = {}
        self._file: Path | None = None
        if state_dir is not None:
            folder = state_dir / CHILDREN_DIR
            folder.mkdir(mode=0o700, exist_ok=True)
            self._file = folder / f"{self.owner.pid}.{self.owner.start}"
            with suppress(OSError):
                # What the program before an upgrade wrote stays until it is known anew.
                self._file.touch(mode=PRIVATE)

    @property
    def records(self) -> tuple[Record, ...]:
        return tuple(self._records.values())

    @property
    def marker_prefix(self) -> str:
        """What the markers of all children of this daemon begin with."""
        return f"{self.instance}.{self.owner.pid}.{self.owner.start}."

    def knows(self, process: ProcessInfo) -> bool:
        """Whether it is a daemon of this state directory."""
        if self.state_dir is None:
            return False
        return (self.state_dir / CHILDREN_DIR / f"{process.pid}.{process.start}").exists()

    def next_marker(self) -> str:
        return f"{self.marker_prefix}{self.next_serial()}"

    def count_from(self, serial: int) -> None:
        """The next marker's number: those before it are taken, by children of the program before this one."""
        self._serials = itertools.count(serial)

    def next_serial(self) -> int:
        """A number that no child has, nor will have."""
        return next(self._serials)

    def expect(self, name: str, start: int, pipes: frozenset[int]) -> int:
        """A child with these pipes is about to be made; what its record goes by until it is there, or forgotten."""
        number = -self.next_serial()  # no pid, and nobody else's
        self.record(Record(name, number, start, tuple(pipes)))
        return number

    def record(self, record: Record, *, expected: int = 0) -> None:
        """Call it at once after the start, with what `expect` gave. If the file cannot be written the child is still
        marked.
        """
        self._records.pop(expected, None)
        self._records[record.pid] = record
        self._write()

    def forget(self, pid: int) -> None:
        if self._records.pop(pid, None) is not None:
            self._write()

    def close(self) -> None:
        """Nothing is left to be swept, unless there is. Until then the file is there, also without children: others
        know the daemon by it."""
        if self._file is not None and not self._records:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._file is None:
            return
        try:
            new = self._file.with_name(self._file.name + ".new")
            _write_private(new, encode_records(self.records))
            new.replace(self._file)
        except OSError:
            # A full or read-only disk must not keep a child from starting; the marker is enough in nearly
            # all cases.
            return


def encode_records(records: tuple[Record, ...]) -> bytes:
    """The file: which boot and which pid namespace the numbers are of, and the numbers."""
    return json.dumps(
        {
            "boot": read_boot_id(),
            "namespace": read_pid_namespace("self"),
            "children": [[each.name, each.pid, each.start, each.pipes] for each in records],
        }
    ).encode()


def decode_records(data: bytes) -> tuple[Record, ...] | None:
    """The children in a file; () when it is of an earlier boot or damaged, None when of another pid
    namespace."""
    try:
        document = json.loads(data)
        if document["boot"] != read_boot_id():
            return ()
        if document["namespace"] != read_pid_namespace("self"):
            return None
        return tuple(
            # Of a version before this one there are no pipes.
            Record(str(name), int(pid), int(start), tuple(int(inode) for inodes in pipes for inode in inodes))
            for name, pid, start, *pipes in document["children"]
        )
    except (ValueError, KeyError, TypeError):
        return ()


def read_boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def read_pid_namespace(pid: int | str) -> str:
    """'pid:[4026531836]'; "" when it is not ours to read."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _read_instance(state_dir: Path) -> str:
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state_dir / INSTANCE_FILE
    while True:
        try:
            text = path.read_text(encoding="ascii", errors="replace").strip()
            if _INSTANCE.fullmatch(text):
                return text
            damaged = True  # so no process can carry it
        except FileNotFoundError:
            damaged = False
        new = state_dir / f"{INSTANCE_FILE}.{os.getpid()}.new"
        _write_private(new, secrets.token_hex(16).encode() + b"\n")
        try:
            if damaged:
                new.replace(path)
            else:
                # A link fails where a rename would replace: of two daemons that start together, one word
                # wins.
                os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink(missing_ok=True)


def _write_private(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
