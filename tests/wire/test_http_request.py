from __future__ import annotations

import socket
import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_request import PIPELINE_MAX, Request, Stream
from tests.wire.http_peer import TEXT, Client, post, serving


async def test_a_stream_is_chunked_and_the_connection_goes_on():
    async def handler(request: Request) -> None:
        stream = request.open_stream(200, TEXT)
        assert not request.complete
        for part in (b"one", (b"t", bytearray(b"w"), memoryview(b"o")), b"", (b"",), b"z" * 100_000):
            assert stream.write(part)
        stream.end()
        stream.end()
        assert stream.closed
        assert not stream.write(b"late")

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        for _ in range(2):
            await client.send(post(b""))
            _, headers, body = await client.answer()
            assert headers[b"transfer-encoding"] == b"chunked"
            assert body == b"onetwo" + b"z" * 100_000


async def test_a_stream_to_http_1_0_ends_by_closing():
    async def handler(request: Request) -> None:
        stream = request.open_stream(200, TEXT)
        stream.write(b"one")
        stream.write((b"two",))

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = await client.rest()
        assert b"chunked" not in answer
        assert answer.endswith(b"\r\n\r\nonetwo")


async def test_a_stream_to_head_writes_nothing():
    async def handler(request: Request) -> None:
        request.open_stream(200, TEXT).write(b"one")

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        await client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert (await client.rest()).endswith(b"\r\n\r\n")


async def test_writes_arrive_at_once_and_a_returning_handler_ends_the_stream():
    go = trio.Event()

    async def handler(request: Request) -> None:
        stream = request.open_stream(200, TEXT)
        stream.write(b"first")
        await go.wait()
        stream.write(b"last")

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        await client.send(post(b""))
        seen = b""
        while b"first" not in seen:
            seen += await client.receive()
        go.set()
        client.left = seen
        assert (await client.answer())[2] == b"firstlast"


async def test_a_crash_within_a_stream_shows_as_a_truncated_answer():
    async def handler(request: Request) -> None:
        request.open_stream(200, TEXT).write(b"half")
        raise ValueError("oops")

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        await client.send(post(b""))
        assert (await client.rest()).endswith(b"4\r\nhalf\r\n")


async def test_a_slow_reader_is_dropped_at_the_bound():
    wrote: list[int] = []

    async def handler(request: Request) -> None:
        stream = request.open_stream(200, TEXT)
        while stream.write(b"x" * 50_000):
            wrote.append(stream.queued)
        assert stream.closed
        assert request.is_gone()

    async with serving(handler, HttpLimits(stream_queue=1_000_000)) as at, await at.connect() as raw:
        await raw.send_all(post(b""))
        await wait_all_tasks_blocked()
        assert 900_000 < max(wrote) <= 1_000_000 + 50_010  # the bound, and the one message that meets it
        assert at.server.statistics().connections == 0


async def test_a_reader_that_is_slow_for_a_while_gets_everything():
    async def handler(request: Request) -> None:
        stream = request.open_stream(200, TEXT)
        for number in range(100):
            assert stream.write(b"%d" % (number % 10) * 70_000)

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        await client.send(post(b""))
        await wait_all_tasks_blocked()
        body = (await client.answer())[2]
        assert body == b"".join(b"%d" % (number % 10) * 70_000 for number in range(100))


def reset(raw: trio.SocketStream) -> None:
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.socket.close()


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
async def test_wait_gone_and_is_gone(how):
    gone = trio.Event()

    async def handler(request: Request) -> None:
        assert not request.is_gone()
        started.set()
        await request.wait_gone()
        assert request.is_gone()
        request.answer(200, TEXT, b"nobody")
        gone.set()

    started = trio.Event()
    async with serving(handler) as at:
        raw = await at.connect()
        await raw.send_all(post(b""))
        await started.wait()
        await wait_all_tasks_blocked()
        if how == "half-close":
            await raw.send_eof()
        elif how == "reset":
            reset(raw)
        else:
            raw.socket.close()
        await gone.wait()
        await raw.aclose()
        await wait_all_tasks_blocked()
        assert at.server.statistics().connections == 0


async def test_wait_gone_keeps_pipelined_requests():
    answer = trio.Event()

    async def handler(request: Request) -> None:
        if request.body == b"first":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(request.wait_gone)
                await answer.wait()
                nursery.cancel_scope.cancel()
        request.answer(200, TEXT, request.body)

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        await client.send(post(b"first"))
        await client.send(post(b"second") + post(b"third"))
        await wait_all_tasks_blocked()
        answer.set()
        assert [(await client.answer())[2] for _ in range(3)] == [b"first", b"second", b"third"]


async def test_wait_gone_takes_no_more_than_its_bound_and_still_notices(autojump_clock):
    done = trio.Event()

    async def handler(request: Request) -> None:
        await request.wait_gone()
        assert len(request._connection.pending) <= PIPELINE_MAX
        done.set()

    async with serving(handler) as at:
        raw = await at.connect()
        await raw.send_all(post(b""))
        await raw.send_all(b"x" * (PIPELINE_MAX + 1000))
        await wait_all_tasks_blocked()
        assert not done.is_set()
        await raw.send_eof()
        await done.wait()
        await raw.aclose()


async def test_wait_gone_left_in_another_task_gives_way_to_the_next_request():
    async with trio.open_nursery() as nursery:
        ended: list[bool] = []

        async def watch(request: Request) -> None:
            await request.wait_gone()
            ended.append(True)

        async def handler(request: Request) -> None:
            nursery.start_soon(watch, request)
            await trio.testing.wait_all_tasks_blocked()
            request.answer(200, TEXT, request.body)

        async with serving(handler) as at, await at.connect() as raw:
            client = Client(raw)
            for body in (b"1", b"2", b"3"):
                await client.send(post(body))
                assert (await client.answer())[2] == body
        assert ended == []
        nursery.cancel_scope.cancel()


async def test_cancel_ends_the_handler_only_and_the_connection_goes_on_when_answered():
    requests: list[Request] = []
    cancelled: list[bytes] = []

    async def handler(request: Request) -> None:
        if request.body == b"quick":
            request.answer(200, TEXT, b"quick")
            return
        requests.append(request)
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(request.body)
            if request.body == b"a":
                request.answer(200, TEXT, b"cancelled")

    async with serving(handler) as at, await at.connect() as one, await at.connect() as two:
        client, other = Client(one), Client(two)
        await client.send(post(b"a"))
        await other.send(post(b"b"))
        await wait_all_tasks_blocked()
        requests[0 if requests[0].body == b"a" else 1].cancel()
        assert (await client.answer())[2] == b"cancelled"
        assert cancelled == [b"a"]
        for _ in range(3):
            await client.send(post(b"quick"))
            assert (await client.answer())[2] == b"quick"
        for request in requests:
            request.cancel()
        await client.send(post(b"quick"))
        assert (await client.answer())[2] == b"quick"
        assert await other.rest() == b""
        assert sorted(cancelled) == [b"a", b"b"]


async def test_cancel_of_a_handler_that_does_not_wait_any_more_harms_nothing():
    async def handler(request: Request) -> None:
        request.cancel()
        request.answer(200, TEXT, request.body)

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        await client.send(b"".join(post(b"%d" % number) for number in range(5)))
        assert [(await client.answer())[2] for _ in range(5)] == [b"%d" % number for number in range(5)]


async def test_another_task_answers_and_cancels():
    waiting: list[Request] = []

    async def handler(request: Request) -> None:
        waiting.append(request)
        await trio.sleep_forever()

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        for number in range(3):
            await client.send(post(b""))
            await wait_all_tasks_blocked()
            request = waiting.pop()
            request.answer(200, TEXT, b"%d" % number)
            request.cancel()
            assert (await client.answer())[2] == b"%d" % number


async def test_errors_beside_a_cancellation_stay_inside_the_connection(caplog):
    requests: list[Request] = []

    async def handler(request: Request) -> None:
        requests.append(request)
        try:
            await trio.sleep_forever()
        finally:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                raise ValueError("clean-up failed")

    async with serving(handler) as at, await at.connect() as raw:
        await raw.send_all(post(b""))
        await wait_all_tasks_blocked()
        requests[0].cancel()
        assert await Client(raw).rest() == b""
        assert "clean-up failed" in caplog.text
        async with await at.connect() as again:
            await again.send_all(b"GET / HTTP/2.0\r\n\r\n")
            assert (await Client(again).answer())[0] == 505


@pytest.mark.parametrize("streaming", [False, True])
async def test_detach_serves_on_while_the_handler_runs(streaming):
    ended: list[bytes] = []
    detached: list[Request] = []
    release = trio.Event()

    async def handler(request: Request) -> None:
        if request.body == b"plain":
            request.answer(200, TEXT, b"plain")
            return
        with pytest.raises(RuntimeError, match="detached only"):
            request.detach()
        if streaming:
            stream = request.open_stream(200, TEXT)
            stream.write(b"early")
            stream.end()
        else:
            request.answer(200, TEXT, b"early")
        request.detach()
        request.detach()
        detached.append(request)
        try:
            await release.wait()
        finally:
            ended.append(request.body)

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        await client.send(post(b"x"))
        assert (await client.answer())[2] == b"early"
        await client.send(post(b"plain"))
        assert (await client.answer())[2] == b"plain"
        await client.send(post(b"y") + post(b"plain"))
        assert (await client.answer())[2] == b"early"
        assert (await client.answer())[2] == b"plain"
        assert ended == []
        detached[0].cancel()
        await wait_all_tasks_blocked()
        assert ended == [b"x"]
        release.set()
        await wait_all_tasks_blocked()
        assert ended == [b"x", b"y"]
        await client.send(post(b"plain"))
        assert (await client.answer())[2] == b"plain"
        assert at.server.statistics().connections == 1


async def test_detach_takes_the_socket_from_wait_gone():
    async def handler(request: Request) -> None:
        if request.body:
            request.answer(200, TEXT, b"next")
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.wait_gone)
            await wait_all_tasks_blocked()
            request.answer(200, TEXT, b"early")
            request.detach()

    async with serving(handler) as at, await at.connect() as raw:
        client = Client(raw)
        await client.send(post(b""))
        assert (await client.answer())[2] == b"early"
        for _ in range(2):
            await client.send(post(b"1"))
            assert (await client.answer())[2] == b"next"


async def test_writing_to_a_client_that_left():
    result: list[bool] = []
    streams: list[Stream] = []
    go = trio.Event()

    async def handler(request: Request) -> None:
        stream = request.open_stream(200, TEXT)
        streams.append(stream)
        await go.wait()
        while stream.write(b"x" * 1000):
            await trio.lowlevel.checkpoint()
        result.append(stream.closed)

    async with serving(handler) as at:
        raw = await at.connect()
        await raw.send_all(post(b""))
        await wait_all_tasks_blocked()
        reset(raw)
        await raw.aclose()
        go.set()
        await wait_all_tasks_blocked()
        assert result == [True]
        assert at.server.statistics().connections == 0


async def test_peer_address():
    async def handler(request: Request) -> None:
        request.answer(200, TEXT, f"{request.peer} {request.peer_port}".encode())

    async with serving(handler) as at, await at.connect() as raw:
        await raw.send_all(post(b""))
        own = raw.socket.getsockname()[1]
        assert (await Client(raw).answer())[2] == b"127.0.0.1 %d" % own
