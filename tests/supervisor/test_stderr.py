from __future__ import annotations

import fcntl
import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.supervisor import stderr as module
from mcpd.supervisor.stderr import CUT, LINE_MAX, LINES_BURST, READ_SIZE, TAIL_BYTES, TAIL_LINES, StderrTail


async def swallow(data: bytes, **options) -> StderrTail:
    """A tail that has seen `data` and the end."""
    read, write = os.pipe2(os.O_CLOEXEC)
    tail = StderrTail(read, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tail.run)
        sender = trio.lowlevel.FdStream(write)
        await sender.send_all(data)
        await sender.aclose()
    return tail


async def test_the_last_lines_are_kept():
    tail = await swallow(b"one\ntwo\n\nthree\nunfinished")
    assert tail.lines() == ["one", "two", "", "three", "unfinished"]
    assert tail.lines(2) == ["three", "unfinished"]
    assert tail.lines(0) == []
    assert tail.tail(4) == "two | three | unfinished"
    assert tail.tail(limit=6) == "…ished"
    assert (tail.received, tail.dropped) == (25, 0)


async def test_an_unfinished_line_is_seen_while_the_child_lives(nursery):
    read, write = os.pipe2(os.O_CLOEXEC)
    tail = StderrTail(read)
    nursery.start_soon(tail.run)
    os.write(write, b"password: ")
    await wait_all_tasks_blocked()
    assert tail.tail() == "password:"
    os.close(write)
    tail.catch_up()
    tail.close()


async def test_lines_are_the_same_however_they_arrive():
    whole = b"a\nbb\n\nccc" + b"x" * (LINE_MAX + 7) + b"\nend\n"
    read, write = os.pipe2(os.O_CLOEXEC)
    tail = StderrTail(read)
    for index in range(len(whole)):
        tail._take(whole[index : index + 1])
    at_once = StderrTail(os.dup(read))
    at_once._take(whole)
    assert tail.lines() == at_once.lines()
    assert tail.dropped == at_once.dropped == 10
    for each in (tail, at_once):
        each.close()
    os.close(write)


async def test_many_lines_are_bounded():
    data = b"".join(b"%d\n" % number for number in range(10_000))
    tail = await swallow(data)
    assert len(tail.lines()) == TAIL_LINES
    assert tail.lines()[-1] == "9999"
    assert tail.dropped + sum(map(len, tail.lines())) + 10_000 == len(data)


async def test_long_lines_are_cut():
    tail = await swallow(b"x" * 3_000_000)
    assert tail.lines() == ["x" * LINE_MAX + CUT.decode()]
    assert tail.dropped == 3_000_000 - LINE_MAX
    tail = await swallow((b"y" * LINE_MAX + b"\n") * 100)
    assert tail.lines()[-1] == "y" * LINE_MAX
    assert sum(map(len, tail.lines())) <= TAIL_BYTES


async def test_what_would_forge_a_log_is_removed():
    tail = await swallow(b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x00bell\x07\r\xff\ttab\n")
    assert tail.lines() == ["red bell\ufffd\ttab"]


async def test_lines_are_handed_on_at_a_bounded_rate(autojump_clock, nursery):
    read, write = os.pipe2(os.O_CLOEXEC)
    seen = []
    tail = StderrTail(read, on_line=seen.append)
    nursery.start_soon(tail.run)
    await wait_all_tasks_blocked()
    sender = trio.lowlevel.FdStream(write)
    await trio.sleep(1)
    await sender.send_all(b"".join(b"line %d\n" % number for number in range(LINES_BURST + 100)))
    await wait_all_tasks_blocked()
    assert len(seen) == LINES_BURST
    await trio.sleep(1)
    await sender.send_all(b"later\n")
    await sender.aclose()
    await wait_all_tasks_blocked()
    assert seen[LINES_BURST:] == ["[100 lines left out]", "later"]


async def test_the_last_lines_left_out_are_counted_at_the_end():
    seen = []
    await swallow(b"z\n" * (LINES_BURST + 5), on_line=seen.append)
    assert seen[-1] == "[5 lines left out]"


async def test_a_flood_is_read_no_faster_than_its_rate(autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "DRAIN_BURST", 100_000)
    monkeypatch.setattr(module, "DRAIN_RATE", 100_000)
    started = trio.current_time()
    tail = await swallow(b"f" * 400_000)
    assert tail.received == 400_000
    assert trio.current_time() - started == pytest.approx(3.0, abs=1.0)


async def test_what_was_said_is_there_at_once_and_a_talker_is_not_waited_for(monkeypatch):
    read, write = os.pipe2(os.O_CLOEXEC)
    tail = StderrTail(read)
    tail.catch_up()
    assert tail.lines() == []
    os.write(write, b"one\ntwo")
    tail.catch_up()
    assert tail.lines() == ["one", "two"]
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 2 * READ_SIZE)
    os.write(write, b"x" * 2 * READ_SIZE)
    monkeypatch.setattr(module, "CATCH_UP", READ_SIZE)
    before = tail.received
    tail.catch_up()
    assert tail.received == before + READ_SIZE, "the rest is for `run`"
    os.close(write)
    tail.catch_up()
    tail.close()
    tail.catch_up()


async def test_every_line_is_told_as_many_at_once_as_were_read():
    told = []
    await swallow(b"a\nb\n" * 50 + b"unfinished", say=lambda lines: told.append(list(lines)))
    assert [line for lines in told for line in lines] == [b"a", b"b"] * 50 + [b"unfinished"]
    assert len(told) <= 3, "not one by one"


async def test_a_secret_is_not_cut_in_two_before_it_is_known_for_one():
    tail = await swallow(b"x" * 80 + b" s3cret-s3cret\n")
    assert tail.tail(limit=8, clear=lambda text: text.replace("s3cret-s3cret", "***")) == "…xxx ***"
    tail = await swallow(b"x" * (LINE_MAX - 7) + b" s3cret-s3cret and more\n")
    assert tail.lines() == ["x" * (LINE_MAX - 7) + " [cut]"]
