from __future__ import annotations

from time import perf_counter

import pytest

from mcpd.events import Events
from mcpd.gateway.load import WINDOW, load


class Call:
    def __init__(self, server="a", ms=1.0, outcome="ok", ago=0.0):
        self.ended = perf_counter() - ago
        self.about = {"server": server, "ms": ms, "outcome": outcome}

    def describe(self):
        return self.about


def test_without_calls_there_is_nothing():
    assert load(Events()) == {}


def test_rates_times_and_failures_of_each_server():
    events = Events()
    for ms in range(1, 101):
        events.note_call(Call(ms=float(ms), outcome="failed" if ms > 90 else "ok"))
    events.emit("state", server="a")
    events.note_call(Call("b", 7.0, "error"))
    events.note_call(Call("c", 7.0, "refused"))
    events.note_call(Call(None, 0.1, "refused"))
    found = load(events)
    assert found.keys() == {"a", "b", "c"}
    assert (found["a"].rate, found["a"].failed, found["a"].p50_ms, found["a"].p95_ms) == (10.0, 0.1, 50.0, 96.0)
    assert (found["b"].rate, found["b"].failed) == (0.1, 1.0)
    assert found["c"].failed == 0.0, "that nobody was asked is no failure of the server"


def test_only_the_last_seconds_count():
    events = Events()
    events.note_call(Call(ago=WINDOW + 1))
    assert load(events) == {}
    events.note_call(Call())
    assert load(events)["a"].rate == 0.1


def test_where_less_is_kept_the_rate_is_that_of_what_is_kept():
    events = Events(calls=100)
    for _ in range(101):
        events.note_call(Call(ago=2.0))
    assert load(events)["a"].rate == pytest.approx(50.0, rel=0.1)


def test_calls_of_the_program_before_are_not_counted():
    old, new = Events(), Events()
    old.note_call(Call())
    new.inherit(old.capture())
    assert load(new) == {}
