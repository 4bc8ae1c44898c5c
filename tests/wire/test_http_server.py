from __future__ import annotations

import errno
import json
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from mcpd.wire import http_server
from mcpd.wire.deadlines import Deadlines
from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_server import SETTLE, HttpServer, serve_http
from mcpd.wire.listeners import open_listeners
from tests.wire.http_peer import TEXT, Client, chunked, post, serving

if TYPE_CHECKING:
    from mcpd.wire.http_request import Request


async def echo(request: Request) -> None:
    head = request.head
    request.answer(200, TEXT, b"%b %b %b" % (head.method, head.target, request.body))


async def test_keep_alive_requests_on_one_connection():
    async with serving(echo) as at, await at.connect() as stream:
        client = Client(stream)
        for number in range(20):
            await client.send(post(b"%d" % number))
            status, headers, body = await client.answer()
            assert (status, body) == (200, b"POST /mcp %d" % number)
            assert headers[b"content-type"] == b"text/plain"
        assert at.server.statistics().requests == 20
        assert at.server.statistics().connections == 1


async def test_pipelined_requests_are_answered_in_order():
    async with serving(echo) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(b"".join(post(b"%d" % number) for number in range(50)))
        for number in range(50):
            assert (await client.answer())[2] == b"POST /mcp %d" % number


async def test_one_busy_connection_does_not_starve_another():
    seen: list[str] = []

    async def handler(request: Request) -> None:
        seen.append(request.body.decode())
        request.answer(200, TEXT)

    async with serving(handler) as at, await at.connect() as busy, await at.connect() as other:
        await busy.send_all(b"".join(post(b"busy") for _ in range(500)))
        await other.send_all(post(b"other"))
        await Client(other).answer()
        assert seen.count("busy") < 500


async def test_a_body_in_pieces_and_a_large_one():
    async with serving(echo) as at, await at.connect() as stream:
        client = Client(stream)
        body = bytes(range(256)) * 16384
        await client.send(post(body))
        assert (await client.answer())[2] == b"POST /mcp " + body
        await client.send(b"POST /mcp HT")
        await wait_all_tasks_blocked()
        await client.send(b"TP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
        await wait_all_tasks_blocked()
        await client.send(b"cd")
        assert (await client.answer())[2] == b"POST /mcp abcd"


async def test_chunked_body_then_a_plain_request():
    async with serving(echo) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ab", b"c"))
        assert (await client.answer())[2] == b"POST /c abc"
        await client.send(post(b"x"))
        assert (await client.answer())[2] == b"POST /mcp x"


async def test_expect_continue_is_answered_before_the_body():
    async with serving(echo) as at, await at.connect() as stream:
        client = Client(stream)
        request = post(b"body", b"Expect: 100-continue")
        await client.send(request[:-4])
        assert await client.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(request[-4:])
        assert (await client.answer())[2] == b"POST /mcp body"
        await client.send(request)
        assert (await client.answer())[2] == b"POST /mcp body"


async def test_expect_continue_over_the_limit_is_refused_at_once():
    async with serving(echo, HttpLimits(body=10)) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(post(b"x" * 11, b"Expect: 100-continue")[:-11])
        assert (await client.answer())[0] == 413


async def test_http_1_0_and_connection_close_end_the_connection():
    async with serving(echo) as at:
        for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"):
            async with await at.connect() as stream:
                client = Client(stream)
                await client.send(request)
                status, headers, body = await client.answer()
                assert (status, headers[b"connection"], body) == (200, b"close", b"GET / ")
                assert await client.rest() == b""


async def test_head_and_204_have_no_body():
    async def handler(request: Request) -> None:
        request.answer(204 if request.head.method == b"POST" else 200, TEXT, b"text")

    async with serving(handler) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" + post(b"") + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        status, headers, body = await client.answer(b"HEAD")
        assert (status, headers[b"content-length"], body) == (200, b"4", b"")
        assert (await client.answer())[::2] == (204, b"")
        assert (await client.answer())[::2] == (200, b"text")


async def test_answers_in_parts_small_and_large():
    large = (b"a" * 1_000_000, bytearray(b"b"), memoryview(b"c" * 3_000_000), b"")

    async def handler(request: Request) -> None:
        request.answer(200, TEXT, (b"x", bytearray(b"y"), memoryview(b"z")) if request.body else large)

    async with serving(handler) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(post(b"1") + post(b"") + post(b"1"))
        assert (await client.answer())[2] == b"xyz"
        assert (await client.answer())[2] == b"".join(large)
        assert (await client.answer())[2] == b"xyz"


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413, "limits.body"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"b" * 500 + b"\r\n\r\n", 431, "limits.head"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "Transfer-Encoding"),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "HTTP/1.1"),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "one request",
        ),
    ],
)
async def test_refusals_say_why_and_close(data, status, words):
    async with serving(echo, HttpLimits(head=400, body=1000)) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(post(b"fine"))
        assert (await client.answer())[0] == 200
        await client.send(data)
        got, headers, body = await client.answer()
        assert (got, headers[b"connection"], headers[b"content-type"]) == (
            status,
            b"close",
            b"application/json",
        )
        assert words in json.loads(body)["error"]
        assert await client.rest() == b""


async def test_a_refused_body_that_is_still_being_sent_does_not_lose_the_answer():
    async with serving(echo, HttpLimits(body=1000)) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(post(b"x" * 500_000))
        assert (await client.answer())[0] == 413


async def test_a_request_cut_short_is_answered_400():
    async with serving(echo) as at:
        for data in (b"GET / HTTP/1.1\r\nHo", post(b"abc")[:-1]):
            async with await at.connect() as stream:
                client = Client(stream)
                await client.send(data)
                await stream.send_eof()
                assert (await client.answer())[0] == 400


@pytest.mark.parametrize(("data", "after"), [(b"GET / HTTP/1.1\r\nHo", 10), (post(b"abc")[:-1], 30)])
async def test_a_request_that_does_not_come_is_answered_408(autojump_clock, data, after):
    async with serving(echo) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(data)
        start = trio.current_time()
        assert (await client.answer())[0] == 408
        assert after - 1 <= trio.current_time() - start <= after + 1


async def test_slowloris_gains_nothing_by_trickling(autojump_clock):
    async with serving(echo) as at, await at.connect() as stream:
        client = Client(stream)
        start = trio.current_time()
        with trio.move_on_after(60):
            while trio.current_time() - start < 9.5:
                await client.send(b"G")
                await trio.sleep(1)
            assert (await client.answer())[0] == 408
        assert trio.current_time() - start < 12


async def test_a_slow_body_may_take_long_as_long_as_it_moves(autojump_clock):
    async with serving(echo) as at, await at.connect() as stream:
        client = Client(stream)
        data = post(b"0123456789")
        await client.send(data[:-10])
        for at_byte in range(10):
            await trio.sleep(25)
            await client.send(data[len(data) - 10 + at_byte :][:1])
        assert (await client.answer())[2] == b"POST /mcp 0123456789"


async def test_idle_connections_are_closed_silently(autojump_clock):
    async with serving(echo) as at, await at.connect() as stream, await at.connect() as silent:
        client = Client(stream)
        start = trio.current_time()
        await trio.sleep(200)
        await client.send(post(b""))
        await client.answer()
        assert await Client(silent).rest() == b""
        assert 299 < trio.current_time() - start < 301
        assert await client.rest() == b""
        assert 499 < trio.current_time() - start < 501
        await wait_all_tasks_blocked()
        assert at.server.statistics().connections == 0
        assert at.deadlines.statistics().entries == 0


async def test_a_handler_that_takes_long_is_not_idle(autojump_clock):
    async def handler(request: Request) -> None:
        await trio.sleep(2000)
        request.answer(200, TEXT, b"late")

    async with serving(handler) as at, await at.connect() as stream:
        client = Client(stream)
        await client.send(post(b""))
        assert (await client.answer())[2] == b"late"


async def test_a_client_that_does_not_take_its_answer_is_dropped(autojump_clock):
    async def handler(request: Request) -> None:
        request.answer(200, TEXT, b"x" * 20_000_000)

    async with serving(handler) as at, await at.connect() as stream:
        await stream.send_all(post(b""))
        await trio.sleep(100)
        assert at.server.statistics().connections == 0


async def test_a_raising_handler_gets_500_and_harms_nobody(caplog):
    async def handler(request: Request) -> None:
        if request.body == b"bad":
            raise KeyError("secret detail")
        await echo(request)

    async with serving(handler) as at, await at.connect() as one, await at.connect() as two:
        await one.send_all(post(b"bad"))
        status, headers, body = await Client(one).answer()
        assert (status, headers[b"connection"]) == (500, b"close")
        assert b"secret" not in body
        assert "secret detail" in caplog.text
        await two.send_all(post(b"good"))
        assert (await Client(two).answer())[0] == 200


async def test_a_handler_that_does_not_answer_gets_500(caplog):
    async def handler(request: Request) -> None:
        pass

    async with serving(handler) as at, await at.connect() as stream:
        await stream.send_all(post(b""))
        assert (await Client(stream).answer())[0] == 500
        assert "event=handler-gave-no-answer" in caplog.text


async def test_answering_twice_is_an_error_of_ours(caplog):
    async def handler(request: Request) -> None:
        request.answer(200, TEXT, b"one")
        with pytest.raises(RuntimeError, match="answered already"):
            request.answer(200, TEXT, b"two")
        with pytest.raises(RuntimeError, match="answered already"):
            request.open_stream(200, TEXT)

    async with serving(handler) as at, await at.connect() as stream:
        await stream.send_all(post(b""))
        assert (await Client(stream).answer())[2] == b"one"


async def test_over_the_connection_limit_503():
    async with serving(echo, HttpLimits(connections=1)) as at, await at.connect() as one:
        client = Client(one)
        await client.send(post(b""))
        await client.answer()
        async with await at.connect() as two:
            status, _, body = await Client(two).answer()
            assert status == 503
            assert b"limits.connections" in body
        await client.send(post(b""))
        assert (await client.answer())[0] == 200
        assert at.server.statistics().refused == 1


async def test_accept_goes_on_after_running_out_of_files(autojump_clock, caplog):
    class Exhausted(socket.socket):
        failures = 3

        def accept(self):
            if Exhausted.failures:
                Exhausted.failures -= 1
                raise OSError(errno.EMFILE if Exhausted.failures else errno.ECONNABORTED, "no")
            return super().accept()

    limits = HttpLimits()
    async with serving(echo, limits) as at:
        listener = Exhausted(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        with listener:
            at.nursery.start_soon(at.server.accept, listener)
            async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
                await stream.send_all(post(b""))
                assert (await Client(stream).answer())[0] == 200
            assert caplog.text.count("event=accept-failed") == 2
            at.nursery.cancel_scope.cancel()


async def test_listeners_of_trio_are_taken_too():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[http_server.HttpServer]) -> None:
            await http_server.serve_http(
                listeners, echo, limits=HttpLimits(), deadlines=Deadlines(), task_status=task_status
            )

        await nursery.start(serve)
        async with await trio.open_tcp_stream(*listeners[0].socket.getsockname()) as stream:
            await stream.send_all(post(b""))
            assert (await Client(stream).answer())[0] == 200
        nursery.cancel_scope.cancel()
    for listener in listeners:
        await listener.aclose()


async def test_unix_sockets_work(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        seen: list[str] = []

        async def handler(request: Request) -> None:
            seen.append(request.peer)
            assert not request.is_gone()
            request.answer(200, TEXT)

        async def serve(task_status: trio.TaskStatus[http_server.HttpServer]) -> None:
            await http_server.serve_http(
                [listener], handler, limits=HttpLimits(), deadlines=Deadlines(), task_status=task_status
            )

        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            async with await trio.open_unix_socket(str(tmp_path / "s")) as stream:
                await stream.send_all(post(b""))
                assert (await Client(stream).answer())[0] == 200
            nursery.cancel_scope.cancel()
        assert seen == ["unix"]


# ---- the end of a server


async def answering(request: Request) -> None:
    request.answer(200, TEXT, b"done")


async def test_what_was_begun_is_answered_and_what_is_sent_meanwhile_too():
    release = trio.Event()

    async def handler(request: Request) -> None:
        await release.wait()
        request.answer(200, TEXT, b"done")

    async with serving(handler) as at, await at.connect() as busy, await at.connect() as idle:
        await busy.send_all(post(b""))
        await wait_all_tasks_blocked()
        at.server.drain()
        await idle.send_all(post(b""))
        await wait_all_tasks_blocked()
        release.set()
        for stream in (busy, idle):
            client = Client(stream)
            _, headers, body = await client.answer()
            assert (headers[b"connection"], body) == (b"close", b"done")
            assert await client.rest() == b""
        at.server.leave()
        await at.ended()


async def test_who_drains_does_not_accept_until_it_must():
    async with serving(answering) as at:
        at.server.drain()
        async with await at.connect() as stream:
            await stream.send_all(post(b""))
            await wait_all_tasks_blocked()
            assert at.server.statistics().accepted == 0, "it waits in the kernel for whoever serves next"
            at.server.accept_on(True)
            client = Client(stream)
            assert (await client.answer())[1][b"connection"] == b"close"
            at.server.accept_on(False)
            at.server.accept_on(True)
            at.server.accept_on(False)
            await wait_all_tasks_blocked()
            async with await at.connect():
                await wait_all_tasks_blocked()
                assert at.server.statistics().accepted == 1
        at.server.leave()
        at.server.accept_on(True)
        await at.ended()


async def test_a_connection_is_settled_when_it_was_silent_for_a_while(autojump_clock):
    release = trio.Event()

    async def handler(request: Request) -> None:
        await release.wait()
        request.answer(200, TEXT)

    async with serving(handler) as at, await at.connect() as stream:
        await wait_all_tasks_blocked()
        assert at.server.unsettled() == 1, "its first request may be on the way"
        await trio.sleep(SETTLE + 0.1)
        assert at.server.unsettled() == 0
        await stream.send_all(post(b"")[:-6])
        await wait_all_tasks_blocked()
        assert at.server.unsettled() == 1, "a request that is not whole"
        await stream.send_all(post(b"")[-6:])
        await trio.sleep(SETTLE + 0.1)
        assert at.server.unsettled() == 1, "a handler is at work"
        release.set()
        assert (await Client(stream).answer())[0] == 200
        assert at.server.unsettled() == 1, "the next one may be on the way"
        await trio.sleep(SETTLE + 0.1)
        assert at.server.unsettled() == 0


async def test_a_request_that_came_in_the_very_moment_is_answered():
    """What the kernel has received when the server closes its idle connections was not seen by any task yet."""
    async with serving(answering) as at, await at.connect() as stream, await at.connect() as idle:
        await wait_all_tasks_blocked()
        at.server.drain()
        with socket.socket(fileno=os.dup(stream.socket.fileno())) as plain:
            plain.setblocking(False)  # the duplicate shares that with what trio has
            plain.send(post(b""))  # no task of ours runs in between
            at.server.leave()
        client = Client(stream)
        status, headers, body = await client.answer()
        assert (status, headers[b"connection"], body) == (200, b"close", b"done")
        assert await client.rest() == b""
        assert await Client(idle).rest() == b""
        await at.ended()


async def test_what_lasts_is_nobodys_request_and_ends_with_the_server():
    ended = []

    async def handler(request: Request) -> None:
        stream = request.open_stream(200, TEXT)
        request.endure()
        stream.write(b"news")
        try:
            await request.wait_gone()
        finally:
            stream.end()
            ended.append(request.peer)

    async with serving(handler) as at, await at.connect() as stream:
        await stream.send_all(post(b""))
        await wait_all_tasks_blocked()
        at.server.drain()
        await wait_all_tasks_blocked()
        assert (at.server.unsettled(), ended) == (0, [])
        at.server.leave()
        client = Client(stream)
        _, _, body = await client.answer()
        assert (body, ended) == (b"news", ["127.0.0.1"])
        assert await client.rest() == b"", "and not one byte more: the client knows that it was the end"
        await at.ended()


async def test_what_would_last_is_over_at_once_where_the_server_leaves():
    async def handler(request: Request) -> None:
        await release.wait()
        stream = request.open_stream(200, TEXT)
        request.endure()
        try:
            await trio.sleep_forever()
        finally:
            stream.end()

    release = trio.Event()
    async with serving(handler) as at, await at.connect() as stream:
        await stream.send_all(post(b""))
        await wait_all_tasks_blocked()
        at.server.leave()
        release.set()
        status, headers, body = await Client(stream).answer()
        assert (status, headers[b"connection"], body) == (200, b"close", b"")
        await at.ended()


async def test_a_stream_before_the_drain_leaves_a_connection_that_is_served():
    """Its head could not say yet that it is the last answer, so the client may send the next request on it."""
    release = trio.Event()

    async def handler(request: Request) -> None:
        if request.body:
            request.open_stream(200, TEXT)
            await release.wait()
        else:
            request.answer(200, TEXT, b"next")

    async with serving(handler) as at, await at.connect() as stream:
        client = Client(stream)
        await stream.send_all(post(b"x"))
        await wait_all_tasks_blocked()
        at.server.drain()
        release.set()
        assert (await client.answer())[1].get(b"connection") is None
        assert at.server.unsettled() == 1
        await stream.send_all(post(b""))
        _, headers, body = await client.answer()
        assert (headers[b"connection"], body) == (b"close", b"next")
        assert await client.rest() == b""


async def test_listeners_that_nobody_accepts_from_are_an_ailment():
    first, second = await open_listeners("127.0.0.1", 0) + await open_listeners("127.0.0.1", 0)
    with first, second:
        async with trio.open_nursery() as nursery:
            server = HttpServer(echo, limits=HttpLimits(), deadlines=Deadlines(), nursery=nursery)
            assert server.ailment() is None
            nursery.start_soon(server.accept_all, [first, second])
            await wait_all_tasks_blocked()
            assert server.ailment() is None
            server.drain()
            await wait_all_tasks_blocked()
            assert server.ailment() is None, "it is not to accept any more"
            server.leave()

            server = HttpServer(echo, limits=HttpLimits(), deadlines=Deadlines(), nursery=nursery)
            broken = socket.socket()  # not listening
            with broken, pytest.raises(ExceptionGroup):
                await server.accept_all([first, broken])
            assert server.ailment() == "2 of 2 listening sockets have nobody who accepts"


async def test_one_user_has_a_share_of_the_connections(tmp_path):
    path = str(tmp_path / "s")
    deadlines = Deadlines()
    limits = HttpLimits(connections=4, per_user=2)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deadlines.run)
            server = await nursery.start(partial(serve_http, [listener], echo, limits=limits, deadlines=deadlines))
            first, second = [await trio.open_unix_socket(path) for _ in range(2)]
            third = await trio.open_unix_socket(path)
            answer = b"".join([chunk async for chunk in third])
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"all 2 connections that user %d may have are in use" % os.getuid() in answer
            await first.aclose()
            while server.statistics().connections > 1:
                await trio.lowlevel.checkpoint()
            fourth = await trio.open_unix_socket(path)
            await fourth.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"".join([chunk async for chunk in fourth]).startswith(b"HTTP/1.1 200 ")
            await second.aclose()
            while server.statistics().connections:
                await trio.lowlevel.checkpoint()
            assert not server._users
            assert not server._user
            for each in (third, fourth):
                await each.aclose()
            nursery.cancel_scope.cancel()
