from __future__ import annotations

import math

import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.wire.deadlines import Deadlines


class Entry:
    def __init__(self, deadline: float, log: list[float]) -> None:
        self.deadline = deadline
        self.log = log

    def expire(self) -> None:
        self.log.append(trio.current_time())


class Broken(Entry):
    def expire(self) -> None:
        super().expire()
        raise RuntimeError("bad entry")


async def test_expires_within_the_resolution_and_once(nursery, autojump_clock):
    deadlines = Deadlines()
    log: list[float] = []
    await nursery.start(deadlines.run)
    start = trio.current_time()
    deadlines.add(Entry(start + 5, log))
    deadlines.add(Entry(start + 5.1, log))
    deadlines.add(Entry(math.inf, log))
    await trio.sleep(100)
    assert len(log) == 2
    assert all(0 <= at - start - 5 <= 0.4 for at in log)
    assert deadlines.statistics().entries == 1
    assert deadlines.statistics().expired == 2


async def test_an_earlier_entry_wakes_a_sleeping_sweeper(nursery, autojump_clock):
    deadlines = Deadlines()
    log: list[float] = []
    await nursery.start(deadlines.run)
    start = trio.current_time()
    deadlines.add(Entry(start + 300, log))
    await wait_all_tasks_blocked()
    deadlines.add(Entry(start + 2, log))
    await trio.sleep(3)
    assert len(log) == 1


async def test_a_deadline_moved_later_survives_and_moved_earlier_needs_add(nursery, autojump_clock):
    deadlines = Deadlines()
    log: list[float] = []
    await nursery.start(deadlines.run)
    start = trio.current_time()
    entry = Entry(start + 1, log)
    deadlines.add(entry)
    entry.deadline = start + 50
    await trio.sleep(40)
    assert log == []
    entry.deadline = start + 41
    deadlines.add(entry)
    await trio.sleep(2)
    assert len(log) == 1


async def test_discarded_entries_do_not_expire_and_discard_is_idempotent(nursery, autojump_clock):
    deadlines = Deadlines()
    log: list[float] = []
    await nursery.start(deadlines.run)
    entry = Entry(trio.current_time() + 1, log)
    deadlines.add(entry)
    deadlines.discard(entry)
    deadlines.discard(entry)
    await trio.sleep(5)
    assert log == []


async def test_a_raising_entry_does_not_end_the_sweep(nursery, autojump_clock, caplog):
    deadlines = Deadlines()
    log: list[float] = []
    await nursery.start(deadlines.run)
    now = trio.current_time()
    deadlines.add(Broken(now + 1, log))
    deadlines.add(Entry(now + 1, log))
    deadlines.add(Entry(now + 2, log))
    await trio.sleep(5)
    assert len(log) == 3
    assert "event=expire-failed" in caplog.text


async def test_nothing_to_watch_means_no_wakeups(nursery, autojump_clock):
    deadlines = Deadlines()
    await nursery.start(deadlines.run)
    await trio.sleep(10_000)
    assert deadlines.statistics().sweeps == 0


async def test_expire_may_add_again(nursery, autojump_clock):
    deadlines = Deadlines()
    log: list[float] = []
    await nursery.start(deadlines.run)

    class Again(Entry):
        def expire(self) -> None:
            super().expire()
            if len(log) < 3:
                self.deadline = trio.current_time() + 10
                deadlines.add(self)

    deadlines.add(Again(trio.current_time() + 10, log))
    await trio.sleep(100)
    assert len(log) == 3
    assert deadlines.statistics().entries == 0
