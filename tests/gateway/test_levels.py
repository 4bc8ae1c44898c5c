from __future__ import annotations

import math

import trio

from mcpd.gateway.levels import LEVEL_WAIT, NOBODY, Levels
from mcpd.protocol.calls import LOG_LEVELS
from tests.gateway.fakes import FakeBackend, join, make_sessions

DEBUG, INFO, WARNING, ERROR = (LOG_LEVELS.index(name) for name in ("debug", "info", "warning", "error"))


async def start(nursery, sessions, *backends) -> Levels:
    levels = Levels(sessions)
    sessions.forget = levels.left
    levels.use(backends)
    nursery.start_soon(levels.run)
    await trio.testing.wait_all_tasks_blocked()
    return levels


async def test_backends_hear_the_lowest_of_all_and_each_ones_own(tmp_path, nursery, autojump_clock):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    levels = await start(nursery, sessions, backend)
    one, two = join(sessions), join(sessions)
    await levels.set(one, WARNING)
    await levels.set(two, ERROR)
    await levels.set(one, DEBUG)
    await levels.set(one, ERROR)
    assert backend.levels == [
        ("warning", one.caller.key, "warning"),
        ("warning", two.caller.key, "error"),
        ("debug", one.caller.key, "debug"),
        ("error", one.caller.key, "error"),
    ]
    assert one.caller.log_level == ERROR
    assert trio.current_time() == 0


async def test_the_level_of_a_client_that_left_is_not_counted(tmp_path, nursery, autojump_clock):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    levels = await start(nursery, sessions, backend)
    chatty, quiet, silent = join(sessions), join(sessions), join(sessions)
    await levels.set(chatty, DEBUG)
    await levels.set(quiet, ERROR)
    sessions.end(silent)
    sessions.end(chatty)
    await trio.testing.wait_all_tasks_blocked()
    assert backend.levels[2:] == [("error", NOBODY, "error")]
    sessions.end(quiet)
    await trio.testing.wait_all_tasks_blocked()
    assert backend.levels[3:] == [("info", NOBODY, "info")]


async def test_one_that_left_with_a_higher_level_changes_nothing(tmp_path, nursery, autojump_clock):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    levels = await start(nursery, sessions, backend)
    one, two = join(sessions), join(sessions)
    await levels.set(one, DEBUG)
    await levels.set(two, ERROR)
    sessions.end(two)
    await trio.testing.wait_all_tasks_blocked()
    assert len(backend.levels) == 2


async def test_a_slow_backend_is_waited_for_briefly_and_told_in_the_end(tmp_path, nursery, autojump_clock):
    sessions, slow, quick = make_sessions(tmp_path), FakeBackend("slow"), FakeBackend("quick")
    levels = await start(nursery, sessions, slow, quick)
    slow.level_gate = trio.Event()
    one = join(sessions)
    await levels.set(one, DEBUG)
    assert trio.current_time() == LEVEL_WAIT
    assert quick.levels == [("debug", one.caller.key, "debug")]
    # What changes meanwhile is told once, as it is by then.
    await levels.set(one, ERROR)
    await levels.set(one, WARNING)
    slow.level_gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert slow.levels == [("debug", one.caller.key, "debug"), ("warning", one.caller.key, "warning")]
    assert quick.levels[-1] == ("warning", one.caller.key, "warning")


async def test_a_client_that_left_before_a_slow_backend_heard_of_it(tmp_path, nursery, autojump_clock):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    levels = await start(nursery, sessions, backend)
    stays, leaves = join(sessions), join(sessions)
    await levels.set(stays, WARNING)
    backend.level_gate = trio.Event()
    await levels.set(stays, ERROR)
    await levels.set(leaves, DEBUG)
    sessions.end(leaves)
    backend.level_gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert {key for _level, key, _own in backend.levels} == {stays.caller.key, NOBODY}
    assert backend.levels[-1][0] == "error"


async def test_a_session_that_left_counts_for_nothing(tmp_path, nursery, autojump_clock):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    levels = await start(nursery, sessions, backend)
    session = join(sessions)
    sessions.end(session)
    await levels.set(session, DEBUG)
    assert backend.levels == []
    assert levels.lowest == INFO


async def test_a_backend_that_never_answers_delays_nobody_else(tmp_path, nursery, autojump_clock):
    sessions, hanging, quick = make_sessions(tmp_path), FakeBackend("h", takes=math.inf), FakeBackend("q")
    levels = await start(nursery, sessions, hanging, quick)
    hanging.level_gate = trio.Event()
    for _ in range(300):
        session = join(sessions)
        await levels.set(session, DEBUG)
        sessions.end(session)
    assert len(quick.levels) >= 300
    # What waits for it does not grow with those who came and left.
    hanging.level_gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(hanging.levels) <= 2
