from __future__ import annotations

import pytest
import trio
import trio.testing

from mcpd.events import BadCursor
from mcpd.supervisor import logs as module
from mcpd.supervisor.logs import ALL_BYTES, OVERHEAD, READ_MAX, SERVER_BYTES, Logs


def hide(text: str) -> str:
    return text.replace("s3cret", "***")


def texts(lines):
    return [line.describe()["text"] for line in lines]


def test_lines_outlive_the_process_that_wrote_them():
    logs = Logs()
    first, second = logs.voice("a", hide, 7), logs.voice("a", hide, 8)
    first.note("started")
    first.say([b"one", b"two"])
    first.note("ended: killed by SIGKILL")
    second.note("started")
    second.say([b"three"])
    lines = [line.describe() for line in logs.tail((), 100).lines]
    assert [(each["kind"], each["pid"], each["text"]) for each in lines] == [
        ("note", 7, "started"),
        ("line", 7, "one"),
        ("line", 7, "two"),
        ("note", 7, "ended: killed by SIGKILL"),
        ("note", 8, "started"),
        ("line", 8, "three"),
    ]
    assert all(each["server"] == "a" and each["at"] > 0 for each in lines)
    assert texts(logs.tail((), 2).lines) == ["started", "three"]
    assert logs.tail((), 0).lines == []


def test_several_logs_are_read_as_one_in_the_order_of_what_was_said():
    logs = Logs()
    a, b = logs.voice("a", hide), logs.voice("b", hide)
    for number in range(3):
        a.say([b"a%d" % number])
        b.say([b"b%d" % number])
    assert texts(logs.tail((), 100).lines) == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert texts(logs.tail(("b",), 100).lines) == ["b0", "b1", "b2"]
    assert logs.tail(("c",), 100).lines == []


def test_what_is_shown_is_printable_and_free_of_secrets():
    logs = Logs()
    logs.voice("a", hide).say([b"\x1b[31ms3cret\x07\xff"])
    assert texts(logs.tail((), 1).lines) == ["***\ufffd"]


def test_a_reader_goes_on_where_it_was():
    logs = Logs()
    voice = logs.voice("a", hide)
    voice.say([b"one"])
    cursor = logs.tail((), 1).cursor
    voice.say([b"two"])
    reading = logs.read(cursor, ())
    assert texts(reading.lines) == ["two"]
    assert logs.read(reading.cursor, ()).lines == []
    assert texts(logs.read("0", ()).lines) == ["one", "two"]
    with pytest.raises(BadCursor):
        logs.read("x", ())


def test_after_a_restart_the_reader_is_told_and_shown_what_there_is():
    old, new = Logs(), Logs()
    old.voice("a", hide).say([b"x"] * 9)
    new.voice("a", hide).say([b"one"])
    first, second = new.read(old.tail((), 1).cursor, ()).lines
    assert (first.kind, second.text) == ("gap", b"one")
    assert first.describe()["server"] is None


def test_each_log_is_bounded_and_says_what_it_dropped():
    logs = Logs()
    voice = logs.voice("a", hide)
    cursor = logs.tail((), 0).cursor
    fits = SERVER_BYTES // (100 + OVERHEAD)
    voice.say([b"x" * 100] * (fits + 5))
    found = logs.tail((), 100_000).lines
    assert len(found) == fits + 1
    assert (found[0].kind, found[0].describe()["text"]) == ("gap", "5 earlier lines were dropped")
    gap, *rest = logs.read(cursor, ()).lines
    assert gap.kind == "gap", "who follows too slowly is told"
    assert rest[0].number == gap.number + 1
    assert logs.read(f"{logs.run}.{gap.number}", ()).lines[0].kind == "line", "and is told once"


def test_a_flood_of_one_drops_nothing_of_another():
    logs = Logs()
    logs.voice("quiet", hide).say([b"once"])
    logs.voice("loud", hide).say([b"x" * 1000] * 5000)
    assert texts(logs.tail(("quiet",), 10).lines) == ["once"]


def test_all_logs_together_are_bounded():
    logs = Logs()
    voices = [logs.voice(f"s{number}", hide) for number in range(100)]
    for voice in voices:
        voice.say([b"x" * 1000] * 1000)
    kept = sum(len(line.text) + OVERHEAD for line in logs.tail((), 1_000_000).lines if line.kind == "line")
    assert ALL_BYTES * 0.9 < kept <= ALL_BYTES


def test_logs_of_servers_that_are_gone_are_forgotten():
    logs = Logs()
    a = logs.voice("a", hide)
    logs.voice("b", hide).say([b"b"])
    logs.retain({"b"})
    a.say([b"its process still says something"])
    assert texts(logs.tail((), 9).lines) == ["b"]
    logs.voice("a", hide).say([b"anew"])
    assert texts(logs.tail(("a",), 9).lines) == ["anew"]


def test_many_are_read_a_few_at_a_time():
    logs = Logs()
    logs.voice("a", hide).say([b"x"] * (READ_MAX + 3))
    first = logs.read("0", ())
    assert len(first.lines) == READ_MAX
    assert len(logs.read(first.cursor, ()).lines) == 3


async def test_who_waits_is_woken(nursery):
    logs = Logs()
    voice, woken = logs.voice("a", hide), trio.Event()

    async def wait():
        await logs.wait_more(logs.tail((), 0).cursor)
        woken.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert not woken.is_set()
    voice.say([b"x"])
    with trio.fail_after(5):
        await woken.wait()
        await logs.wait_more("0")


def test_the_next_program_goes_on_with_them(monkeypatch):
    monkeypatch.setattr(module, "SERVER_BYTES", 5 * (1 + OVERHEAD))
    old, new = Logs(), Logs()
    old.share = module.SERVER_BYTES
    old.voice("a", hide, 7).say([b"s3cret", b"1", b"2", b"3", b"4", b"s3cret"])
    cursor = old.tail((), 0).cursor
    state = old.capture()
    assert b"s3cret" not in b"".join(line.text for line in state.lines)
    new.inherit(state, lambda text: text)
    new.voice("a", hide, 7).say([b"after"])
    assert [line.text for line in new.read(cursor, ()).lines] == [b"after"]
    shown = [line.describe() for line in new.tail((), 99).lines]
    assert [each["kind"] for each in shown][:1] == ["gap"]
    assert {each["pid"] for each in shown if each["kind"] == "line"} == {7}
    assert [each["text"] for each in shown][-2:] == ["***", "after"]
