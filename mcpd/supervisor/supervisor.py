"""All children of the daemon: swept before the first, started a few at a time, and none left after the
last."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

import trio

from mcpd.supervisor import reaper
from mcpd.supervisor.adoption import ChildState, SupervisorState, adopt, capture
from mcpd.supervisor.cgroup import Cgroup, CgroupUnusable, find_delegated
from mcpd.supervisor.confinement import leave_no_core
from mcpd.supervisor.exits import SpawnFailed
from mcpd.supervisor.launch import REPORT_WAIT
from mcpd.supervisor.logs import Logs
from mcpd.supervisor.process import STOP_SLACK, Child, ChildSpec, Surroundings, spawn
from mcpd.supervisor.registry import Registry, parse_marker
from mcpd.supervisor.slots import Claim, StartSlots
from mcpd.supervisor.strays import Strays, Swept
from mcpd.supervisor.tree import ProcessInfo, Snapshot, become_subreaper, kill_until_gone, with_descendants
from mcpd.supervisor.usage import Usage, measure

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path

SPAWN_CONCURRENCY = 8
"""Children that start up at the same time: enough to keep a few cores busy, few enough that each meets the
deadline of its handshake on two. Overridden by `limits.spawn_concurrency`."""

REAP_INTERVAL = 5.0
"""Seconds between two looks for dead orphans, where SIGCHLD cannot be had (outside the main thread). Zombies
cost a line in the process table each, so they may wait a little."""


class Supervisor:
    """Starts and stops children. `run` must be running before `spawn` is called."""

    def __init__(
        self, state_dir: Path | None, *, spawn_concurrency: int = SPAWN_CONCURRENCY, private: Iterable[Path] = ()
    ) -> None:
        self.registry = Registry(state_dir)
        self.private = tuple(os.path.abspath(path) for path in private)
        """Directories that no child with a view of the file system is to read."""
        self.logs = Logs()
        """What children said."""
        self.slots = StartSlots(spawn_concurrency)
        self.swept = Swept((), ())
        """What `run` found at its start."""
        self.subreaper = False
        """Whether orphaned descendants come to us. Without it, only marker, session and group find them."""
        self.cgroup_missing = "no child was started yet"
        """Why there is no cgroup for each child; '' when there is."""
        self._around = Surroundings.of(self.registry)
        self._children: dict[int, Child] = {}
        self._nursery: trio.Nursery | None = None
        self._closing = False
        self._ended = False
        self._left: dict[int, ChildState] = {}
        """Of the program before, not adopted yet."""
        self._unwanted: list[int] = []
        self._making = 0
        self._made = trio.lowlevel.ParkingLot()

    async def run(self, *, task_status: trio.TaskStatus[Swept] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Sweep strays, then serve until cancelled; `started` hands over what was swept.

        Cancellation: stops all children, bounded by the longest ladder, before it passes on.
        Resources: on return no process is left that was started here, nor any that those started.
        """
        self.subreaper = become_subreaper()
        self.swept = await trio.to_thread.run_sync(self._sweep)
        try:
            # Children outlive the task that asked for them by the time it takes to bury them: their lives
            # are in here.
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._reap_orphans)
                for pid in self._unwanted:
                    nursery.start_soon(self._stop_unwanted, pid)
                task_status.started(self.swept)
                try:
                    await trio.sleep_forever()
                finally:
                    await self.stop_all()
        finally:
            self._nursery, self._ended = None, True
            with trio.CancelScope(shield=True):
                await self._end_rest()
            self.registry.close()
        raise AssertionError("sleep_forever returned")

    async def spawn(self, spec: ChildSpec, claim: Claim | None = None) -> Child:
        """Start a child, after waiting for a free start slot with this claim. It is drained, watched and buried here;
        its owner reads, writes, and calls `Child.stop`.

        Raises: SpawnFailed.
        """
        slot = await self.slots.acquire(claim)
        self._making += 1
        try:
            if self._nursery is None or self._closing:
                raise SpawnFailed("mcpd is stopping")
            self._guard(spec)
            child = await spawn(spec, around=self._around)
            if self._ended:
                child.kill_now()
                await child.run()
                raise SpawnFailed("mcpd has stopped")
            # No await from here on: a child is either not made or looked after.
            child.stdout.on_first = slot.release
            child.on_end = slot.release
            self._children[child.pid] = child
            self._nursery.start_soon(self._live, child)
        except BaseException:
            slot.release()
            raise
        finally:
            self._making -= 1
            self._made.unpark_all()
            # While it was made, nothing could be reaped.
            reaper.reap_adopted()
        return child

    @property
    def making(self) -> bool:
        """Whether a process is just being made, of which nothing is known yet."""
        return self._making > 0

    def capture(self) -> SupervisorState:
        """What a program needs to be told that takes this one's place in the process. Changes nothing."""
        children = tuple(capture(child) for child in self._children.values())
        return SupervisorState(since=self._around.since, serial=self.registry.next_serial(), children=children)

    def inherit(self, state: SupervisorState, wanted: Container[int]) -> None:
        """Take the place of the program before; called once, before `run`. Of its children, those of these pids wait to
        be adopted; `run` stops the others.
        """
        self._left = {child.pid: child for child in state.children}
        self._unwanted = [child.pid for child in state.children if child.pid not in wanted]
        self._around = Surroundings.of(self.registry, since=state.since)
        self.registry.count_from(state.serial)
        for child in state.children:
            reaper.own(child.pid)

    def adopt(self, pid: int, spec: ChildSpec) -> Child:
        """Be to a child of the program before what that was. Raises: SpawnFailed."""
        if self._nursery is None or self._closing:
            raise SpawnFailed("mcpd is stopping")
        state = self._left.pop(pid, None)
        if state is None:
            raise SpawnFailed(f"pid {pid} was not left to this program")
        self._guard(spec)
        try:
            child = adopt(state, spec, around=self._around)
        except OSError as error:
            reaper.disown(pid)
            raise SpawnFailed(f"pid {pid} cannot be taken over: {error.strerror}") from None
        self._children[child.pid] = child
        self._nursery.start_soon(self._live, child)
        return child

    def _guard(self, spec: ChildSpec) -> None:
        """Where a child is not to read what mcpd reads, it shall not read mcpd either: a process of its user could have
        it leave a core file, by limits that it may set."""
        if spec.confinement.view:
            leave_no_core()

    async def usage(self) -> dict[str, Usage]:
        """What the processes of each server use now, by its name."""
        return await measure(self.children(), self._around.scanner)

    def children(self) -> tuple[Child, ...]:
        """Those of which something may still be there."""
        return tuple(self._children.values())

    async def stop_all(self) -> None:
        """Stop all children at the same time, and refuse new ones. Shielded; bounded by the longest ladder, and where
        one is just being made by the time that this may take."""
        self._closing = True
        with trio.CancelScope(shield=True):
            while self._making or self._children:
                children = self.children()
                if not children:
                    with trio.move_on_after(REPORT_WAIT) as scope:
                        await self._made.park()
                    if scope.cancelled_caught:
                        return
                    continue
                bound = max(2 * child.spec.stop.total for child in children) + 2 * STOP_SLACK
                with trio.move_on_after(bound) as scope:
                    async with trio.open_nursery() as nursery:
                        for child in children:
                            nursery.start_soon(child.stop)
                if scope.cancelled_caught:
                    return

    async def _stop_unwanted(self, pid: int) -> None:
        """A child that nothing here is configured to go on with."""
        spec = ChildSpec(self._left[pid].name, (), {})
        try:
            await self.adopt(pid, spec).stop()
        except SpawnFailed:
            return  # it is no child of ours, and there is nothing to stop

    @property
    def cgroup(self) -> Cgroup | None:
        """The cgroup that is divided up between the children, once `run` has begun."""
        return self._around.cgroup

    @property
    def no_new_privileges(self) -> bool:
        """Whether nothing that mcpd starts can gain privileges, because mcpd itself cannot."""
        return self._around.no_new_privileges

    def _sweep(self) -> Swept:
        """What a killed daemon left: in our cgroup, where what forks faster than it is found ends at one instant, and
        what is marked or recorded."""
        inside = self._sweep_cgroup()
        marked = Strays(self.registry).sweep()
        # A child that was just being made is still in the leaf of the daemon that made it: now it is gone.
        again = self._sweep_cgroup() if self.cgroup is None else Swept((), ())
        return Swept((*inside.killed, *marked.killed, *again.killed), (*inside.left, *marked.left, *again.left))

    def _sweep_cgroup(self) -> Swept:
        try:
            cgroup = find_delegated()
            cgroup.enter()
        except CgroupUnusable as error:
            self.cgroup_missing = str(error)
            return Swept((), ())
        self._around.cgroup, self.cgroup_missing = cgroup, ""
        killed, left = cgroup.sweep(keep={child.leaf.rpartition("/")[2] for child in self._left.values()})
        return Swept(tuple(killed), tuple(left))

    async def _live(self, child: Child) -> None:
        try:
            await child.run()
        finally:
            del self._children[child.pid]

    async def _reap_orphans(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            while True:
                await trio.sleep(REAP_INTERVAL)
                reaper.reap_adopted()
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            async for _ in signals:
                reaper.reap_adopted()

    async def _end_rest(self) -> None:
        """Kill whatever still carries one of our markers, and orphans that came to us without one."""
        owner = self.registry.owner
        born = self._around.since

        def find(snapshot: Snapshot) -> list[ProcessInfo]:
            roots = {info.pid for info in reaper.adopted(snapshot, since=born)}
            for info in snapshot.values():
                marker = parse_marker(info.marker) if info.marker else None
                if marker and marker.owner == owner and marker.instance == self.registry.instance:
                    roots.add(info.pid)
            found = with_descendants(snapshot, roots) - {os.getpid()}
            return [snapshot[pid] for pid in found if not snapshot[pid].dead]

        def end() -> None:
            if self.cgroup is not None:
                self.cgroup.sweep()
            kill_until_gone(find, since=born)

        await trio.to_thread.run_sync(end)
        reaper.reap_adopted()
