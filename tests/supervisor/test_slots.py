from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.supervisor.slots import StartSlots


async def test_slots_are_handed_out_in_order(nursery):
    slots = StartSlots(2, hold=1000)
    first, second = await slots.acquire(), await slots.acquire()
    order = []

    async def ask(number: int) -> None:
        await slots.acquire()
        order.append(number)

    for number in range(3):
        nursery.start_soon(ask, number)
        await wait_all_tasks_blocked()
    assert order == []
    second.release()
    await wait_all_tasks_blocked()
    assert order == [0]
    second.release()  # again: nothing
    await wait_all_tasks_blocked()
    assert order == [0]
    assert slots.held == 2
    first.release()
    await wait_all_tasks_blocked()
    assert order == [0, 1]


async def test_a_child_that_hangs_gives_its_slot_back(autojump_clock):
    slots = StartSlots(1, hold=5)
    await slots.acquire()
    started = trio.current_time()
    await slots.acquire()
    assert trio.current_time() - started == 5


async def test_a_waiter_that_gives_up_takes_nothing(autojump_clock):
    slots = StartSlots(1, hold=100)
    slot = await slots.acquire()
    with trio.move_on_after(1):
        await slots.acquire()
    slot.release()
    with trio.fail_after(0.5):
        await slots.acquire()
    assert slots.held == 1
