from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.errors import ConnectFailed, ConnectionBroken, LimitExceeded
from mcpd.wire.deadlines import Deadlines
from mcpd.wire.http_client import Abortable, ClientLimits, HttpClient, Url, header_block, parse_url
from tests.wire.http_peer import TEXT, serving

if TYPE_CHECKING:
    from mcpd.wire.http_request import Request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Script:
    """Answers each receive with the next bytes of its script; None closes, an Event is waited for."""

    def __init__(self, *steps: bytes | trio.Event | None) -> None:
        self.steps = steps
        self.received: list[bytes] = []
        self.connections = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                for step in self.steps:
                    data = await stream.receive_some(1_000_000)
                    if not data:
                        return
                    self.received.append(bytes(data))
                    if step is None:
                        return
                    if isinstance(step, trio.Event):
                        await step.wait()
                    else:
                        await stream.send_all(step)
                await stream.receive_some(1)

    async def start(self, nursery: trio.Nursery) -> Url:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def run(task_status: trio.TaskStatus[object]) -> None:
            await trio.serve_listeners(self.handle, listeners, task_status=task_status)

        await nursery.start(run)
        return parse_url(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp?x")


def new_client(**limits) -> HttpClient:
    return HttpClient(limits=ClientLimits(**limits), deadlines=Deadlines())


async def test_the_bytes_of_a_request(nursery):
    script = Script(OK, OK, OK)
    url = await script.start(nursery)
    client = new_client()
    headers = header_block([("Accept", "a")])
    for method, body in ((b"POST", (b"ab", bytearray(b"c"))), (b"POST", b""), (b"GET", b"")):
        response = await client.request(url, method, headers, body)
        assert response.status == 200
        assert await response.read() == b"ok"
    head = b"/mcp?x HTTP/1.1\r\nHost: %b\r\nAccept: a\r\n" % url.authority
    assert script.received == [
        b"POST " + head + b"Content-Length: 3\r\n\r\nabc",
        b"POST " + head + b"Content-Length: 0\r\n\r\n",
        b"GET " + head + b"\r\n",
    ]
    statistics = client.statistics()
    assert (statistics.connects, statistics.reused, statistics.idle) == (1, 2, 1)
    await client.aclose()


ANSWERS = [
    (OK, b"ok", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" + OK, b"ok", True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok", True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\nB: c\r\n\r\n", b"ok", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok", True),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    (OK + b"HTTP/1.1 200 OK\r\n", b"ok", False),
    (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
]


@pytest.mark.parametrize(("answer", "body", "kept"), ANSWERS)
async def test_answers_and_whether_the_connection_is_kept(nursery, answer, body, kept):
    script = Script(answer, answer, answer)
    url = await script.start(nursery)
    client = new_client()
    for _ in range(3):
        response = await client.request(url, b"POST", b"", b"x")
        assert await response.read() == body
        assert await response.receive_some() == b""
        assert client.statistics().idle == (1 if kept else 0)
    assert script.connections == (1 if kept else 3)
    await client.aclose()


async def test_an_answer_that_ends_with_its_connection(nursery):
    async def handle(stream):
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000)

    script = Script()
    script.handle = handle  # type: ignore[method-assign]
    client = new_client()
    response = await client.request(await script.start(nursery), b"GET", b"")
    assert await response.read() == b"x" * 200_000
    assert client.statistics().connections == 0


async def test_head_has_no_body_whatever_it_says(nursery):
    script = Script(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", OK)
    client = new_client()
    url = await script.start(nursery)
    assert await (await client.request(url, b"HEAD", b"")).read() == b""
    assert await (await client.request(url, b"GET", b"")).read() == b"ok"
    assert script.connections == 1
    await client.aclose()


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [
        ((None,), ConnectionBroken, "before an answer came"),
        ((b"HTTP/1.1 200 OK\r\nConte", None), ConnectionBroken, None),
        ((b"SSH-2.0-nonsense\r\n\r\n",), ConnectionBroken, "not an HTTP answer"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",), ConnectionBroken, "not an HTTP answer"),
        ((b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",), LimitExceeded, "65536"),
        ((b"HTTP/1.1 101 Switching Protocols\r\n\r\n",), ConnectionBroken, "not an HTTP answer"),
    ],
)
async def test_answers_that_are_none(nursery, autojump_clock, steps, error, words):
    client = new_client()
    url = await Script(*steps).start(nursery)
    if words is None:
        with trio.move_on_after(5):
            await client.request(url, b"GET", b"")
    else:
        with pytest.raises(error, match=words):
            await client.request(url, b"GET", b"")
    assert client.statistics().connections == 0


@pytest.mark.parametrize(
    "begin",
    [
        b"Content-Length: 9\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"Content-Length: 9",
    ],
)
async def test_an_answer_cut_short(nursery, begin):
    async def handle(stream):
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(b"HTTP/1.1 200 OK\r\n" + begin)

    script = Script()
    script.handle = handle  # type: ignore[method-assign]
    client = new_client()
    with pytest.raises(ConnectionBroken, match="ended"):
        await (await client.request(await script.start(nursery), b"GET", b"")).read()
    assert client.statistics().connections == 0


async def test_a_large_body_and_its_limit():
    async def handler(request: Request) -> None:
        if request.body == b"stream":
            stream = request.open_stream(200, TEXT)
            for _ in range(30):
                stream.write(b"y" * 100_000)
        else:
            request.answer(200, TEXT, b"x" * 3_000_000)

    async with serving(handler) as at:
        url = parse_url(f"http://127.0.0.1:{at.port}/")
        client = new_client()
        for body, expected in ((b"", b"x" * 3_000_000), (b"stream", b"y" * 3_000_000)):
            assert await (await client.request(url, b"POST", b"", body)).read() == expected
            with pytest.raises(LimitExceeded, match="1000000"):
                await (await client.request(url, b"POST", b"", body)).read(1_000_000)
        assert client.statistics().connections == 0
        await client.aclose()


async def test_a_large_request_body_goes_out_whole():
    async def handler(request: Request) -> None:
        request.answer(200, TEXT, b"%d" % len(request.body))

    async with serving(handler) as at:
        client = new_client()
        url = parse_url(f"http://127.0.0.1:{at.port}/")
        parts = (b"a" * 10_000_000, b"", memoryview(b"b" * 5))
        assert await (await client.request(url, b"POST", b"", parts)).read() == b"10000005"
        await client.aclose()


async def test_an_event_stream_comes_bit_by_bit():
    go = trio.Event()

    async def handler(request: Request) -> None:
        stream = request.open_stream(200, b"Content-Type: text/event-stream\r\n")
        stream.write(b"one")
        await go.wait()
        stream.write(b"two")

    async with serving(handler) as at:
        client = new_client()
        response = await client.request(parse_url(f"http://127.0.0.1:{at.port}/"), b"GET", b"")
        assert response.headers[b"content-type"] == b"text/event-stream"
        assert await response.receive_some() == b"one"
        go.set()
        assert await response.receive_some() == b"two"
        assert await response.receive_some() == b""
        assert client.statistics().idle == 1
        await client.aclose()


async def test_a_response_that_is_closed_early_loses_its_connection(nursery):
    script = Script(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc", OK)
    client = new_client()
    url = await script.start(nursery)
    response = await client.request(url, b"GET", b"")
    await response.aclose()
    await response.aclose()
    assert client.statistics().connections == 0


async def test_stale_connections_are_not_reused(nursery):
    closed = trio.Event()

    async def handle(stream):
        script.connections += 1
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(OK)
            if script.connections == 2:
                await stream.send_all(b"unasked")
                await trio.sleep_forever()
        closed.set()

    script = Script()
    script.handle = handle  # type: ignore[method-assign]
    client = new_client()
    url = await script.start(nursery)
    for number in range(3):
        assert await (await client.request(url, b"GET", b"")).read() == b"ok"
        if number == 0:
            await closed.wait()
        await wait_all_tasks_blocked()
    assert script.connections == 3
    await client.aclose()


async def test_a_connection_that_breaks_is_reported_and_not_tried_again(nursery):
    script = Script(OK, None)
    client = new_client()
    url = await script.start(nursery)
    await (await client.request(url, b"GET", b"")).read()
    with pytest.raises(ConnectionBroken, match="used before"):
        await client.request(url, b"GET", b"")
    assert script.connections == 1
    assert len(script.received) == 2


async def test_fresh_takes_a_new_connection_even_at_the_limit(nursery):
    script = Script(OK, OK)
    client = new_client(connections=1)
    url = await script.start(nursery)
    for _ in range(3):
        assert await (await client.request(url, b"GET", b"", fresh=True)).read() == b"ok"
    assert script.connections == 3
    assert client.statistics().connections == 1
    await client.aclose()


async def test_idle_connections_are_closed_in_time(nursery, autojump_clock):
    deadlines = Deadlines()
    await nursery.start(deadlines.run)
    client = HttpClient(limits=ClientLimits(), deadlines=deadlines)
    url = await Script(OK, OK, OK).start(nursery)
    for _ in range(2):
        await (await client.request(url, b"GET", b"")).read()
        await trio.sleep(50)
    assert client.statistics().idle == 1
    await trio.sleep(15)
    assert client.statistics().connections == 0
    assert deadlines.statistics().entries == 0


async def test_limits_on_connections_wait_in_order_and_idle_ones_are_bounded():
    running = 0
    most = 0
    order: list[int] = []

    async def handler(request: Request) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        running -= 1
        request.answer(200, TEXT, request.body)

    async with serving(handler) as at:
        client = new_client(connections=3, idle=2)
        url = parse_url(f"http://127.0.0.1:{at.port}/")

        async def call(number: int) -> None:
            response = await client.request(url, b"POST", b"", b"%d" % number)
            assert await response.read() == b"%d" % number
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(call, number)
                await trio.lowlevel.checkpoint()
        assert sorted(order) == list(range(12))
        assert most <= 3
        assert client.statistics().idle == 2
        assert client.statistics().waiting == 0
        await client.aclose()
        assert client.statistics().connections == 0


async def test_no_connection_becomes_free(nursery, autojump_clock):
    client = new_client(connections=1, connect_timeout=5)
    url = await Script(trio.Event()).start(nursery)
    nursery.start_soon(client.request, url, b"GET", b"")
    await wait_all_tasks_blocked()
    with pytest.raises(ConnectFailed, match="all 1 are busy"):
        await client.request(url, b"GET", b"")
    assert client.statistics().waiting == 0


async def test_a_waiter_gets_the_room_of_a_broken_connection(nursery):
    hold = trio.Event()
    client = new_client(connections=1)
    script = Script(hold)
    url = await script.start(nursery)
    handle = Abortable()
    results: list[str] = []

    async def first() -> None:
        with pytest.raises(ConnectionBroken, match="aborted"):
            await client.request(url, b"GET", b"", handle=handle)
        results.append("first")

    async def second() -> None:
        with pytest.raises(ConnectionBroken, match="before an answer"):
            await client.request(url, b"GET", b"")
        results.append("second")

    nursery.start_soon(first)
    await wait_all_tasks_blocked()
    nursery.start_soon(second)
    await wait_all_tasks_blocked()
    assert client.statistics().waiting == 1
    handle.abort()
    await wait_all_tasks_blocked()
    assert script.connections == 2
    script.steps = ()
    hold.set()
    await wait_all_tasks_blocked()
    assert client.statistics().waiting == 0
    assert results[0] == "first"


@pytest.mark.parametrize("stage", ["before", "connecting", "head", "body", "after"])
async def test_abort_at_every_stage(nursery, stage):
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
    script = Script({"head": trio.Event(), "body": part}.get(stage, OK))
    url = await script.start(nursery)
    client = new_client(connections=1)
    handle = Abortable()
    outcome: list[str] = []
    if stage == "connecting":
        blocker = Script(trio.Event())
        url = await blocker.start(nursery)

        async def block() -> None:
            with pytest.raises(ConnectionBroken):
                await client.request(url, b"GET", b"")

        nursery.start_soon(block)
        await wait_all_tasks_blocked()
    if stage == "before":
        handle.abort()

    async def call() -> None:
        try:
            response = await client.request(url, b"GET", b"", handle=handle)
            outcome.append((await response.read()).decode())
        except (ConnectFailed, ConnectionBroken) as error:
            outcome.append(type(error).__name__ if "aborted" in str(error) else str(error))

    async with trio.open_nursery() as inner:
        inner.start_soon(call)
        await wait_all_tasks_blocked()
        handle.abort()
        handle.abort()
    expected = {"before": "ConnectFailed", "connecting": "ConnectFailed", "after": "ok"}
    assert outcome == [expected.get(stage, "ConnectionBroken")]
    assert client.statistics().idle == (1 if stage == "after" else 0)
    await client.aclose()


async def test_cancelling_a_request_closes_its_connection(nursery):
    client = new_client()
    url = await Script(trio.Event()).start(nursery)
    async with trio.open_nursery() as inner:
        inner.start_soon(client.request, url, b"GET", b"")
        await wait_all_tasks_blocked()
        assert client.statistics().connections == 1
        inner.cancel_scope.cancel()
    assert client.statistics().connections == 0


async def test_nobody_listens():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    client = new_client()
    with pytest.raises(ConnectFailed, match="connection refused; is the server running"):
        await client.request(parse_url(f"http://127.0.0.1:{port}/"), b"GET", b"")
    with pytest.raises(ConnectFailed, match="does not resolve"):
        await client.request(parse_url(f"http://a..invalid:{port}/"), b"GET", b"")
    assert client.statistics().connections == 0


async def test_aclose_ends_everything(nursery):
    client = new_client(connections=1)
    url = await Script(trio.Event()).start(nursery)
    failed: list[str] = []

    async def call() -> None:
        try:
            await client.request(url, b"GET", b"")
        except (ConnectFailed, ConnectionBroken) as error:
            failed.append(type(error).__name__)

    async with trio.open_nursery() as inner:
        inner.start_soon(call)
        await wait_all_tasks_blocked()
        inner.start_soon(call)
        await wait_all_tasks_blocked()
        await client.aclose()
    assert sorted(failed) == ["ConnectFailed", "ConnectionBroken"]
    with pytest.raises(ConnectFailed, match="stopping"):
        await client.request(url, b"GET", b"")
