from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.supervisor import supervisor as module
from mcpd.supervisor.confinement import Confinement
from mcpd.supervisor.exits import Exit, SpawnFailed
from mcpd.supervisor.process import Child, ChildSpec, StopLadder, Surroundings, spawn
from mcpd.supervisor.supervisor import Supervisor
from mcpd.supervisor.tree import read_process, scan
from mcpd.supervisor.view import View
from tests.supervisor.processes import HOSTILE, alive, wait_until
from tests.supervisor.trampolines import needs_landlock

QUICK = StopLadder(eof=0.05, term=0.05, kill=10)


def make(mode: str, *arguments: str, stop: StopLadder = QUICK) -> ChildSpec:
    return ChildSpec(
        name=mode,
        argv=(sys.executable, "-ISs", HOSTILE, mode, *arguments),
        env={"PATH": os.environ["PATH"]},
        stop=stop,
    )


def left(supervisor: Supervisor) -> list[int]:
    prefix = supervisor.registry.marker_prefix
    return [info.pid for info in scan().values() if info.marker.startswith(prefix)]


async def test_cancelling_the_supervisor_leaves_nothing(tmp_path):
    supervisor = Supervisor(tmp_path)
    pids = []
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert supervisor.subreaper
        for mode in ("echo", "ignore_term", "grandchildren", "daemonize", "daemonize_scrub"):
            child = await supervisor.spawn(make(mode))
            words = (await child.stdout.receive_some()).split()
            pids += [child.pid, *map(int, words[1:])]
        assert len(supervisor.children()) == 5
        assert alive(*pids) == pids
        nursery.cancel_scope.cancel()
    assert alive(*pids) == []
    assert left(supervisor) == []
    assert supervisor.children() == ()
    assert supervisor.registry.records == ()
    for child in pids:
        assert read_process(child) is None, "reaped"


async def test_children_are_stopped_at_the_same_time(nursery):
    supervisor = Supervisor(None)
    await nursery.start(supervisor.run)
    children = [
        await supervisor.spawn(make("ignore_term", stop=StopLadder(eof=0.5, term=0.5, kill=10))) for _ in range(8)
    ]
    for child in children:
        await child.stdout.receive_some()
    started = trio.current_time()
    await supervisor.stop_all()
    # One after the other, the waits alone would take 8 s.
    assert trio.current_time() - started < 8
    assert [child.exit for child in children] == [Exit(signal=signal.SIGKILL)] * 8
    with pytest.raises(SpawnFailed, match="mcpd is stopping"):
        await supervisor.spawn(make("echo"))


async def test_a_child_that_is_never_made_holds_up_neither_the_others_nor_the_end(monkeypatch):
    monkeypatch.setattr(module, "REPORT_WAIT", 0.05)
    stuck, released = trio.Event(), trio.Event()
    made: list[Child] = []

    async def hang(spec: ChildSpec, *, around: Surroundings) -> Child:
        with trio.CancelScope(shield=True):  # as when a file system does not answer
            stuck.set()
            await released.wait()
            made.append(await spawn(spec, around=around))
        return made[0]

    supervisor = Supervisor(None)
    async with trio.open_nursery() as callers:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            other = await supervisor.spawn(make("echo"))
            monkeypatch.setattr(module, "spawn", hang)

            async def call() -> None:
                with pytest.raises(SpawnFailed, match="mcpd has stopped"):
                    await supervisor.spawn(make("echo"))

            callers.start_soon(call)
            await stuck.wait()
            nursery.cancel_scope.cancel()
        assert supervisor.making
        assert alive(other.pid) == []
        released.set()
    assert made[0].exit == Exit(signal=signal.SIGKILL)
    made[0].close()


async def test_a_child_that_ends_is_forgotten_and_another_takes_its_place(nursery):
    supervisor = Supervisor(None)
    await nursery.start(supervisor.run)
    for _ in range(3):
        child = await supervisor.spawn(make("die", "3"))
        assert await child.wait() == Exit(code=3)
        await child.stop()
    await wait_all_tasks_blocked()
    assert supervisor.children() == ()


async def test_a_child_that_cannot_start_gives_its_slot_back(nursery):
    supervisor = Supervisor(None, spawn_concurrency=1)
    await nursery.start(supervisor.run)
    for _ in range(3):
        with pytest.raises(SpawnFailed):
            await supervisor.spawn(ChildSpec(name="x", argv=("mcpd-no-such-command",), env={}))
    assert supervisor.slots.held == 0


async def test_a_start_slot_is_free_again_when_the_child_speaks_or_ends(nursery):
    supervisor = Supervisor(None, spawn_concurrency=1)
    await nursery.start(supervisor.run)
    speaker = await supervisor.spawn(make("echo"))
    assert supervisor.slots.held == 1
    await speaker.stdout.receive_some()
    assert supervisor.slots.held == 0
    dead = await supervisor.spawn(make("die", "0"))
    await dead.wait()
    assert supervisor.slots.held == 0
    await dead.stop()


async def test_many_children_start_no_more_than_a_few_at_a_time(nursery):
    supervisor = Supervisor(None, spawn_concurrency=3)
    await nursery.start(supervisor.run)
    most = 0

    async def one() -> None:
        nonlocal most
        child = await supervisor.spawn(make("echo"))
        most = max(most, supervisor.slots.held)
        await child.stdout.receive_some()
        await child.stop()

    async with trio.open_nursery() as starting:
        for _ in range(10):
            starting.start_soon(one)
    assert most == 3


async def test_cancelling_while_children_are_made_leaves_nothing():
    supervisor = Supervisor(None)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)

        async def one() -> None:
            try:
                await supervisor.spawn(make("ignore_term"))
            except SpawnFailed:
                pass

        async with trio.open_nursery() as starting:
            for _ in range(6):
                starting.start_soon(one)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert left(supervisor) == []
    assert supervisor.children() == ()


async def test_spawn_without_run_is_refused():
    supervisor = Supervisor(None)
    with pytest.raises(SpawnFailed, match="mcpd is stopping"):
        await supervisor.spawn(make("echo"))


async def test_dead_orphans_are_reaped_while_the_daemon_runs(nursery):
    supervisor = Supervisor(None)
    await nursery.start(supervisor.run)
    child = await supervisor.spawn(make("daemonize_scrub"))
    worker = int((await child.stdout.receive_some()).split()[1])
    assert read_process(worker).ppid == os.getpid()
    os.kill(worker, signal.SIGKILL)
    await wait_until(lambda: read_process(worker) is None)
    await child.stop()


def test_outside_the_main_thread_it_looks_now_and_then(monkeypatch):
    monkeypatch.setattr("mcpd.supervisor.supervisor.REAP_INTERVAL", 0.01)

    async def main() -> None:
        supervisor = Supervisor(None)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            child = await supervisor.spawn(make("daemonize_scrub"))
            worker = int((await child.stdout.receive_some()).split()[1])
            os.kill(worker, signal.SIGKILL)
            await wait_until(lambda: read_process(worker) is None)
            nursery.cancel_scope.cancel()

    errors: list[BaseException] = []

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert errors == []


async def test_with_a_child_that_has_a_view_mcpd_leaves_no_core(nursery, monkeypatch):
    needs_landlock()
    calls = []
    monkeypatch.setattr(module, "leave_no_core", lambda: calls.append("left"))
    supervisor = Supervisor(None)
    await nursery.start(supervisor.run)
    plain = make("echo")
    shut = replace(plain, confinement=Confinement(no_new_privileges=True, view=View(("/",))))
    for spec, expected in ((plain, 0), (shut, 1)):
        child = await supervisor.spawn(spec)
        assert len(calls) == expected
        await child.stop()
