from __future__ import annotations

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
    assert restarts.next_delay(now=0.0, failed=True, uptime=30.0, random=0.5) == 0.0
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
    [{"initial": 0.0}, {"initial": 2.0, "cap": 1.0}, {"factor": 0.5}, {"jitter": 1.0}, {"stable": 0.0}],
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
