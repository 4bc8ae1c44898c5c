from __future__ import annotations

import fcntl
import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.errors import ConnectionBroken, LimitExceeded
from mcpd.supervisor import pipes
from mcpd.supervisor.pipes import PIPE_SIZE, READ_MAX, READ_MIN, PipeBudget, PipeReader, PipeWriter


@pytest.fixture
def pipe():
    """A pipe whose ends are not closed by the fixture: (read, write)."""
    return os.pipe2(os.O_CLOEXEC)


async def test_a_write_is_in_the_pipe_at_once(pipe, monkeypatch):
    monkeypatch.setattr("mcpd.supervisor.pipes.GATHER", 0.0)
    read, write = pipe
    writer = PipeWriter(write)
    writer.write(b"one\n")
    writer.write(b"t", bytearray(b"w"), memoryview(b"o\n"))
    assert os.read(read, 100) == b"one\ntwo\n"
    assert (writer.queued, writer.written) == (0, 8)
    writer.close()
    assert os.read(read, 100) == b""
    os.close(read)


async def test_writes_close_together_go_out_in_one_piece(pipe, nursery, monkeypatch):
    monkeypatch.setattr("mcpd.supervisor.pipes.GATHER", 3600.0)
    read, write = pipe
    writer = PipeWriter(write)
    nursery.start_soon(writer.run)
    await wait_all_tasks_blocked()
    writer.write(b"alone\n")
    assert os.read(read, 100) == b"alone\n"
    for number in range(3):
        writer.write(b"%d\n" % number)
    assert writer.queued == 6
    await wait_all_tasks_blocked()
    assert os.read(read, 100) == b"0\n1\n2\n"
    assert writer.queued == 0
    writer.close()
    os.close(read)


async def test_what_does_not_fit_is_queued_and_sent_in_order(pipe, nursery):
    read, write = pipe
    writer = PipeWriter(write)
    nursery.start_soon(writer.run)
    reader = PipeReader(read)
    expected = bytearray()
    mutable = bytearray(b"m" * 1000)
    for number in range(700):
        parts = (b"%06d" % number, mutable, b"x" * (number * 7), b"\n")
        for part in parts:
            expected += part
        writer.write(*parts)
    mutable[:] = b"?" * 1000  # ours is a copy
    writer.write()
    assert writer.queued > 0
    found = bytearray()
    while len(found) < len(expected):
        found += await reader.receive_some()
    assert found == expected
    await wait_all_tasks_blocked()
    assert writer.queued == 0
    writer.write(b"straight again")
    assert await reader.receive_some() == b"straight again"
    writer.close()
    assert await reader.receive_some() == b""
    assert reader.closed


async def test_more_parts_than_the_kernel_takes(pipe, nursery):
    read, write = pipe
    writer = PipeWriter(write)
    nursery.start_soon(writer.run)
    writer.write(*[b"ab"] * 3000)
    reader = PipeReader(read)
    found = b""
    while len(found) < 6000:
        found += await reader.receive_some()
    assert found == b"ab" * 3000
    writer.close()
    reader.close()


async def test_room_waits_until_the_other_side_reads(pipe, nursery):
    read, write = pipe
    writer = PipeWriter(write)
    nursery.start_soon(writer.run)
    await writer.room(0)
    writer.write(b"x" * (1 << 20))
    done = trio.Event()

    async def wait() -> None:
        await writer.room(1000)
        done.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert not done.is_set()
    reader = PipeReader(read)
    nursery.start_soon(reader.drain)
    await done.wait()
    assert writer.queued <= 1000
    writer.close()
    reader.close()


async def test_a_closed_reader_is_a_broken_connection(pipe):
    read, write = pipe
    writer = PipeWriter(write)
    os.close(read)
    with pytest.raises(ConnectionBroken, match="closed its stdin"):
        writer.write(b"x")
    assert writer.closed
    with pytest.raises(ConnectionBroken):
        writer.write(b"x")
    with pytest.raises(ConnectionBroken):
        await writer.room(0)
    writer.close()


async def test_a_reader_that_closes_while_bytes_wait(pipe, nursery):
    read, write = pipe
    writer = PipeWriter(write)
    nursery.start_soon(writer.run)
    writer.write(b"x" * (1 << 20))
    await wait_all_tasks_blocked()
    os.close(read)
    with pytest.raises(ConnectionBroken):
        await writer.room(0)
    assert writer.queued == 0
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("queued", [b"", b"x" * (1 << 20)])
async def test_close_ends_the_flusher_and_frees_waiters(pipe, queued):
    read, write = pipe
    writer = PipeWriter(write)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        if queued:
            writer.write(queued)
            nursery.start_soon(_expect_broken, writer)
        await wait_all_tasks_blocked()
        writer.close()
    os.close(read)


async def _expect_broken(writer: PipeWriter) -> None:
    with pytest.raises(ConnectionBroken):
        await writer.room(0)


async def test_a_child_that_does_not_read_cannot_take_our_memory(pipe, monkeypatch):
    monkeypatch.setattr(pipes, "WRITE_QUEUE_MAX", 300_000)
    read, write = pipe
    writer = PipeWriter(write)
    writer.write(b"x" * 200_000)
    before = writer.queued
    with pytest.raises(LimitExceeded, match="does not read"):
        writer.write(b"y" * 300_000)
    assert writer.queued == before
    writer.close()
    os.close(read)


async def test_the_read_size_follows_the_load(pipe, nursery):
    read, write = pipe
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    writer, reader = PipeWriter(write), PipeReader(read)
    nursery.start_soon(writer.run)
    writer.write(b"x" * (8 << 20))
    largest, left = 0, 8 << 20
    while left:
        # The writer fills the pipe while this task waits.
        await wait_all_tasks_blocked()
        data = await reader.receive_some()
        largest = max(largest, len(data))
        left -= len(data)
    assert READ_MIN < largest <= READ_MAX
    assert reader._size > READ_MIN
    for _ in range(200):
        writer.write(b"small")
        assert await reader.receive_some() == b"small"
    assert reader._size == READ_MIN
    writer.close()
    reader.close()


async def test_a_flood_does_not_starve_other_tasks(pipe, nursery):
    read, write = pipe
    writer, reader = PipeWriter(write), PipeReader(read)
    nursery.start_soon(writer.run)
    writer.write(b"x" * (4 << 20))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    nursery.start_soon(other)
    reads = 0
    left = 4 << 20
    while left:
        left -= len(await reader.receive_some())
        reads += 1
    assert turns >= reads
    writer.close()
    reader.close()


async def test_close_ends_a_waiting_reader(pipe, nursery):
    read, write = pipe
    reader = PipeReader(read)
    found = []

    async def receive() -> None:
        found.append(await reader.receive_some())

    nursery.start_soon(receive)
    await wait_all_tasks_blocked()
    reader.close()
    reader.close()
    await wait_all_tasks_blocked()
    assert found == [b""]
    assert await reader.receive_some() == b""
    os.close(write)


async def test_drain_takes_over_from_a_waiting_reader(pipe, nursery):
    read, write = pipe
    reader = PipeReader(read)
    found = []

    async def receive() -> None:
        found.append(await reader.receive_some())

    nursery.start_soon(receive)
    await wait_all_tasks_blocked()
    nursery.start_soon(reader.drain)
    await wait_all_tasks_blocked()
    assert found == [b""]
    os.write(write, b"dropped")
    await wait_all_tasks_blocked()
    assert await reader.receive_some() == b""
    assert reader.received == 7
    os.close(write)
    await wait_all_tasks_blocked()
    assert reader.closed


async def test_on_first_is_called_once(pipe):
    read, write = pipe
    reader = PipeReader(read)
    calls = []
    reader.on_first = lambda: calls.append(1)
    for _ in range(2):
        os.write(write, b"x")
        await reader.receive_some()
    assert calls == [1]
    os.close(write)
    reader.close()


def test_the_budget_leaves_the_default_size_to_the_rest():
    budget = PipeBudget(2 * PIPE_SIZE)
    ends = [os.pipe() for _ in range(3)]
    try:
        taken = [budget.enlarge(read) for read, _ in ends]
        assert taken == [PIPE_SIZE, PIPE_SIZE, 0]
        assert fcntl.fcntl(ends[0][1], fcntl.F_GETPIPE_SZ) == PIPE_SIZE
        budget.give_back(PIPE_SIZE)
        assert budget.enlarge(ends[2][0]) == PIPE_SIZE
    finally:
        for pair in ends:
            for fd in pair:
                os.close(fd)


def test_what_the_kernel_refuses_stays_as_it_is():
    file = os.open("/dev/null", os.O_RDONLY)
    try:
        assert PipeBudget().enlarge(file) == 0
    finally:
        os.close(file)


async def test_what_has_come_and_was_not_received_is_counted(pipe):
    read, write = pipe
    reader = PipeReader(read)
    assert reader.pending == 0
    os.write(write, b"12345")
    assert reader.pending == 5
    assert await reader.receive_some() == b"12345"
    assert reader.pending == 0
    reader.close()
    assert reader.pending == 0
