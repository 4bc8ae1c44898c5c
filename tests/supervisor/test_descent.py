from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcpd.supervisor import descent
from mcpd.supervisor.descent import descends
from mcpd.supervisor.tree import ProcessInfo

OTHER = os.geteuid() + 1

ORPHAN = """
import os, subprocess, sys
inner = subprocess.Popen(["cat"], stdin=0, stdout=subprocess.DEVNULL)
print(inner.pid, flush=True)
os._exit(0)
"""
"""Leaves a child behind, which waits for the end of its input."""

SUBREAPER = """
import ctypes, os, subprocess, sys
from mcpd.supervisor.descent import descends
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
done = subprocess.run([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, check=True)
orphan = int(done.stdout)
print(descends(orphan, os.geteuid()), os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOHANG) is None)
"""


def test_neither_this_process_nor_who_started_it_nor_another_namespace():
    assert not descends(os.getpid(), os.geteuid())
    assert not descends(os.getppid(), os.geteuid())
    assert not descends(1, 0)
    assert not descends(0, os.geteuid())


def test_a_child_and_what_it_starts():
    script = "import subprocess; subprocess.run(['sh', '-c', 'echo $$; read line'])"
    with subprocess.Popen(  # noqa: TID251 - the test is the parent
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        inner = int(child.stdout.readline())
        assert descends(child.pid, os.geteuid())
        assert inner != child.pid
        assert descends(inner, os.geteuid())
        assert descends(inner, OTHER), "whoever it has become"
        child.stdin.close()


def test_an_orphan_does_not_get_away():
    # In a process of its own, because a subreaper inherits what other tests leave behind.
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", SUBREAPER, ORPHAN], stdin=reader, stdout=subprocess.PIPE, text=True, check=True
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout == "True True\n"


def test_what_has_ended_may_have_been_one_if_it_was_of_our_user():
    with subprocess.Popen(["true"]) as child:  # noqa: TID251 - the test is the parent
        child.wait()
    assert descends(child.pid, os.geteuid())
    assert not descends(child.pid, OTHER)


@pytest.mark.parametrize(("flag", "expected"), [("0", False), ("1", True)])
def test_where_the_way_up_is_out_of_sight_the_flag_decides_that_nobody_can_take_off(flag, expected, monkeypatch):
    asked = []

    def read_process(pid: int) -> ProcessInfo | None:
        asked.append(pid)
        return ProcessInfo(pid, "S", 4711, pid, pid, start=1) if pid == 4712 else None

    monkeypatch.setattr(descent, "read_process", read_process)
    monkeypatch.setattr(Path, "read_text", lambda self: f"Name:\tx\nNoNewPrivs:\t{flag}\nSeccomp:\t0\n")
    assert descends(4712, os.geteuid()) is expected
    assert asked == [4712, 4711] * descent.LOOKS, "it may only have been between two parents"


def table(monkeypatch, *processes: ProcessInfo) -> None:
    monkeypatch.setattr(descent, "read_process", {each.pid: each for each in processes}.get)
    monkeypatch.setattr(Path, "read_text", lambda self: "NoNewPrivs:\t1\n\nNoNewPrivs:\t1\n")


def process(pid: int, ppid: int, start: int = 1) -> ProcessInfo:
    return ProcessInfo(pid, "S", ppid, pid, pid, start=start)


def test_who_is_below_another_daemon_is_one_as_well_but_not_the_daemon(monkeypatch):
    table(monkeypatch, process(4712, 4711), process(4711, 4710), process(4710, 1))
    assert not descends(4712, os.geteuid())
    assert descends(4712, os.geteuid(), is_daemon=lambda each: each.pid == 4710)
    assert not descends(4712, os.geteuid(), is_daemon=lambda each: each.pid == 4712)


def test_a_parent_is_not_younger_than_its_child(monkeypatch):
    table(monkeypatch, process(4712, 4711, start=5), process(4711, 1, start=6))
    assert descends(4712, os.geteuid()), "the way is out of sight, and the flag says that it may be"
    table(monkeypatch, process(4712, 4711, start=5), process(4711, 1, start=5))
    assert not descends(4712, os.geteuid())


def test_more_ancestors_than_anybody_has_are_there_on_purpose(monkeypatch):
    table(monkeypatch, *(process(number, number - 1) for number in range(1_000_000, 1_000_000 + descent.DEPTH_MAX + 1)))
    assert descends(1_000_000 + descent.DEPTH_MAX, OTHER)
