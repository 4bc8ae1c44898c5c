from __future__ import annotations

import pytest
import trio

from mcpd.backends.pace import NEAR, Pace, kind_of
from mcpd.config.model import Restart
from mcpd.errors import BackendCrashed, BackendTimedOut, BackendUnavailable, RpcError
from mcpd.supervisor.restart import RestartPolicy
from mcpd.supervisor.states import Event

DOWN = BackendUnavailable("b", "connection refused", remedy="start it", kind="connection-refused")
OPERATOR = BackendUnavailable("b", "gone", needs_operator=True)


@pytest.mark.parametrize(
    ("failure", "policy", "was_ready", "wanted", "event"),
    [
        (DOWN, "always", False, False, Event.FAILED),
        (DOWN, "always", True, False, Event.LOST),
        (OPERATOR, "always", False, False, Event.NEEDS_OPERATOR),
        (DOWN, "never", False, False, Event.ENDED),
        (DOWN, "on-failure", True, False, Event.LOST),
        (DOWN, "on-failure", True, True, Event.ENDED),
    ],
)
async def test_what_a_failure_of_the_kept_link_means(failure, policy, was_ready, wanted, event, autojump_clock):
    pace = Pace("b", RestartPolicy.of(Restart(policy=policy)))
    found, delay = pace.judge(failure, uptime=99.0 if was_ready else 0.0, was_ready=was_ready, wanted=wanted)
    assert found is event
    assert (delay is None) == (event is Event.ENDED)


async def test_a_crash_loop_is_said_once_in_the_log(autojump_clock, caplog):
    pace = Pace("b", RestartPolicy())
    for _ in range(9):
        pace.failed(DOWN)
    assert pace.looping
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "backend=b event=crash_looping kind=connection-refused reason=backend 'b': connection refused (start it)"
    ]
    assert pace.describe() == {
        "crash_looping": True,
        "error": "backend 'b': connection refused (start it)",
        "failure": {"kind": "connection-refused", "reason": "connection refused", "remedy": "start it"},
        "next_attempt_in": pytest.approx(pace.due_in, abs=0.1),
    }


async def test_a_call_waits_for_an_attempt_that_is_near_and_is_refused_with_the_reason(autojump_clock):
    pace = Pace.for_calls("b", Restart(policy="never", jitter=0))
    assert pace.patience() == 0.0
    for expected in (0.2, 0.4, 0.8, 1.6):
        pace.failed(DOWN)
        assert pace.patience() == pytest.approx(expected)
    pace.failed(DOWN)
    assert pace.due_in == pytest.approx(3.2)
    assert pace.due_in > NEAR
    assert pace.patience() == 0.0, "the first call makes an attempt happen"
    with pytest.raises(BackendUnavailable, match=r"is backing-off; the last .*refused \(start it; it is tri") as caught:
        pace.patience()
    assert caught.value.kind == "connection-refused"
    assert caught.value.remedy == "start it; it is tried again in 3 s"
    await trio.sleep(3.2)
    assert pace.patience() == 0.0


async def test_what_works_is_not_waited_for_but_remembered_until_it_answers(autojump_clock):
    pace = Pace.for_calls("b", Restart(jitter=0))
    for _ in range(6):
        pace.failed(DOWN)
    pace.worked()
    assert (pace.error, pace.due_in, pace.patience(), pace.looping) == (None, 0.0, 0.0, True)
    pace.failed(DOWN)
    assert pace.due_in == pytest.approx(12.8)
    pace.answered()
    pace.failed(DOWN)
    assert pace.due_in == pytest.approx(0.2)


def test_kinds():
    assert kind_of(DOWN) == "connection-refused"
    assert kind_of(BackendCrashed("b", "x")) == "crashed"
    assert kind_of(BackendTimedOut("b", "x")) == "timed-out"
    assert kind_of(RpcError(1, "no database")) == "error"


async def test_an_error_of_the_server_itself_is_told_too(autojump_clock):
    pace = Pace("b", RestartPolicy())
    pace.failed(RpcError(-32603, "no database"))
    assert str(pace.unavailable("backing-off")) == "backend 'b': it is backing-off: no database (try again in a moment)"
    assert pace.describe()["error"] == "no database"
    assert "failure" not in pace.describe()
