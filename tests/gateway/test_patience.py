"""Who is worth waiting for right after the start, on the virtual clock."""

from __future__ import annotations

import math

import pytest
import trio

from mcpd.gateway.patience import FIRST_WAIT, LOOK, PATIENCE_MIN, STIRRING_MAX, Patience
from tests.gateway.fakes import FakeBackend, catalogue


class News:
    """Stands for the gateway's news: nothing ever comes but what a test tells."""

    def __init__(self) -> None:
        self.event = trio.Event()

    async def wait(self) -> None:
        await self.event.wait()

    def tell(self) -> None:
        event, self.event = self.event, trio.Event()
        event.set()


def starting(*names: str, **spec: object) -> list[FakeBackend]:
    return [FakeBackend(name, catalogue(tools=["t"]), takes=math.inf, **spec) for name in names]


def begin(*backends: FakeBackend) -> tuple[Patience, News]:
    news = News()
    patience = Patience("_", news.wait)
    patience.start(backends)
    return patience, news


def ready(patience: Patience, backend: FakeBackend) -> None:
    backend.become_ready()
    patience.judged(backend)


async def test_a_quiet_one_is_given_up_after_the_least_time(autojump_clock):
    quick, hangs = starting("quick", "hangs")
    patience, _ = begin(quick, hangs)
    await trio.sleep(0.1)
    ready(patience, quick)
    await patience.settle(FIRST_WAIT)
    assert trio.current_time() == pytest.approx(PATIENCE_MIN)
    assert not patience.all_judged


class Counted(FakeBackend):
    """Tells as a process does: whether it has worked since the look before."""

    worked = True

    def stirs(self) -> bool:
        worked, self.worked = self.worked, False
        return worked


async def test_what_was_done_at_the_start_is_no_sign_of_life_later(autojump_clock):
    (quick,) = starting("quick")
    hanging = [Counted(name, catalogue(tools=["t"]), takes=math.inf) for name in ("one", "two")]
    patience, _ = begin(quick, *hanging)
    ready(patience, quick)
    await patience.settle(FIRST_WAIT)
    assert trio.current_time() == pytest.approx(PATIENCE_MIN)


async def test_one_that_works_is_waited_for_until_it_falls_quiet(autojump_clock, nursery):
    quick, slow = starting("quick", "slow")
    patience, _ = begin(quick, slow)
    ready(patience, quick)
    slow.works = True

    async def tire() -> None:
        await trio.sleep(3)
        slow.works = False

    nursery.start_soon(tire)
    await patience.settle(FIRST_WAIT)
    assert 3 <= trio.current_time() <= 3 + 2 * LOOK


async def test_one_that_spins_is_not_waited_for_to_the_end(autojump_clock):
    quick, spinning = starting("quick", "spinning")
    patience, _ = begin(quick, spinning)
    ready(patience, quick)
    spinning.works = True
    await patience.settle(FIRST_WAIT)
    assert STIRRING_MAX <= trio.current_time() <= STIRRING_MAX + LOOK


async def test_one_that_hangs_after_its_handshake_is_given_up_like_any_other(autojump_clock):
    quick, loading = starting("quick", "loading")
    patience, _ = begin(quick, loading)
    ready(patience, quick)
    loading.hello = loading.ready_hello
    await patience.settle(FIRST_WAIT)
    assert trio.current_time() == pytest.approx(PATIENCE_MIN)


async def test_nobody_waits_when_all_were_judged(autojump_clock):
    (only,) = starting("only")
    patience, _ = begin(only)
    ready(patience, only)
    await patience.settle(FIRST_WAIT)
    assert trio.current_time() == 0.0


async def test_a_name_waits_for_those_that_could_offer_it(autojump_clock, nursery):
    slow, other = starting("slow", "other")
    patience, news = begin(slow, other)
    known = trio.Event()

    async def come() -> None:
        await trio.sleep(2)
        ready(patience, slow)
        known.set()
        news.tell()

    nursery.start_soon(come)
    await patience.for_name("slow_t", known.is_set)
    assert known.is_set()
    assert trio.current_time() == pytest.approx(2)


async def test_a_name_of_nobody_is_not_waited_for(autojump_clock):
    patience, _ = begin(*starting("slow", "other"))
    await patience.for_name("elsewhere_t", lambda: False)
    assert trio.current_time() == 0.0


async def test_without_a_prefix_any_name_could_come(autojump_clock):
    patience, _ = begin(*starting("bare", prefix=""))
    await patience.for_name("t", lambda: False)
    assert trio.current_time() == pytest.approx(FIRST_WAIT)


async def test_a_resource_waits_for_anybody(autojump_clock):
    slow, quick = starting("slow", "quick")
    patience, _ = begin(slow, quick)
    ready(patience, quick)
    await patience.for_resource(lambda: trio.current_time() >= 1)
    assert 1 <= trio.current_time() <= 1 + LOOK


async def test_one_that_is_known_from_an_earlier_run_is_not_waited_for(autojump_clock):
    known, unknown = starting("known", "unknown")
    known.hello = known.ready_hello
    patience, _ = begin(known, unknown)
    await trio.sleep(0.1)
    ready(patience, unknown)
    await patience.settle(FIRST_WAIT)
    assert trio.current_time() == pytest.approx(0.1)
    assert not patience.all_judged
    await patience.for_name("known_new", lambda: False)
    assert trio.current_time() == pytest.approx(FIRST_WAIT), "it may have something new"


async def test_one_that_is_known_but_failed_is_no_measure(autojump_clock):
    known, hangs = starting("known", "hangs")
    known.hello = known.ready_hello
    patience, _ = begin(known, hangs)
    patience.judged(known)
    await patience.settle(FIRST_WAIT)
    assert trio.current_time() == pytest.approx(FIRST_WAIT)
