from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.waiter import Waiter
from mcpd.errors import BackendCrashed
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import ClientCapability

ANSWER = jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"result":{}}')
OTHER = jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"result":{"late":true}}')


def make(**members: float) -> Waiter:
    return Waiter("ping", None, idle=members.get("idle", 10.0), final=members.get("final", 60.0), on_expire=print)


async def test_an_outcome_before_the_wait():
    waiter = make()
    waiter.settle(ANSWER)
    assert await waiter.wait() is ANSWER


async def test_an_outcome_during_the_wait(nursery):
    waiter = make()
    nursery.start_soon(wait_then, waiter.settle, ANSWER)
    assert await waiter.wait() is ANSWER


async def wait_then(function, *args):
    await wait_all_tasks_blocked()
    function(*args)


async def test_only_the_first_outcome_counts():
    waiter = make()
    waiter.settle(ANSWER)
    waiter.settle(OTHER)
    waiter.settle(BackendCrashed("b", "too late"))
    assert waiter.result() is ANSWER


async def test_a_failure_is_raised_without_the_frames_of_others(nursery):
    failure = BackendCrashed("b", "gone")
    depths = []
    for _ in range(3):
        waiter = make()
        nursery.start_soon(wait_then, waiter.settle, failure)
        with pytest.raises(BackendCrashed) as caught:
            await waiter.wait()
        trace, depth = caught.value.__traceback__, 0
        while trace is not None:
            trace, depth = trace.tb_next, depth + 1
        depths.append(depth)
    assert depths[0] == depths[2]


async def test_a_cancelled_wait_can_still_be_settled(nursery):
    waiter = make()
    with trio.CancelScope() as scope:
        nursery.start_soon(wait_then, scope.cancel)
        await waiter.wait()
    assert scope.cancelled_caught
    waiter.settle(ANSWER)
    assert waiter.result() is ANSWER


async def test_who_waits_by_io_is_broken_off():
    waiter = make()
    aborted = []
    waiter.abort = lambda: aborted.append(True)
    waiter.settle(ANSWER)
    waiter.settle(OTHER)
    assert aborted == [True]


async def test_progress_moves_the_deadline_up_to_the_final_one(autojump_clock):
    waiter = make(idle=10, final=25)
    start = trio.current_time()
    assert waiter.deadline == start + 10
    await trio.sleep(8)
    waiter.alive()
    assert waiter.deadline == start + 18
    await trio.sleep(10)
    waiter.alive()
    assert waiter.deadline == start + 25


async def test_expiry_is_left_to_the_link():
    seen = []
    waiter = Waiter("ping", None, idle=1, final=1, on_expire=seen.append)
    waiter.expire()
    assert seen == [waiter]


async def test_it_can_be_sent_again_within_the_same_final_time(autojump_clock):
    waiter = make(idle=10, final=25)
    begun = trio.current_time()
    waiter.headers = b"x"
    waiter.refused |= ClientCapability.ROOTS
    waiter.settle(BackendCrashed("b", "lost"))
    await trio.sleep(5)
    waiter.again()
    assert (waiter.outcome, waiter.headers, waiter.method) == (None, b"", "ping")
    assert (waiter.deadline, waiter.final, waiter.begun) == (begun + 15, begun + 25, begun)
    assert waiter.refused is ClientCapability.ROOTS, "what happened to the call still did"
    waiter.settle(ANSWER)
    assert await waiter.wait() is ANSWER
    waiter.again("tasks/result", idle=100)
    assert (waiter.method, waiter.deadline) == ("tasks/result", begun + 25)
