"""The exec and its failures. That it succeeds is shown from outside (`tests/e2e/test_upgrade.py`)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import trio

from mcpd.supervisor.adoption import SupervisorState
from mcpd.upgrade import leap as module
from mcpd.upgrade.check import UpgradeRefused
from mcpd.upgrade.leap import HELD, LEAVING, arrive, leap, others_held, release_signals, signals_held
from mcpd.upgrade.state import State, StateRefused, encode, seal


def ours(fd: int, **members) -> State:
    nothing = SupervisorState(since=0, serial=0, children=())
    members = {"pid": os.getpid(), "sessions": b"", **members}
    return State(
        version="1", left_at=0.0, listeners=(("x", fd),), supervisor=nothing, backends=(), connections=(), **members
    )


NOBODYS = 1 << 20
"""No descriptor: the usual limit is lower."""


def no_exec(*_arguments: object) -> None:
    raise AssertionError("this must not be reached")


@pytest.fixture
def pipe():
    ends = os.pipe2(os.O_CLOEXEC)
    yield ends
    for fd in ends:
        os.close(fd)


def opened() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_an_exec_that_fails_changes_nothing(monkeypatch, pipe):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = opened()
    with (
        pytest.raises(UpgradeRefused, match=r"/nowhere/python cannot take over: .*No such file"),
        signals_held() as came,
    ):
        leap(lambda: ours(pipe[0]), came, {})
    assert opened() == before
    assert not os.get_inheritable(pipe[0])
    assert LEAVING not in os.environ


def test_a_descriptor_that_is_gone_calls_it_off(monkeypatch, pipe):
    monkeypatch.setattr(module.os, "execve", no_exec)
    with pytest.raises(UpgradeRefused, match="Bad file descriptor"), signals_held() as came:
        leap(lambda: ours(NOBODYS), came, {})


def test_signals_are_held_and_come_back():
    came_here: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _frame: came_here.append(number))
    try:
        with signals_held():
            signal.raise_signal(signal.SIGUSR2)
            assert came_here == []
            assert signal.SIGUSR2 in signal.sigpending()
        assert came_here == [signal.SIGUSR2]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(HELD) == set()
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_that_another_thread_took_is_the_new_programs(monkeypatch, pipe):
    came_here: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _frame: came_here.append(number))
    waiting: list[object] = []

    def look(*_arguments: object) -> None:
        waiting.extend(signal.sigpending())
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(module.os, "execve", look)
    try:
        with signals_held() as came:
            came.append(signal.SIGHUP)
            with pytest.raises(UpgradeRefused):
                leap(lambda: ours(pipe[0]), came, {})
        assert waiting == [signal.SIGHUP], "blocked signals that are pending survive an exec"
        assert came_here == [signal.SIGHUP], "and where there was none, it is this program's, once"
    finally:
        signal.signal(signal.SIGHUP, before)


def blocked_in_each_thread() -> list[set[int]]:
    lines = [path.read_text().splitlines() for path in Path("/proc/self/task").glob("*/status")]
    masks = [int(line.split()[1], 16) for each in lines for line in each if line.startswith("SigBlk:")]
    return [{number for number in HELD if mask >> (number - 1) & 1} for mask in masks]


async def test_a_thread_that_waits_for_work_takes_none_with_it():
    together, blocked = threading.Barrier(3), []

    def meet() -> None:
        together.wait()
        blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(HELD))

    async def work_for_three() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.to_thread.run_sync, meet)

    await work_for_three()  # after which as many threads wait for more
    assert len(blocked_in_each_thread()) >= 4
    with signals_held(), others_held():
        assert all(blocked == set(HELD) for blocked in blocked_in_each_thread())
    await work_for_three()
    assert blocked == [set()] * 6, "what they start from now on can be told to end"


def test_signals_that_were_blocked_on_the_way_are_let_in():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        release_signals()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(HELD) == set()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_without_a_program_before_there_is_nothing(monkeypatch):
    monkeypatch.delenv(LEAVING, raising=False)
    assert arrive() is None


async def test_what_is_left_is_taken_once_and_closed_to_children(monkeypatch, pipe, make_state):
    state = make_state()
    left = ours(pipe[0], sessions=state.sessions)
    os.set_inheritable(pipe[0], True)
    monkeypatch.setenv(LEAVING, str(seal(encode(left))))
    assert arrive() == left
    assert not os.get_inheritable(pipe[0])
    assert LEAVING not in os.environ


async def test_what_is_left_to_another_process_is_refused(monkeypatch, pipe, make_state):
    state = make_state()
    monkeypatch.setenv(LEAVING, str(seal(encode(ours(pipe[0], sessions=state.sessions, pid=1)))))
    with pytest.raises(StateRefused, match="meant for process 1"):
        arrive()


def test_what_is_no_descriptor_is_refused(monkeypatch):
    monkeypatch.setenv(LEAVING, "x")
    with pytest.raises(StateRefused, match="not 'x'"):
        arrive()
