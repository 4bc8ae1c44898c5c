"""Children that outlive the program that started them: `execve` keeps the process, its children and descriptors, and
forgets everything else.

What is not kept by the kernel is written down by `capture` in the old program and read by `adopt` in the new one, which
then is to the child what the old one was: parent, reader, writer and undertaker.

Rules.
1. A child is captured between two steps of the scheduler, when nothing is half done, and only if the exec follows at
   once. If that fails nothing has changed, and the old program goes on.
2. Whatever was read from a child but not used, or accepted for it but not written, travels along.
3. A child that ended meanwhile is a zombie that nobody has waited for: it is adopted like any other, and ends at once.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from mcpd.errors import ConnectionBroken
from mcpd.supervisor import reaper
from mcpd.supervisor.cgroup import Leaf
from mcpd.supervisor.process import Child, ChildSpec, Surroundings
from mcpd.supervisor.registry import Record
from mcpd.supervisor.tree import Tree, pipe_inodes

if TYPE_CHECKING:
    from collections.abc import Iterator


class ChildState(msgspec.Struct, frozen=True, kw_only=True):
    """One child. Descriptors are -1 where our end is closed already; `start` is in clock ticks since boot, `age` in
    seconds.
    """

    name: str
    pid: int
    start: int
    marker: str
    stdin: int
    stdout: int
    stderr: int
    age: float
    unsent: bytes = b""
    """Accepted for its stdin, not in the pipe yet."""
    stderr_lines: tuple[bytes, ...] = ()
    stderr_partial: bytes = b""
    seen: dict[int, int] = {}
    """Members of its tree that may lose their signs: pid to start time."""
    leaf: str = ""
    """The path of its cgroup; "" where it has none."""
    memory_max: int | None = None
    """The limit in bytes that the kernel enforces there."""

    def descriptors(self) -> Iterator[int]:
        """Those that have to survive the exec."""
        return (fd for fd in (self.stdin, self.stdout, self.stderr) if fd >= 0)


class SupervisorState(msgspec.Struct, frozen=True, kw_only=True):
    """What all children have in common. `since`: nothing of ours is older, in clock ticks since boot; `serial`: no
    marker has it yet, nor a later one."""

    since: int
    serial: int
    children: tuple[ChildState, ...]

    def descriptors(self) -> Iterator[int]:
        """Those that have to survive the exec."""
        for child in self.children:
            yield from child.descriptors()


class Adopted:
    """A child process that another program started: what `Child` needs of a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """Wait for it if it has ended; its wait status, None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status


def capture(child: Child) -> ChildState:
    """The child as it is now. Changes nothing."""
    lines, partial = child.stderr.capture()
    return ChildState(
        name=child.name,
        pid=child.pid,
        start=child.tree.start,
        marker=child.tree.marker,
        stdin=child.stdin.fileno(),
        stdout=child.stdout.fileno(),
        stderr=child.stderr.fileno(),
        age=trio.current_time() - child.started,
        unsent=child.stdin.unsent(),
        stderr_lines=lines,
        stderr_partial=partial,
        seen=dict(child.tree.seen),
        leaf=str(child.leaf.path) if child.leaf else "",
        memory_max=child.leaf.memory_max if child.leaf else None,
    )


def adopt(state: ChildState, spec: ChildSpec, *, around: Surroundings) -> Child:
    """The child of the program before this one; the caller runs `Child.run` in a task at once.

    Raises: OSError when it is no child of this process.
    """
    pidfd = os.pidfd_open(state.pid)
    reaper.own(state.pid)
    pipes = pipe_inodes((state.stdin, state.stdout, state.stderr))
    around.registry.record(Record(spec.name, state.pid, state.start, tuple(pipes)))
    child = Child(
        spec,
        Adopted(state.pid),
        pidfd,
        Tree(state.pid, state.start, state.marker, dict(state.seen), pipes),
        tuple(fd if fd >= 0 else _nothing() for fd in (state.stdin, state.stdout, state.stderr)),  # type: ignore[arg-type]
        around,
        Leaf(Path(state.leaf), memory_max=state.memory_max) if state.leaf else None,
    )
    child.started = trio.current_time() - state.age
    child.stderr.recall(state.stderr_lines, state.stderr_partial)
    for end, fd in ((child.stdin, state.stdin), (child.stdout, state.stdout), (child.stderr, state.stderr)):
        if fd < 0:
            end.close()
    if state.unsent:
        with contextlib.suppress(ConnectionBroken):  # rule 3: nobody is there to read it
            child.stdin.write(state.unsent)
    return child


def _nothing() -> int:
    """Stands for an end that is closed, until it is closed again."""
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
