"""What broken and hostile clients send: a correct answer, a bounded cost, and everyone else undisturbed."""

from __future__ import annotations

import json
import random
from urllib.parse import urlsplit

import pytest
import trio

from tests.e2e.background import daemon_in_background, descriptors, everything, resident, until
from tests.fixtures.peer import HttpPeer, SsePeer

MIB = 1024 * 1024
CONFIG = {"mcpServers": {"all": everything()}, "limits": {"body": MIB, "head": 16 * 1024}}
POST = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def daemon():
    with daemon_in_background(CONFIG) as running:
        yield running


async def connect(daemon) -> trio.SocketStream:
    parts = urlsplit(daemon.base)
    return await trio.open_tcp_stream(parts.hostname, parts.port)


async def answer(daemon, data: bytes, *, half_close: bool = False) -> bytes:
    """What comes back for these bytes until mcpd closes, or has answered once."""
    with trio.fail_after(10):
        async with await connect(daemon) as stream:
            try:
                await stream.send_all(data)
                if half_close:
                    await stream.send_eof()
            except trio.BrokenResourceError:
                pass
            got = b""
            try:
                while more := await stream.receive_some():
                    got += more
                    if b"\r\n\r\n" in got and b"Connection: close" not in got:
                        break
            except trio.BrokenResourceError:
                pass
            return got


async def works(daemon) -> None:
    """A good client is served at once."""
    async with HttpPeer(daemon.url) as peer:
        with trio.fail_after(15):
            await peer.initialize()
            assert await peer.call_json("add", {"a": 1, "b": 2}) == {"sum": 3}


HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ACCEPT = b"Accept: application/json, text/event-stream\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /mcp HTTP/1.1\r\n\r\n", 400),
        (b"GET /mcp HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /mcp HTTP/9.9\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 0x10\r\n\r\n", 400),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", 413),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * MIB + b"\r\n1\r\nx\r\n", 413),
        (HEAD + b"Bad Name: x\r\n\r\n", 400),
        (b"GET /mcp HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403),
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"PUT /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405),
    ],
)
async def test_bad_heads_and_bodies_get_their_status(daemon, data, status):
    got = await answer(daemon, data)
    assert int(got.split(b" ")[1]) in ({status} if status not in (501, 505) else {status, 400})
    await works(daemon)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PO",
        b"POST /mcp HTTP/1.1\r\nHost: local",
        HEAD + ACCEPT + b"Content-Length: 100\r\n\r\n{",
        HEAD + ACCEPT + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ],
)
async def test_a_client_that_stops_in_the_middle(daemon, data):
    got = await answer(daemon, data, half_close=True)
    assert got == b"" or got.startswith(b"HTTP/1.1 400 ")
    await works(daemon)


async def test_a_half_closed_client_still_gets_its_answer(daemon):
    async with HttpPeer(daemon.url) as peer:
        await peer.initialize()
        body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
        session = b"Mcp-Session-Id: %b\r\n" % peer.session_id.encode()
        data = HEAD + ACCEPT + session + b"Content-Length: %d\r\n\r\n" % len(body) + body
        assert b'"result":{}' in await answer(daemon, data, half_close=True)


async def test_bodies_that_are_no_message(daemon):
    deep = b"[" * 400_000
    cases = [
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (deep, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + deep, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","id":2}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', -32600),
        (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":"%b","method":"ping"}' % (b"x" * 5000), -32600),
        (b'{"id":1}', -32600),
        (b"7", -32600),
    ]
    async with HttpPeer(daemon.url) as peer:
        await peer.initialize()
        headers = {**POST, **peer.session_headers()}
        for body, code in cases:
            reply = await peer.raw("POST", headers=headers, body=body)
            assert (reply.status, reply.json()["error"]["code"]) == (400, code)
        for name, code in (
            (b'"name":"add","name":"crash"', -32600),
            (b'"name":7', -32602),
            (b'"arguments":{}', -32602),
        ):
            body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%b}}' % name
            assert (await peer.raw("POST", headers=headers, body=body)).json()["error"]["code"] == code
        for params in (b"[]", b"7", b"null", b'"x"'):
            body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":%b}' % params
            assert (await peer.raw("POST", headers=headers, body=body)).json()["id"] == 1
        pid = (await peer.call_json("whoami"))["pid"]
        # The bound is that of the interpreter: 1,000 levels in 3.11, some 10,000 in later ones.
        for depth, status in ((500, 200), (20_000, 400), (400_000, 400)):
            nested = b"[" * depth + b"]" * depth
            params = b'{"name":"echo","arguments":{"value":%b}}' % nested
            body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
            assert (await peer.raw("POST", headers=headers, body=body)).status == status
        assert (await peer.call_json("whoami"))["pid"] == pid, "no depth is passed on that kills a parser"
    await works(daemon)
    assert "Traceback" not in daemon.stderr


async def test_a_body_at_the_limit_and_one_beyond(daemon):
    async with HttpPeer(daemon.url) as peer:
        await peer.initialize()
        frame = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "echo", "arguments": {"v": ""}},
        }
        room = MIB - len(json.dumps(frame))
        headers = {**POST, **peer.session_headers()}
        for size, status in ((room, 200), (room + 1, 413)):
            frame["params"]["arguments"]["v"] = "x" * size
            reply = await peer.raw("POST", headers=headers, body=frame)
            assert reply.status == status
        assert b"limits.body" in reply.body


async def test_garbage_from_a_hundred_connections(daemon):
    source = random.Random(8080)
    await works(daemon)
    memory, files = resident(daemon.pid), descriptors(daemon.pid)

    async def throw(data: bytes, linger: bool) -> None:
        async with await connect(daemon) as stream:
            try:
                await stream.send_all(data)
                if linger:
                    await stream.receive_some()
            except trio.BrokenResourceError:
                pass

    starts = (b"", b"GET / HTTP/1.1\r\n", b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n", HEAD + ACCEPT)
    async with trio.open_nursery() as nursery:
        for n in range(100):
            data = starts[n % 4] + source.randbytes(source.randrange(1, 3000)) + b"\r\n\r\n"
            nursery.start_soon(throw, data, bool(n % 3))
    await works(daemon)
    await until(lambda: descriptors(daemon.pid) <= files + 1)
    assert resident(daemon.pid) - memory < 8 * MIB
    assert "Traceback" not in daemon.stderr


async def test_stalled_connections_disturb_nobody(daemon):
    async with trio.open_nursery() as nursery:
        streams = [await connect(daemon) for _ in range(60)]
        pieces = (b"", b"POST /mcp HT", HEAD, HEAD + ACCEPT + b"Content-Length: 1000000\r\n\r\n{")
        for n, stream in enumerate(streams):
            await stream.send_all(pieces[n % 4])
        for _ in range(3):
            await works(daemon)
        for stream in streams:
            nursery.start_soon(stream.aclose)
    await works(daemon)


async def test_pipelined_requests_are_answered_in_their_order(daemon):
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    two = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with await connect(daemon) as stream:
        await stream.send_all(one + two + one)
        got = b""
        with trio.fail_after(30):
            while got.count(b"HTTP/1.1 ") < 3 or not got.endswith(b"}"):
                got += await stream.receive_some()
    statuses = [part[:3] for part in got.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404", b"200"]


async def test_an_sse_client_may_send_rubbish(daemon):
    async with SsePeer(daemon.base + "/sse") as peer:
        await peer.initialize()
        plain = HttpPeer("")
        for body in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
            assert (await plain.raw("POST", url=peer.endpoint, body=body)).status == 400
        forged = peer.endpoint[:-3] + "xxx"
        assert (await plain.raw("POST", url=forged, body=b"{}")).status == 404
        assert await peer.call_json("add", {"a": 1, "b": 2}) == {"sum": 3}
