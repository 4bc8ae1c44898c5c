"""Errands: done beside, bounded, and never after the link is over."""

from __future__ import annotations

import logging

import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends import errands as module
from mcpd.backends.carrier import SessionLost
from mcpd.backends.errands import Errands
from mcpd.errors import RpcError


async def test_an_errand_runs_beside_and_its_failure_harms_nobody(nursery):
    errands = Errands("b", nursery, trio.Event())
    done = []

    async def work(name: str) -> None:
        done.append(name)
        raise RpcError(1, "no") if name == "first" else SessionLost

    errands.start(work, "first")
    errands.start(work, "second")
    await wait_all_tasks_blocked()
    assert sorted(done) == ["first", "second"]


async def test_nothing_is_started_after_the_end(nursery):
    over = trio.Event()
    errands = Errands("b", nursery, over)
    over.set()
    done = []

    async def work() -> None:
        done.append(1)

    errands.start(work)
    await wait_all_tasks_blocked()
    assert done == []


async def test_errands_are_bounded_and_room_comes_back(nursery, monkeypatch, caplog):
    monkeypatch.setattr(module, "ERRANDS_MAX", 2)
    errands = Errands("b", nursery, trio.Event())
    gate = trio.Event()
    done = []

    async def work(number: int) -> None:
        await gate.wait()
        done.append(number)

    with caplog.at_level(logging.WARNING):
        for number in range(3):
            errands.start(work, number)
    assert "too_many_errands limit=2" in caplog.text
    gate.set()
    await wait_all_tasks_blocked()
    assert sorted(done) == [0, 1]
    errands.start(work, 3)
    await wait_all_tasks_blocked()
    assert 3 in done
