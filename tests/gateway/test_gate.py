from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.gateway.gate import Gate


async def test_who_comes_while_it_is_closed_waits_until_it_is_open(nursery):
    gate = Gate()
    await gate.wait()
    gate.close()
    gate.close()
    done: list[int] = []

    async def come(number: int) -> None:
        await gate.wait()
        done.append(number)

    for number in range(2):
        nursery.start_soon(come, number)
    await wait_all_tasks_blocked()
    assert done == []
    gate.open()
    await wait_all_tasks_blocked()
    assert sorted(done) == [0, 1]


async def test_one_that_is_closed_again_at_once_lets_nobody_by(nursery):
    gate = Gate()
    gate.close()
    done = trio.Event()

    async def come() -> None:
        await gate.wait()
        done.set()

    nursery.start_soon(come)
    await wait_all_tasks_blocked()
    gate.open()
    gate.close()
    await wait_all_tasks_blocked()
    assert not done.is_set()
    gate.open()
    await done.wait()
