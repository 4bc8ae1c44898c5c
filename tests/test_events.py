from __future__ import annotations

from time import perf_counter

import pytest
import trio
import trio.testing

from mcpd.events import KINDS, READ_MAX, BadCursor, Events, split_cursor


class Thing:
    def __init__(self, **about):
        self.about = about
        self.ended = perf_counter()
        self.described = 0

    def describe(self):
        self.described += 1
        return self.about


def numbers(reading):
    return [event.number for event in reading.events]


def test_a_reader_goes_on_where_it_was():
    events = Events(clock=lambda: 5.0)
    start = events.cursor
    events.emit("state", server="a", to="ready")
    events.note_call(Thing(tool="t"))
    first = events.read(start)
    assert first.gap == ""
    assert [event.describe() for event in first.events] == [
        {"at": 5.0, "kind": "state", "server": "a", "to": "ready"},
        {"at": 5.0, "kind": "call", "tool": "t"},
    ]
    assert events.read(first.cursor).events == []
    events.emit("reload", ok=True)
    assert numbers(events.read(first.cursor)) == [3]
    assert numbers(events.read("0")) == [1, 2, 3], "0 is the beginning"


def test_a_call_is_described_only_when_somebody_reads_it():
    events, thing = Events(calls=2), Thing(a=1)
    for _ in range(5):
        events.note_call(thing)
    assert thing.described == 0
    [event.describe() for event in events.read("0").events]
    assert thing.described == 2


def test_calls_push_out_nothing_else():
    events = Events(calls=2, others=2)
    events.emit("state", server="a")
    before = events.cursor
    for _ in range(5):
        events.note_call(Thing())
    assert numbers(events.read("0")) == [1, 5, 6]
    assert events.read(before).gap, "three calls were missed"
    assert events.read(before, ["state"]).gap == "", "but nothing of what this one reads"
    assert numbers(events.read("0", ["state"])) == [1]
    assert numbers(events.read("0", ["call"])) == [5, 6]


def test_a_slow_reader_is_told_once_of_what_it_missed():
    events = Events(others=3)
    start = events.cursor
    for _ in range(10):
        events.emit("state")
    reading = events.read(start)
    assert reading.gap
    assert numbers(reading) == [8, 9, 10]
    assert events.read(reading.cursor).gap == ""


def test_a_cursor_of_another_run_is_a_gap_and_not_the_same_number():
    before, after = Events(), Events()
    for _ in range(5):
        before.emit("state")
    after.emit("mcpd", what="ready")
    assert before.run != after.run
    reading = after.read(before.cursor)
    assert "anew" in reading.gap
    assert numbers(reading) == [1]
    assert after.read(reading.cursor).gap == ""
    assert after.read(f"{after.run}.7").gap, "a number that was not given out yet"


def test_many_are_read_a_few_at_a_time():
    events = Events()
    for _ in range(READ_MAX + 10):
        events.emit("state")
    first = events.read("0")
    assert len(first.events) == READ_MAX
    assert len(events.read(first.cursor).events) == 10


@pytest.mark.parametrize("cursor", ["", "1", "x", "a.b", ".5", "a.-1", "a b.1", "a.1" + "0" * 20, "a.²", "a\n.1"])
def test_what_is_no_cursor_is_refused(cursor):
    with pytest.raises(BadCursor):
        split_cursor(cursor)
    with pytest.raises(BadCursor):
        Events().read(cursor)


async def test_who_waits_is_woken_by_the_next_event_and_not_before(autojump_clock):
    events = Events()
    woken = []

    async def wait(cursor):
        await events.wait_more(cursor)
        woken.append(events.last)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait, events.cursor)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        events.emit("state")
        await trio.testing.wait_all_tasks_blocked()
        assert woken == [1, 1, 1]
        nursery.start_soon(wait, "0")  # there is something already
        await trio.testing.wait_all_tasks_blocked()
        assert woken == [1, 1, 1, 1]


def test_the_next_program_goes_on_counting():
    old, new = Events(calls=2, others=2), Events(calls=2, others=2)
    for number in range(3):
        old.emit("state", server=str(number))
    old.note_call(Thing(tool="t"))
    cursor = old.read(f"{old.run}.2").cursor
    new.emit("mcpd", what="ready")
    new.inherit(old.capture())
    reading = new.read(cursor)
    assert reading.gap == ""
    assert [(event.number, event.kind) for event in reading.events] == [(5, "mcpd")]
    assert new.read(f"{old.run}.0").gap, "what the old one had lost is lost"
    assert [event.describe()["kind"] for event in new.read("0").events] == ["state", "call", "mcpd"]


def test_what_is_emitted_is_in_the_table(request):
    """Read from the source, so that a kind that nobody documented fails here."""
    found = set()
    for path in (request.config.rootpath / "mcpd").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for piece in text.split("events.emit(")[1:]:
            found.add(piece.lstrip().split('"')[1])
    assert found <= KINDS.keys()
    assert KINDS.keys() - found == {"call"}, "and what is in the table is emitted"
