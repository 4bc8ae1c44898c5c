"""One child process: its start, its pipes, its end.

Theory of operation
    1. One task, `Child.run`, lives the child's life from start to grave: it drains stderr, flushes stdin,
       notices the end, goes down the ladder when asked to stop, and returns when nothing of the tree is
       left. Others ask and wait.
    2. The end is noticed through a pidfd without waiting for the process: as a zombie it keeps its number,
       so that its session and group can be killed safely. It is waited for (reaped) last.
    3. The ladder: end of stdin, SIGTERM, SIGKILL, each with its time. What a child leaves behind when it
       ends (a wrapper whose worker survives) gets SIGTERM and SIGKILL the same way.
    4. Every wait is bounded. Only a process that hangs in the kernel can outlive the ladder; it stays
       recorded.

PR_SET_PDEATHSIG is not used: it follows the thread that forked, and that is one of Trio's worker threads,
which ends when it was idle for a while.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from mcpd.supervisor import reaper
from mcpd.supervisor.cgroup import Cgroup, Leaf, Limits
from mcpd.supervisor.confinement import Confinement, has_no_new_privileges
from mcpd.supervisor.exits import Exit
from mcpd.supervisor.launch import Process, launch, make_leaf, make_pipes, name_failure, settle
from mcpd.supervisor.pipes import PipeBudget, PipeReader, PipeWriter
from mcpd.supervisor.registry import Record, Registry
from mcpd.supervisor.stderr import StderrTail
from mcpd.supervisor.tree import (
    MARKER_NAME,
    ProcessInfo,
    Scanner,
    Tree,
    kill,
    pipe_inodes,
    read_end,
    scan,
    signal_group,
    terminate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcpd.supervisor.logs import Voice

LOOK_MIN = 0.005
LOOK_MAX = 0.05
"""Seconds between two looks whether a dying tree is gone; the leader's own end is an event and needs no
looking."""

STOP_SLACK = 5.0
"""Seconds beyond the ladder's own within which `stop` returns whatever happens: scans on a machine under
load."""


@dataclass(frozen=True, slots=True)
class StopLadder:
    """Seconds to wait after the end of stdin, after SIGTERM and after SIGKILL."""

    eof: float = 2.0
    term: float = 2.0
    kill: float = 2.0

    @property
    def total(self) -> float:
        return self.eof + self.term + self.kill


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start. `env` is the complete environment (see `environment`), to which only the marker is
    added."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None = None
    stop: StopLadder = field(default_factory=StopLadder)
    limits: Limits = field(default_factory=Limits)
    """Enforced where there is a cgroup to divide up."""
    confinement: Confinement = field(default_factory=Confinement)
    on_stderr: Callable[[str], None] | None = None
    """Called with lines of stderr, rate-limited, secrets not removed."""
    voice: Voice | None = None
    """Where its stderr is kept beyond its life."""


@dataclass(frozen=True, slots=True)
class ChildStatistics:
    """For status and metrics; sizes in bytes, `started` on Trio's clock."""

    name: str
    pid: int
    started: float
    exit: Exit | None
    stdin_bytes: int
    stdin_queued: int
    stdout_bytes: int
    stderr_bytes: int
    stderr_dropped: int


@dataclass(slots=True)
class Surroundings:
    """What all children of one supervisor share."""

    registry: Registry
    scanner: Scanner
    pipes: PipeBudget
    since: int
    """When it began, in clock ticks since boot. Nothing of ours is older."""
    cgroup: Cgroup | None = None
    """To be divided up between them."""
    no_new_privileges: bool = field(default_factory=has_no_new_privileges)
    """Whether every child has it from mcpd itself."""

    @classmethod
    def of(cls, registry: Registry, *, since: int | None = None) -> Surroundings:
        began = reaper.ticks_now() if since is None else since
        return cls(registry, Scanner(began), PipeBudget(), began)


async def spawn(spec: ChildSpec, *, around: Surroundings) -> Child:
    """Start the process; the caller runs `Child.run` in a task at once.

    Raises: SpawnFailed.
    Cancellation: only before the process is made; from then on it is returned.
    """
    registry = around.registry
    marker = registry.next_marker()
    # First, because a search for it reads only the first part of a large environment.
    environment = {MARKER_NAME: marker, **{k: v for k, v in spec.env.items() if k != MARKER_NAME}}
    leaf: Leaf | None = None
    plan = partial(spec.confinement.plan, no_new_privileges=around.no_new_privileges)
    confinement = await trio.to_thread.run_sync(plan) if spec.confinement.blocks else plan()
    with ExitStack() as on_failure, ExitStack() as always:
        try:
            if around.cgroup is not None:
                leaf = make_leaf(around.cgroup, spec.name, spec.limits)
                on_failure.callback(leaf.remove)
                on_failure.callback(leaf.kill)
            theirs, ours = make_pipes(on_failure, always)
            pipes = pipe_inodes(ours)
            # Before it exists: it may shed all its signs before its pid is known here, and we be killed then.
            expected = registry.expect(spec.name, reaper.ticks_now(), pipes)
            on_failure.callback(registry.forget, expected)
            with reaper.starting():
                launched = await launch(
                    spec.argv,
                    env=environment,
                    cwd=spec.cwd,
                    fds=theirs,
                    leaf=leaf,
                    confinement=confinement,
                    marker=MARKER_NAME,
                )
                reaper.own(launched.process.pid)
            pidfd, info = await settle(launched)
            on_failure.callback(os.close, pidfd)
        except (OSError, ValueError, IndexError) as error:
            raise name_failure(error, spec.argv, env=spec.env, cwd=spec.cwd) from error
        on_failure.pop_all()
    registry.record(Record(spec.name, info.pid, info.start, tuple(pipes)), expected=expected)
    return Child(spec, launched.process, pidfd, Tree(info.pid, info.start, marker, pipes=pipes), ours, around, leaf)


class Child:
    """A running child. `stdin` and `stdout` belong to whoever speaks to it; everything else happens in `run`.

    The owner calls `stop` when it is done with it, also after the child ended by itself: that closes the
    pipes.
    """

    def __init__(
        self,
        spec: ChildSpec,
        process: Process,
        pidfd: int,
        tree: Tree,
        fds: tuple[int, int, int],
        around: Surroundings,
        leaf: Leaf | None = None,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.pid = process.pid
        self.started = trio.current_time()
        self.tree = tree
        self.leaf = leaf
        """The cgroup that it and all of its tree live in; None without one."""
        self.exit: Exit | None = None
        """How it ended; None while it runs."""
        self.on_end: Callable[[], None] | None = None
        """Called once, when the process has ended."""
        self._process = process
        self._pidfd = pidfd
        self._around = around
        self._large = [around.pipes.enlarge(fd) for fd in fds[:2]]
        self.stdin = PipeWriter(fds[0])
        self.stdout = PipeReader(fds[1])
        say = spec.voice.say if spec.voice is not None else None
        self.stderr = StderrTail(fds[2], on_line=spec.on_stderr, say=say)
        self._changed = trio.Event()
        self._ended = trio.Event()
        self._gone = trio.Event()
        self._drain = False

    async def wait(self) -> Exit:
        """Return the moment the process ends; what it started may still be there (see `gone`). Any number
        may wait."""
        await self._ended.wait()
        assert self.exit is not None
        return self.exit

    async def gone(self) -> None:
        """Wait until nothing of its tree is left."""
        await self._gone.wait()

    async def stop(self, *, drain: bool = True) -> Exit:
        """Go down the ladder, and return when the whole tree is gone.

        With `drain`, stdout is read and dropped from now on, and a task that waits for it sees its end. Pass
        False while a task keeps reading, for the last replies.

        Cancellation: shielded; bounded by the ladder and STOP_SLACK.
        """
        if drain:
            self._drain = True
            self.stdout.take_over()
        self._changed.set()
        with trio.move_on_after(2 * self.spec.stop.total + STOP_SLACK, shield=True):
            await self._gone.wait()
        if not self._gone.is_set():
            self.kill_now()
        if drain:
            self.close()
        return self.exit or Exit()

    def kill_now(self) -> None:
        """Kill the tree without waiting for anything. `run` notices, cleans up and reaps as ever."""
        if self._gone.is_set():
            return
        if self.leaf is not None:
            self.leaf.kill()
        signal_group(self.pid, signal.SIGKILL)
        kill(self.tree.members(scan(self.tree.start)))

    def close(self) -> None:
        """Close our ends of the pipes."""
        self.stdin.close()
        self.stdout.close()
        self.stderr.close()

    def statistics(self) -> ChildStatistics:
        return ChildStatistics(
            name=self.name,
            pid=self.pid,
            started=self.started,
            exit=self.exit,
            stdin_bytes=self.stdin.written,
            stdin_queued=self.stdin.queued,
            stdout_bytes=self.stdout.received,
            stderr_bytes=self.stderr.received,
            stderr_dropped=self.stderr.dropped,
        )

    async def run(self) -> None:
        """The child's life; returns when nothing of it is left.

        Cancellation: shielded, since a child must never be left alone. To end it, call `stop`; it is bounded.
        """
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.stdin.run)
                nursery.start_soon(self.stderr.run)
                nursery.start_soon(self._notice_end)
                await self._changed.wait()
                killed = self.exit is None and await self._descend(nursery)
                await self._bury(killed=killed)
                self.stderr.catch_up()
                nursery.cancel_scope.cancel()
            self._reap()

    async def _notice_end(self) -> None:
        await trio.lowlevel.wait_readable(self._pidfd)
        while (how := read_end(self._pidfd)) is None:  # noqa: ASYNC110 - the end of a debugger tells nobody
            await trio.sleep(LOOK_MAX)
        if self.leaf is not None and how.failed:
            how = replace(how, out_of_memory=self.leaf.out_of_memory())
        self._end(how)

    def _end(self, how: Exit) -> None:
        self.exit = how
        self._ended.set()
        self._changed.set()
        if self.on_end is not None:
            self.on_end()

    async def _descend(self, nursery: trio.Nursery) -> bool:
        """The ladder; whether SIGKILL was needed. On return the process has ended, or cannot be ended."""
        ladder = self.spec.stop
        await self._members()  # whoever loses its parent on the way is remembered
        if self._drain:
            nursery.start_soon(self.stdout.drain)
        self.stdin.close()
        if await self._ends_within(ladder.eof):
            return False
        members = await self._members()
        # Each process once: to some programs a second SIGTERM means "at once".
        signal_group(self.pid, signal.SIGTERM, signal.SIGCONT)
        terminate(info for info in members if info.pgid != self.pid)
        if await self._ends_within(ladder.term):
            return False
        signal_group(self.pid, signal.SIGKILL)
        if self.leaf is not None:
            self.leaf.kill()
        else:
            kill(await self._look())
        if not await self._ends_within(ladder.kill):
            self._end(Exit())
        return True

    async def _bury(self, *, killed: bool) -> None:
        """End what the process left behind: SIGTERM first, which a worker that holds a lock deserves, then
        SIGKILL."""
        self.stdin.close()
        ladder = self.spec.stop
        if self.leaf is not None:
            await self._empty(self.leaf, killed=killed)
        # Also with a cgroup: who was moved out of it (a container of podman's) is found by the other signs.
        left = await self._look()
        if left and not killed:
            terminate(left)
            left = await self._look_until_none(ladder.term, again=None)
        if left:
            await self._look_until_none(ladder.kill, again=kill)

    async def _empty(self, leaf: Leaf, *, killed: bool) -> None:
        """The same for the cgroup; on return nothing lives in it, or nothing that can be ended."""
        if leaf.populated and not killed:
            terminate(leaf.members())
            await leaf.wait_empty(self.spec.stop.term)
        if leaf.populated:
            leaf.kill()
            await leaf.wait_empty(self.spec.stop.kill)

    async def _members(self) -> list[ProcessInfo]:
        """The living processes of the tree; the cgroup knows them without a search."""
        return await self._look() if self.leaf is None else self.leaf.members()

    async def _look(self) -> list[ProcessInfo]:
        snapshot = await self._around.scanner.snapshot()
        await reaper.claim_orphans(self.tree, snapshot)
        members = self.tree.members(snapshot)
        reaper.reap_adopted()
        return members

    async def _look_until_none(
        self, seconds: float, *, again: Callable[[list[ProcessInfo]], None] | None
    ) -> list[ProcessInfo]:
        deadline = trio.current_time() + seconds
        pause = LOOK_MIN
        while left := await self._look():
            if again is not None:
                again(left)
            if trio.current_time() >= deadline:
                break
            await trio.sleep(pause)
            pause = min(2 * pause, LOOK_MAX)
        return left

    async def _ends_within(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self._ended.wait()
        return self._ended.is_set()

    def _reap(self) -> None:
        """Let go of the number, and of everything that goes by it. Decide, then do: no await in here."""
        os.close(self._pidfd)
        self.stdin.close()
        self.stderr.close()
        while self._large:
            self._around.pipes.give_back(self._large.pop())
        if self.leaf is not None:
            self.leaf.remove()
        if self._process.poll() is not None:
            reaper.disown(self.pid)
            self._around.registry.forget(self.pid)
        # Otherwise it hangs in the kernel: it stays ours, and stays recorded for the next sweep.
        reaper.reap_adopted()
        self._gone.set()
