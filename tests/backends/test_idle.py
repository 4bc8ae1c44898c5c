"""When a server sleeps; what that means for its calls is shown in `test_backend`."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.idle import LOOKS, Sleep, wait_unused
from tests.backends.parts import make_spec


class Use:
    """Of a server that nobody has."""

    def __init__(self) -> None:
        self.count = 0.0
        self.busy = False

    async def wait(self, seconds: float) -> float:
        await wait_unused(seconds, busy=lambda: self.busy, mark=lambda: self.count)
        return trio.current_time()


async def test_one_that_is_never_used_is_through_after_exactly_that_time(autojump_clock):
    assert await Use().wait(100) == pytest.approx(100)


@pytest.mark.parametrize("at", [0.5, 9.5, 10.5, 55, 99.5])
async def test_a_use_between_two_looks_counts_from_its_end_or_a_little_later(at, nursery, autojump_clock):
    use = Use()

    async def call():
        await trio.sleep(at)
        use.count += 1

    nursery.start_soon(call)
    assert at + 100 <= await use.wait(100) <= at + 100 + 100 / LOOKS


async def test_what_is_busy_is_not_through(nursery, autojump_clock):
    use = Use()
    use.busy = True

    async def end():
        await trio.sleep(1234)
        use.busy = False

    nursery.start_soon(end)
    assert 1234 + 90 <= await use.wait(100) <= 1234 + 110


@pytest.mark.parametrize("start", ["eager", "lazy"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_who_sleeps_from_the_start(start, known, running):
    sleep = Sleep(make_spec(start=start), known=known, running=running)
    assert sleep.asleep is (start == "lazy" and known and not running)


async def test_a_sleeper_is_woken_once_for_all(nursery):
    sleep = Sleep(make_spec(start="lazy"), known=True)
    sleep.wake()
    sleep.wake()
    await sleep.wait_woken()
    assert not sleep.asleep
    sleep.fall()
    assert sleep.asleep
    woken = []

    async def wait():
        await sleep.wait_woken()
        woken.append(True)

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert woken == [], "what woke it before does not wake it again"
    sleep.wake()
    await wait_all_tasks_blocked()
    assert woken == [True]
