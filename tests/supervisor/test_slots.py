from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.supervisor.slots import Claim, StartSlots, Urgency


class Line:
    """Who asked for a slot, and in which order they got one."""

    def __init__(self, slots: StartSlots, nursery: trio.Nursery) -> None:
        self.slots = slots
        self.nursery = nursery
        self.order: list[str] = []
        self.got: dict[str, object] = {}
        self.moves: list[tuple[str, bool]] = []

    async def ask(self, name: str, urgency: Urgency = Urgency.BACKGROUND) -> Claim:
        claim = Claim(urgency, moved=lambda: self.moves.append((name, claim.waiting)))
        self.nursery.start_soon(self._ask, name, claim)
        await wait_all_tasks_blocked()
        return claim

    async def _ask(self, name: str, claim: Claim) -> None:
        self.got[name] = await self.slots.acquire(claim)
        self.order.append(name)


async def test_slots_are_handed_out_in_order(nursery):
    slots = StartSlots(2, hold=1000)
    first, second = await slots.acquire(), await slots.acquire()
    line = Line(slots, nursery)
    for name in "abc":
        await line.ask(name)
    assert (line.order, slots.waiting) == ([], 3)
    second.release()
    await wait_all_tasks_blocked()
    assert line.order == ["a"]
    second.release()  # again: nothing
    await wait_all_tasks_blocked()
    assert line.order == ["a"]
    assert slots.held == 2
    first.release()
    await wait_all_tasks_blocked()
    assert line.order == ["a", "b"]


async def test_a_start_that_a_call_waits_for_goes_first_and_spares_last(nursery):
    slots = StartSlots(1, hold=1000)
    slot = await slots.acquire()
    line = Line(slots, nursery)
    asked = [
        ("spare", Urgency.SPARE),
        ("one", Urgency.BACKGROUND),
        ("call", Urgency.CALL),
        ("two", Urgency.BACKGROUND),
        ("other call", Urgency.CALL),
    ]
    for name, urgency in asked:
        await line.ask(name, urgency)
    for _ in asked:
        slot.release()
        await wait_all_tasks_blocked()
        slot = line.got[line.order[-1]]
    assert line.order == ["call", "other call", "one", "two", "spare"]


async def test_what_is_needed_now_moves_up_while_it_waits(nursery):
    slots = StartSlots(1, hold=1000)
    slot = await slots.acquire()
    line = Line(slots, nursery)
    await line.ask("one")
    two = await line.ask("two")
    spare = await line.ask("spare", Urgency.SPARE)
    spare.hurry()
    two.hurry()
    for _ in range(3):
        slot.release()
        await wait_all_tasks_blocked()
        slot = line.got[line.order[-1]]
    assert line.order == ["two", "spare", "one"]


async def test_a_claim_tells_when_it_gets_into_the_line_and_out_of_it(nursery):
    slots = StartSlots(1, hold=1000)
    slot = await slots.acquire()
    line = Line(slots, nursery)
    claim = await line.ask("a")
    assert claim.waiting
    assert line.moves == [("a", True)]
    slot.release()
    await wait_all_tasks_blocked()
    assert not claim.waiting
    assert line.moves == [("a", True), ("a", False)]
    line.got["a"].release()
    await slots.acquire(claim)
    assert line.moves[2:] == [("a", True), ("a", False)], "it can be used again"


async def test_a_child_that_hangs_gives_its_slot_back(autojump_clock):
    slots = StartSlots(1, hold=5)
    await slots.acquire()
    started = trio.current_time()
    await slots.acquire()
    assert trio.current_time() - started == 5


@pytest.mark.parametrize("count", [1, 3])
async def test_children_that_hang_delay_the_others_by_no_more_than_that(count, nursery, autojump_clock):
    slots = StartSlots(count, hold=5)
    line = Line(slots, nursery)
    for number in range(4 * count):
        await line.ask(str(number))
    await trio.sleep(15)
    await wait_all_tasks_blocked()
    groups = [set(line.order[at : at + count]) for at in range(0, 4 * count, count)]
    assert groups == [{str(number) for number in range(at, at + count)} for at in range(0, 4 * count, count)]
    assert slots.held == count


async def test_a_waiter_that_gives_up_takes_nothing(autojump_clock):
    slots = StartSlots(1, hold=100)
    slot = await slots.acquire()
    claim = Claim()
    with trio.move_on_after(1):
        await slots.acquire(claim)
    assert (slots.waiting, claim.waiting, claim.slot) == (0, False, None)
    slot.release()
    with trio.fail_after(0.5):
        await slots.acquire(claim)
    assert slots.held == 1


async def test_a_waiter_that_gives_up_in_the_moment_of_its_turn_passes_it_on(nursery):
    slots = StartSlots(1, hold=1000)
    slot = await slots.acquire()
    line = Line(slots, nursery)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            inner.start_soon(slots.acquire)
            await wait_all_tasks_blocked()
            await line.ask("next")
            scope.cancel()
            slot.release()  # it is the turn of the first one, which does not know yet that it is cancelled
    await wait_all_tasks_blocked()
    assert line.order == ["next"]
    assert slots.held == 1


async def test_their_number_may_change_while_others_wait(nursery):
    slots = StartSlots(1, hold=1000)
    first = await slots.acquire()
    line = Line(slots, nursery)
    for name in "abc":
        await line.ask(name)
    slots.adjust(3)
    await wait_all_tasks_blocked()
    assert sorted(line.order) == ["a", "b"], "at the same moment, so either may be seen first"
    slots.adjust(1)
    first.release()
    await wait_all_tasks_blocked()
    assert (sorted(line.order), slots.held) == (["a", "b"], 2), "those that are held stay so"
