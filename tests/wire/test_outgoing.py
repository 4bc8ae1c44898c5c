from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.wire.outgoing import JOIN_MAX, Outgoing


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        yield ours, theirs


async def receive(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        await trio.lowlevel.wait_readable(sock)
        got += sock.recv(min(7001, size - len(got)))
    return got


async def test_everything_arrives_in_order_however_it_was_handed_in(nursery, pair):
    ours, theirs = pair
    out = Outgoing(ours, nursery)
    expected = b""
    for number in range(40):
        data = bytes([number]) * (number * 1999)
        third = len(data) // 3
        if number % 2:
            assert out.send(data)
        else:
            parts = (data[:third], bytearray(data[third:-third]), b"", memoryview(data)[len(data) - third :])
            assert out.send_parts(parts, sum(map(len, parts)))
            data = b"".join(parts)
        expected += data
        if number % 10 == 9:
            assert out.queued
            assert await receive(theirs, len(expected)) == expected
            expected = b""
            await out.wait_drained()
            assert out.queued == 0
    await out.wait_drained()


async def test_a_broken_connection_drops_what_is_queued_and_wakes_who_waits(nursery, pair):
    ours, theirs = pair
    out = Outgoing(ours, nursery)
    assert out.send_parts((b"x" * JOIN_MAX, b"y" * 1_000_000), JOIN_MAX + 1_000_000)
    assert out.queued > 900_000
    nursery.start_soon(out.wait_drained)
    await wait_all_tasks_blocked()
    theirs.close()
    await out.wait_drained()
    assert out.broken
    assert out.queued == 0
    assert not out.send(b"z")
    assert not out.send_parts((b"z" * 40_000,), 40_000)


async def test_waiting_readers_may_be_turned_out_without_harm(nursery, pair):
    ours, theirs = pair
    out = Outgoing(ours, nursery)
    out.send(b"x" * 500_000)
    await wait_all_tasks_blocked()
    trio.lowlevel.notify_closing(ours)
    await wait_all_tasks_blocked()
    assert await receive(theirs, 500_000) == b"x" * 500_000
    await out.wait_drained()
    assert not out.broken
