"""What a program finds of the children of the one that ran in the same process before it."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from mcpd.supervisor import supervisor as module
from mcpd.supervisor.adoption import ChildState, SupervisorState
from mcpd.supervisor.confinement import Confinement
from mcpd.supervisor.exits import SpawnFailed
from mcpd.supervisor.process import ChildSpec
from mcpd.supervisor.supervisor import Supervisor
from mcpd.supervisor.tree import read_process
from mcpd.supervisor.view import View
from tests.fixtures.peer import ROOT
from tests.supervisor.processes import alive, wait_until

if TYPE_CHECKING:
    import subprocess


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the second program says of the first one's children; it starts real processes, once for all tests."""
    run = trio.run(_run, tmp_path_factory.mktemp("state"))
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)


async def _run(state_dir) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(90):
        return await trio.run_process(
            [sys.executable, "-m", "tests.supervisor.successor", str(state_dir)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


def test_pipes_go_on_and_nothing_said_before_is_lost(found):
    assert found["heard"] == "said to the first\nsaid to the second\n"


def test_what_a_child_has_not_read_yet_travels_along(found):
    assert found["queued"] is True


def test_the_end_of_a_child_is_noticed_that_ended_meanwhile(found):
    assert found["doomed"] == signal.SIGKILL


def test_the_children_of_the_first_program_are_no_strays(found):
    assert found["swept"] == 0
    assert found["recorded"] is True


def test_no_marker_is_given_twice(found):
    assert found["fresh"] is False


def test_the_second_program_leaves_nothing_of_what_the_first_one_started(found):
    assert found["left"] == []
    assert found["children"] == []
    assert alive(*found["pids"].values()) == []


async def test_what_is_no_child_of_this_process_is_not_taken_over(nursery):
    supervisor = Supervisor(None)
    gone = ChildState(name="gone", pid=4_194_303, start=1, marker="", stdin=-1, stdout=-1, stderr=-1, age=0.0)
    state = SupervisorState(since=1, serial=1, children=(gone,))
    supervisor.inherit(state, {gone.pid})
    await nursery.start(supervisor.run)
    with pytest.raises(SpawnFailed, match="pid 4194303 cannot be taken over"):
        supervisor.adopt(gone.pid, ChildSpec("gone", (), {}))
    with pytest.raises(SpawnFailed, match="pid 4194303 was not left"):
        supervisor.adopt(gone.pid, ChildSpec("gone", (), {}))
    assert supervisor.children() == ()


async def test_where_one_has_a_view_the_program_leaves_no_core(nursery, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "leave_no_core", lambda: calls.append("left"))
    supervisor = Supervisor(None)
    gone = [
        ChildState(name="gone", pid=pid, start=1, marker="", stdin=-1, stdout=-1, stderr=-1, age=0.0)
        for pid in (4_194_302, 4_194_303)
    ]
    supervisor.inherit(SupervisorState(since=1, serial=1, children=tuple(gone)), {each.pid for each in gone})
    await nursery.start(supervisor.run)
    for each, view, expected in zip(gone, (View(), View(("/",))), (0, 1), strict=True):
        with pytest.raises(SpawnFailed, match="cannot be taken over"):
            supervisor.adopt(each.pid, ChildSpec("gone", (), {}, confinement=Confinement(view=view)))
        assert len(calls) == expected, "the exec has made it readable again"


def test_the_state_survives_its_encoding():
    child = ChildState(
        name="a",
        pid=1,
        start=2,
        marker="m",
        stdin=3,
        stdout=-1,
        stderr=5,
        age=0.5,
        unsent=b"\0",
        stderr_lines=(b"x",),
        stderr_partial=b"\xff",
        seen={9: 8},
    )
    state = SupervisorState(since=7, serial=3, children=(child,))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=SupervisorState) == state
    assert list(state.descriptors()) == [3, 5]


async def test_a_child_that_ended_with_something_unsent_is_buried_as_any_other(nursery):
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    pid = os.posix_spawn("/bin/true", ["true"], {}, setsid=True)  # noqa: ASYNC221 - a zombie is what is wanted
    start = read_process(pid).start
    for fd in (stdin[0], stdout[1], stderr[1]):
        os.close(fd)
    gone = ChildState(
        name="gone",
        pid=pid,
        start=start,
        marker="",
        stdin=stdin[1],
        stdout=stdout[0],
        stderr=stderr[0],
        age=0.0,
        unsent=b"more than the pipe took",
    )
    supervisor = Supervisor(None)
    supervisor.inherit(SupervisorState(since=1, serial=1, children=(gone,)), set())
    await nursery.start(supervisor.run)
    await wait_until(lambda: not supervisor.children() and read_process(pid) is None)
