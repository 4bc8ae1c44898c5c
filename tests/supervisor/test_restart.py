from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpd.supervisor.restart import CRASH_LOOP, RETRY_AFTER_MAX, WAKE_INTERVAL, Mode, RestartPolicy, Restarts

DAY = 86_400.0


def delays(restarts: Restarts, count: int, *, uptime: float = 0.0, rnd: float = 0.0) -> list[float]:
    result = []
    for _ in range(count):
        delay = restarts.next_delay(now=0.0, failed=True, uptime=uptime, random=rnd)
        assert delay is not None
        result.append(round(delay, 6))
    return result


def test_the_delays_double_up_to_the_cap_and_stay_there():
    restarts = Restarts(RestartPolicy())
    growing = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8]
    assert delays(restarts, 13) == [*growing, 300.0, 300.0]
    assert delays(restarts, 3000)[-1] == 300.0


def test_jitter_only_shortens():
    assert delays(Restarts(RestartPolicy()), 3, rnd=0.5) == [0.18, 0.36, 0.72]
    assert delays(Restarts(RestartPolicy(cap=1.0)), 9, rnd=0.999)[-1] == pytest.approx(0.8, abs=0.001)


@pytest.mark.parametrize(
    ("mode", "failed", "restarted"),
    [
        (Mode.ALWAYS, True, True),
        (Mode.ALWAYS, False, True),
        (Mode.ON_FAILURE, True, True),
        (Mode.ON_FAILURE, False, False),
        (Mode.NEVER, True, False),
        (Mode.NEVER, False, False),
    ],
)
def test_modes(mode, failed, restarted):
    restarts = Restarts(RestartPolicy(mode=mode))
    delay = restarts.next_delay(now=0.0, failed=failed, uptime=1.0, random=0.0)
    assert (delay is not None) == restarted
    assert (restarts.statistics().next_at is not None) == restarted


@pytest.mark.parametrize("apart", [0.5, 12.0], ids=["a score", "a limit"])
def test_another_program_goes_on_with_the_history(apart):
    one, other = Restarts(RestartPolicy()), Restarts(RestartPolicy())
    now = 1000.0
    for _ in range(20):
        now += apart
        one.next_delay(now=now, failed=True, uptime=apart, random=0.0)
    assert one.looping
    other.remember(one.history(now=now), now=5.0)  # its clock is another one
    assert other.looping
    assert other.next_at is None, "an attempt is due at once"
    for later in (1.0, 2.0, 400.0):
        delay = one.next_delay(now=now + later, failed=True, uptime=0.0, random=0.0)
        assert other.next_delay(now=5.0 + later, failed=True, uptime=0.0, random=0.0) == delay
    assert other.statistics().failures == one.statistics().failures == 23


def test_always_does_not_spin_on_a_clean_exit():
    restarts = Restarts(RestartPolicy())
    found = [restarts.next_delay(now=0.0, failed=False, uptime=0.0, random=0.0) for _ in range(3)]
    assert found == pytest.approx([0.2, 0.4, 0.8])
    assert restarts.statistics().failures == 0


@pytest.mark.parametrize(
    ("uptime", "expected"),
    [
        pytest.param(3600.0, [0.0] * 5, id="dies once an hour: always at once"),
        pytest.param(30.0, [0.0] * 5, id="stable"),
        pytest.param(10.0, [0.0] * 5, id="every ten seconds: still one at a time"),
        pytest.param(5.0, [0.0, 0.282843, 0.4, 0.565685, 0.8], id="more often: grows slowly"),
        pytest.param(0.1, [0.0, 0.398, 0.79, 1.6, 3.1], id="dies at once: like one that never started"),
        pytest.param(0.0, [0.2, 0.4, 0.8, 1.6, 3.2], id="never ready"),
    ],
)
def test_a_time_of_being_ready_earns_a_quick_restart(uptime, expected):
    assert delays(Restarts(RestartPolicy()), 5, uptime=uptime) == pytest.approx(expected, rel=0.05)


def test_a_stable_period_clears_the_history():
    restarts = Restarts(RestartPolicy())
    delays(restarts, 20)
    assert restarts.looping
    assert restarts.next_delay(now=900.0, failed=True, uptime=30.0, random=0.5) == 0.0
    assert not restarts.looping


def test_reset_is_the_operators_clean_slate():
    restarts = Restarts(RestartPolicy())
    delays(restarts, 20)
    restarts.reset()
    assert restarts.statistics().next_at is None
    assert delays(restarts, 1) == [0.2]


def attempts_in_a_day(policy: RestartPolicy, *, retry_after: float | None = None) -> int:
    restarts, rng = Restarts(policy), random.Random(7)
    now, attempts = 0.0, 0
    while True:
        attempts += 1
        delay = restarts.next_delay(now=now, failed=True, uptime=0.0, random=rng.random(), retry_after=retry_after)
        assert delay is not None
        now += delay
        if now >= DAY:
            return attempts


def test_a_backend_that_is_dead_all_day_is_tried_often_enough_and_not_more():
    # 86,400 s / (300 s x 0.9 on average) = 320, and eleven on the way to the cap.
    assert 288 <= attempts_in_a_day(RestartPolicy()) <= 371
    assert attempts_in_a_day(RestartPolicy(), retry_after=3600.0) <= 25


@pytest.mark.parametrize(("asked", "delay"), [(None, 0.2), (0.1, 0.2), (60.0, 60.0), (1e9, RETRY_AFTER_MAX)])
def test_retry_after_moves_it_later_never_earlier(asked, delay):
    restarts = Restarts(RestartPolicy())
    found = restarts.next_delay(now=0.0, failed=True, uptime=0.0, random=0.0, retry_after=asked)
    assert found == pytest.approx(delay)


def live(policy: RestartPolicy, seconds: float, *, uptime: float, seed: int, calls: bool = False) -> list[float]:
    """When one starts that lives for `uptime` seconds each time, and is called every second or never."""
    restarts, rng = Restarts(policy), random.Random(seed)
    now, starts = 0.0, []
    while now < seconds:
        starts.append(now)
        now += uptime
        delay = restarts.next_delay(now=now, failed=True, uptime=uptime, random=rng.random())
        assert delay is not None
        due = now + delay
        while calls and now < due and not restarts.wake(now=now):
            now += 1.0
        if not calls:
            now = due
    return starts


def test_the_start_limit_slows_down_what_works_a_little_in_between():
    policy = RestartPolicy(jitter=0.0)
    starts = live(policy, 7200.0, uptime=12.0, seed=1)
    assert starts[:20] == pytest.approx([12.0 * n for n in range(20)]), "at once, up to the limit"
    pauses = [after - before for before, after in itertools.pairwise(starts[19:])]
    assert set(pauses) == {312.0}, "and then at the pace of the cap alone"


def test_the_start_limit_ends_when_it_was_stable_once():
    restarts = Restarts(RestartPolicy(start_limit=3, start_limit_interval=60.0))
    for now in (0.0, 5.0, 10.0):
        delay = restarts.next_delay(now=now + 5, failed=True, uptime=5.0, random=0.0)
    assert (delay, restarts.looping) == (300.0, True)
    assert restarts.next_delay(now=320.0, failed=True, uptime=5.0, random=0.0) == 300.0, "not for being slow"
    assert restarts.next_delay(now=650.0, failed=True, uptime=30.0, random=0.0) == 0.0
    assert not restarts.looping


def test_without_an_interval_there_is_no_start_limit():
    policy = RestartPolicy(start_limit=1, start_limit_interval=0.0, jitter=0.0)
    assert len(live(policy, 1200.0, uptime=12.0, seed=1)) == 100


@given(st.floats(0, 100), st.integers(0, 1000), st.booleans(), st.integers(1, 30))
def test_whatever_it_does_and_whoever_calls_starts_are_bounded(uptime, seed, calls, limit):
    policy = RestartPolicy(start_limit=limit, start_limit_interval=300.0, cap=60.0)
    starts = live(policy, 3600.0, uptime=uptime, seed=seed, calls=calls)
    interval = policy.start_limit_interval
    slow = interval / (policy.cap * (1 - policy.jitter)) + 1
    woken = math.log2(policy.cap / WAKE_INTERVAL) + 2 + interval / policy.cap if calls else 0
    most = max(sum(begin <= at < begin + interval for at in starts) for begin in starts)
    assert most <= limit + 1 + slow + woken


def test_what_needs_an_operator_is_tried_at_the_slow_pace_at_once():
    restarts = Restarts(RestartPolicy())
    assert restarts.next_delay(now=0.0, failed=True, uptime=0.0, random=0.0, slow=True) == 300.0
    assert restarts.next_delay(now=0.0, failed=True, uptime=0.0, random=0.5, slow=True) == 270.0
    assert restarts.next_delay(now=0.0, failed=True, uptime=0.0, random=0.0, slow=True, retry_after=900.0) == 900.0


def test_the_times_between_attempts_that_calls_cause_double_up_to_the_cap():
    restarts = Restarts(RestartPolicy())
    woken, now = [], 0.0
    while now < 1200:
        restarts.next_delay(now=now, failed=True, uptime=0.0, random=0.0, slow=True)
        while not restarts.wake(now=now):
            now += 1.0
        if now < restarts.next_at:
            woken.append(now)
    assert woken == [0.0, 5.0, 15.0, 35.0, 75.0, 155.0, 315.0, 615.0, 915.0]


def test_a_call_wakes_a_backend_in_backoff_now_and_then():
    restarts = Restarts(RestartPolicy())
    assert not restarts.wake(now=0.0), "nothing is planned"
    for _ in range(12):
        restarts.next_delay(now=100.0, failed=True, uptime=0.0, random=0.0)
    assert restarts.wake(now=101.0)
    assert not restarts.wake(now=102.0)
    assert restarts.wake(now=101.0 + WAKE_INTERVAL)
    assert restarts.wake(now=400.0), "due anyway"


def test_no_call_wakes_a_backend_before_its_retry_after():
    restarts = Restarts(RestartPolicy())
    restarts.next_delay(now=0.0, failed=True, uptime=0.0, random=0.0, retry_after=60.0)
    assert not restarts.wake(now=59.0)
    assert restarts.wake(now=60.0)


def test_statistics_show_a_crash_loop():
    restarts = Restarts(RestartPolicy())
    delays(restarts, int(CRASH_LOOP) - 1)
    assert not restarts.statistics().looping
    delays(restarts, 1)
    found = restarts.statistics()
    assert (found.looping, found.failures, found.delay, found.next_at) == (True, 5, 3.2, 3.2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial": 0.0},
        {"initial": 2.0, "cap": 1.0},
        {"factor": 0.5},
        {"jitter": 1.0},
        {"stable": 0.0},
        {"start_limit": 0},
        {"start_limit_interval": -1.0},
    ],
)
def test_a_policy_that_would_hammer_is_refused(wrong):
    with pytest.raises(ValueError, match="restart: "):
        RestartPolicy(**wrong)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 0.999), st.none() | st.floats(0, 1e6))),
    st.floats(1, 10),
)
def test_whatever_happens_the_delay_is_in_its_bounds(events, factor):
    restarts = Restarts(RestartPolicy(factor=factor))
    for failed, uptime, rnd, retry_after in events:
        delay = restarts.next_delay(now=0.0, failed=failed, uptime=uptime, random=rnd, retry_after=retry_after)
        assert delay is not None
        assert 0 <= delay <= max(300.0, min(retry_after or 0.0, RETRY_AFTER_MAX) + 0.2)
