# ruff: noqa: TID251 - processes that no supervisor started are what is tested here
from __future__ import annotations

import os
import subprocess
import sys

import pytest
import trio
import trio.testing

from mcpd.supervisor import reaper
from mcpd.supervisor.tree import Tree, become_subreaper, held_pipes, kill, read_process, scan
from tests.supervisor.processes import HOSTILE, alive, wait_until


@pytest.fixture
def orphan():
    """The pid of a worker whose parent is gone, so that it is now a child of this process, in another
    session."""
    assert become_subreaper()
    child = subprocess.Popen(
        [sys.executable, "-ISs", HOSTILE, "polite_wrapper"],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={"PATH": os.environ["PATH"]},
    )
    pid = int(child.stdout.readline().split()[1])
    child.wait()
    child.stdout.close()
    yield pid
    info = read_process(pid)
    if info is not None:
        kill([info])
        os.waitpid(pid, 0)


async def wait_dead(pid: int) -> None:
    await wait_until(lambda: not alive(pid))


async def test_an_orphan_is_adopted_and_reaped(orphan):
    info = read_process(orphan)
    assert info.ppid == os.getpid()
    assert [each.pid for each in reaper.adopted(scan())] == [orphan]
    assert reaper.adopted(scan(), since=info.start + 1) == []
    assert reaper.reap_adopted() == 0
    kill([info])
    await wait_dead(orphan)
    assert reaper.adopted(scan()) == []
    assert reaper.reap_adopted() == 1
    assert read_process(orphan) is None


async def test_a_process_that_is_just_being_made_is_no_orphan_yet(orphan, nursery, monkeypatch):
    info = read_process(orphan)
    pipe = next(iter(held_pipes(orphan)))
    tree = Tree(1, 0, "", pipes=frozenset({pipe}))
    monkeypatch.setattr(reaper, "MAKING", 60.0)  # a loaded machine may take its time between the steps below
    await wait_until(lambda: reaper.ticks_now() > info.start)
    with reaper.starting():
        assert reaper.sort_out([info]) == ([info], []), "it is older than what is being made"
    begun = [info.start]
    monkeypatch.setattr(reaper, "_starting", begun)
    assert reaper.sort_out([info]) == ([], [info])
    nursery.start_soon(reaper.claim_orphans, tree, scan())
    await trio.testing.wait_all_tasks_blocked()
    assert tree.seen == {}
    begun.clear()
    await wait_until(lambda: tree.seen == {orphan: info.start})
    begun.append(info.start)
    monkeypatch.setattr(reaper, "_own", {orphan})
    assert reaper.sort_out([info]) == ([], []), "it has an owner"


async def test_who_holds_another_pipe_is_not_claimed(orphan):
    pipe = next(iter(held_pipes(orphan)))
    tree = Tree(1, 0, "", pipes=frozenset({pipe + 1}))
    await reaper.claim_orphans(tree, scan())
    assert tree.seen == {}


async def test_nobody_is_reaped_who_has_an_owner_or_may_have_one(orphan):
    kill([read_process(orphan)])
    await wait_dead(orphan)
    with reaper.starting():
        assert reaper.reap_adopted() == 0
        assert reaper.adopted(scan()) == []
    reaper.own(orphan)
    assert reaper.reap_adopted() == 0
    reaper.disown(orphan)
    assert reaper.reap_adopted() == 1


def test_children_in_our_own_session_belong_to_whoever_started_them():
    child = subprocess.Popen([sys.executable, "-ISs", HOSTILE, "die", "3"], stderr=subprocess.DEVNULL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert reaper.reap_adopted() == 0
    assert child.wait() == 3


async def test_without_a_list_of_children_the_process_table_is_read(orphan, monkeypatch):
    monkeypatch.setattr(reaper, "CHILDREN_FILE", "/proc/self/there-is-no-such-file-{}")
    kill([read_process(orphan)])
    await wait_dead(orphan)
    assert reaper.reap_adopted() == 1
