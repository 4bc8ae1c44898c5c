# ruff: noqa: TID251 - processes that no supervisor started are what is tested here
from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from mcpd.supervisor import tree
from mcpd.supervisor.tree import (
    MARKER_NAME,
    ProcessInfo,
    Scanner,
    Tree,
    ancestors,
    become_subreaper,
    kill,
    kill_until_gone,
    read_marker,
    read_process,
    scan,
    send_signal,
    signal_group,
    terminate,
    with_descendants,
)
from tests.supervisor.processes import HOSTILE

MARKER = f"test.{os.getpid()}"
"""Of this run alone: others may run at the same time."""


@pytest.fixture
def start():
    """Starts hostile.py in a session of its own; what it started is killed at the end."""
    processes = []

    def start(mode: str, marker: str = MARKER) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-ISs", HOSTILE, mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={MARKER_NAME: marker, "PATH": os.environ["PATH"]},
            start_new_session=True,
        )
        processes.append(process)
        process.line = process.stdout.readline().split()
        return process

    yield start
    for process in processes:
        signal_group(process.pid, signal.SIGKILL)
        process.communicate()


def fake(pid: int, ppid: int = 1, pgid: int = 0, sid: int = 0, start: int = 100, **rest) -> ProcessInfo:
    return ProcessInfo(
        pid, rest.pop("state", "S"), ppid, pgid or pid, sid or pid, start=start, marker=rest.pop("marker", "")
    )


def snapshot(*processes: ProcessInfo) -> dict[int, ProcessInfo]:
    return {each.pid: each for each in processes}


def members(tree: Tree, *processes: ProcessInfo) -> set[int]:
    return {each.pid for each in tree.members(snapshot(*processes))}


def test_members_by_each_sign():
    tree = Tree(10, 100, "m.1")
    assert members(
        tree,
        fake(10),
        fake(11, ppid=10),
        fake(12, ppid=11),
        fake(13, sid=10),
        fake(14, pgid=10),
        fake(15, marker="m.1"),
        fake(16, ppid=15),
        fake(20),
        fake(21, marker="m.2"),
        fake(22, marker="m.1", state="Z"),
    ) == {10, 11, 12, 13, 14, 15, 16}


def test_members_that_lost_all_their_signs_are_remembered():
    tree = Tree(10, 100, "m.1")
    assert members(tree, fake(10), fake(11, ppid=10)) == {10, 11}
    assert members(tree, fake(11)) == {11}
    assert members(tree, fake(11, start=200)) == set(), "the number was used again"


def test_numbers_of_a_leader_that_was_waited_for_mean_nothing():
    tree = Tree(10, 100, "m.1")
    assert members(tree, fake(10, state="Z"), fake(11, sid=10)) == {11}
    tree = Tree(10, 100, "m.1")
    assert members(tree, fake(10, start=200), fake(11, sid=10)) == set()
    assert members(tree, fake(11, sid=10)) == set()


def test_a_tree_never_contains_this_process():
    tree = Tree(10, 100, "m.1")
    assert members(tree, fake(10), fake(os.getpid(), ppid=10)) == {10}


def test_descendants_and_ancestors():
    found = snapshot(fake(1, ppid=0), fake(2), fake(3, ppid=2), fake(4, ppid=3), fake(5))
    assert with_descendants(found, [3]) == {3, 4}
    assert with_descendants(found, []) == set()
    assert ancestors(found, 4) == {4, 3, 2, 1}


def test_a_scan_reads_processes_and_markers(start):
    child = start("grandchildren")
    workers = [int(pid) for pid in child.line[1:]]
    found = scan()
    me = found[os.getpid()]
    assert (me.ppid, me.sid) == (os.getppid(), os.getsid(0))
    assert found[child.pid].marker == found[workers[0]].marker == MARKER
    assert (found[child.pid].ppid, found[child.pid].sid) == (me.pid, child.pid)
    assert scan(since=1 << 62)[child.pid].marker == ""
    tree = Tree(child.pid, found[child.pid].start, "other")
    assert {each.pid for each in tree.members(found)} == {child.pid, *workers}


def test_what_does_not_exist_is_none():
    assert read_process(1 << 30) is None
    assert read_marker(1 << 30) == ""


def test_a_signal_hits_only_the_process_that_was_meant(start):
    child = start("note_term")
    info = read_process(child.pid)
    assert not send_signal(fake(child.pid, start=info.start + 1), signal.SIGKILL)
    assert child.poll() is None
    assert send_signal(info, signal.SIGTERM)
    assert child.wait() == 7
    assert not send_signal(info, signal.SIGTERM)


def test_terminate_continues_what_is_stopped(start):
    child = start("stop_self")
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    terminate([read_process(child.pid)])
    assert child.wait() == 7


def test_kill_until_gone_says_what_it_killed(start):
    child = start("grandchildren")
    tree = Tree(child.pid, read_process(child.pid).start, MARKER)
    killed, left = kill_until_gone(tree.members)
    assert len(killed) == 4
    assert left == []
    assert child.wait() == -signal.SIGKILL
    assert kill_until_gone(tree.members) == ([], [])


def test_what_cannot_be_killed_is_left_in_bounded_time():
    killed, left = kill_until_gone(lambda _: [fake(1 << 30)], rounds=3)
    assert killed == []
    assert [each.pid for each in left] == [1 << 30]


def test_kill(start):
    child = start("ignore_term")
    kill([read_process(child.pid)])
    assert child.wait() == -signal.SIGKILL


async def test_scans_are_shared_by_those_who_ask_before_they_begin(monkeypatch):
    count = 0

    def counted(since: int) -> dict[int, ProcessInfo]:
        nonlocal count
        count += 1
        return {}

    monkeypatch.setattr("mcpd.supervisor.tree.scan", counted)
    scanner = Scanner(0)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(scanner.snapshot)
    # The first began before the others asked; one more serves them all.
    assert count <= 2
    await scanner.snapshot()
    assert count <= 3


def test_become_subreaper():
    assert become_subreaper()


def test_processor_time_counts_what_a_process_started(tmp_path):
    spin = "import time\nwhile time.process_time() < 0.1: pass\nprint('done', flush=True)\ninput()"
    wrapper = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {spin!r}]).returncode)"
    process = subprocess.Popen([sys.executable, "-c", wrapper], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    with process:
        process.stdout.readline()
        own = int(Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11])
        assert tree.cpu_ticks(process.pid) >= own + 7  # a tenth of a second is ten, each part rounded down
        process.stdin.write(b"\n")
        process.stdin.close()
    assert tree.cpu_ticks(process.pid) == 0
