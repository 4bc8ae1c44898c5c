from __future__ import annotations

import msgspec
import pytest

from mcpd.protocol.calls import LOG_LEVELS, Call, Caller
from mcpd.protocol.capabilities import NOTHING, ClientCapability
from mcpd.protocol.versions import Version
from mcpd.types import SessionKey


def caller(**facts):
    return Caller(SessionKey("k"), "", Version.V2025_06_18, NOTHING, **facts)


def test_a_caller_is_a_fact():
    """One object serves many calls: a changed fact makes another one, and calls in flight keep theirs."""
    before = caller()
    with pytest.raises(AttributeError):
        before.log_level = 3  # type: ignore[misc]
    after = msgspec.structs.replace(before, log_level=3)
    assert (before.log_level, after.log_level, after.key) == (None, 3, before.key)
    assert before != caller()  # identity, not likeness: two clients may say the same of themselves
    assert before.capabilities & ClientCapability.ROOTS == NOTHING


def test_calls_are_told_apart_even_when_alike():
    def emit(method, params):
        raise AssertionError

    async def ask(method, params):
        raise AssertionError

    def part():
        raise AssertionError

    one, other = (Call(caller(), "tools/call", b"{}", {}, emit, ask, part) for _ in range(2))
    assert one != other
    assert len({one, other}) == 2
    assert one.token is None


def test_log_levels_by_severity():
    assert LOG_LEVELS[0] == "debug"
    assert LOG_LEVELS[-1] == "emergency"
    assert [LOG_LEVELS.index(name) for name in ("info", "warning", "error")] == [1, 3, 4]
    assert len(set(LOG_LEVELS)) == 8
