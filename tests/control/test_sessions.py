from __future__ import annotations

import trio

from mcpd.control.sessions import list_sessions
from tests.control.parts import ask, operations
from tests.gateway.fakes import join


async def test_sessions_are_told_apart_by_what_is_of_no_use_to_a_client(tmp_path):
    ops = operations(tmp_path)
    session = join(ops.gateway.sessions)
    answer = await list_sessions(ops, ask())
    [about] = answer["sessions"]
    assert answer["listening"] == 0
    assert about["protocol_version"] == session.caller.version.text
    assert (about["calls"], about["connection"]) == (0, "http")
    assert about["tag"]
    assert about["tag"] not in session.id
    assert session.id not in str(answer)
    assert about["age"] >= 0


async def test_who_is_busy_comes_first_and_then_who_was_used_last(tmp_path, autojump_clock):
    ops = operations(tmp_path)
    first, second, _ = (join(ops.gateway.sessions) for _ in range(3))
    await trio.sleep(5)
    ops.gateway.sessions.find(second.id, second.caller.principal)
    first.register(b"1", object(), 9)
    answer = await list_sessions(ops, ask())
    tags = [each["tag"] for each in answer["sessions"]]
    alone = {each["tag"]: each for each in answer["sessions"]}
    assert [alone[tag]["calls"] for tag in tags] == [1, 0, 0]
    assert [alone[tag]["idle"] for tag in tags] == [0.0, 0.0, 5.0]
    assert len(alone) == 3
