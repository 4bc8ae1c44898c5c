"""Both sides of a WebSocket over real sockets, opposite peers that speak in bytes, and opposite each other."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, open_websocket_url
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import generate_accept_token

from mcpd.errors import ConnectFailed, ConnectionBroken, LimitExceeded
from mcpd.wire import websocket
from mcpd.wire.deadlines import Deadlines
from mcpd.wire.http_client import HttpClient
from mcpd.wire.http_url import WEBSOCKET, parse_url
from mcpd.wire.tls import client_context
from mcpd.wire.websocket import CLOSING, Terms, WebSocket, accept, request_upgrade
from mcpd.wire.websocket_frames import Frames
from mcpd.wire.websocket_handshake import HandshakeRefused, Upgrade, read_upgrade
from mcpd.wire.websocket_stream import ServerStream
from tests.wire.http_peer import serving
from tests.wire.test_tls import CERT
from tests.wire.test_tls import KEY as KEY_FILE
from tests.wire.websocket_peer import KEY, RawPeer, connect

OFFER = b"Sec-WebSocket-Protocol: mcp"
NEVER = 1e6
"""Seconds between pings where they are not what the test is about."""


class Served:
    """A server whose connections are handled by what the test has given."""

    def __init__(self, port: int, server) -> None:
        self.port = port
        self.server = server
        self.failures: list[Exception | None] = []
        """How each connection ended."""
        self._news = trio.Event()
        self.peers: list[RawPeer] = []

    async def connect(self, *more: bytes, early: bytes = b"") -> RawPeer:
        """A client that speaks in bytes, closed when the server has ended."""
        peer = await connect(self.port, *more, early=early)
        self.peers.append(peer)
        return peer

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def note(self, failure: Exception | None) -> None:
        self.failures.append(failure)
        self._news.set()
        self._news = trio.Event()

    async def ended(self, count: int = 1) -> Exception | None:
        """How the connection ended, when it has."""
        while len(self.failures) < count:
            await self._news.wait()
        return self.failures[count - 1]


async def echo(socket) -> None:
    while True:
        socket.write(await socket.receive())


@asynccontextmanager
async def served(
    use=echo, *, limit: int = 1 << 20, every: float = NEVER, patience: float | None = None, succeeded=False
):
    deadlines = Deadlines(resolution=0.01)
    at: Served | None = None

    async def handle(request) -> None:
        terms = Terms(limit, "limits.body", every, patience or every, deadlines, succeeded)
        socket = accept(request, read_upgrade(request.head, "mcp"), terms)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(socket.run)
                try:
                    await use(socket)
                except (ConnectionBroken, LimitExceeded):
                    pass
        finally:
            at.note(socket.failure)

    async with trio.open_nursery() as nursery:
        await nursery.start(deadlines.run)
        async with serving(handle) as running:
            at = Served(running.port, running.server)
            try:
                yield at
            finally:
                for peer in at.peers:
                    await trio.aclose_forcefully(peer.stream)
        nursery.cancel_scope.cancel()


# ---- the server's side -------------------------------------------------------------------------------------


async def test_messages_both_ways_with_the_librarys_client():
    async with served() as at, open_websocket_url(at.url, subprotocols=["x", "mcp"]) as client:
        assert client.subprotocol == "mcp"
        assert client.handshake_headers == (), "no extension, nothing else"
        for text in ("", "ü\n", "x" * 300, "y" * 100_000):
            await client.send_message(text)
            assert await client.get_message() == text
        await client.ping()


async def test_the_subprotocol_is_named_only_when_it_was_asked_for():
    async with served() as at:
        async with open_websocket_url(at.url) as client:
            assert client.subprotocol is None
        assert "code 1000" in str(await at.ended())


async def test_what_was_sent_with_the_request_is_not_lost():
    frames = RawPeer(None, ConnectionType.CLIENT).frames
    early = frames.send(TextMessage(data="one")) + frames.send(TextMessage(data="two"))
    async with served() as at:
        peer = await at.connect(early=early)
        assert [await peer.hear(), await peer.hear()] == ["one", "two"]
        await peer.stream.aclose()


async def test_fragments_with_pings_between_them():
    async with served() as at:
        peer = await at.connect()
        await peer.send(TextMessage(data="a", message_finished=False), Ping(payload=b"p"))
        await peer.send(TextMessage(data="b", message_finished=True))
        assert await peer.next() == Pong(payload=b"p")
        assert await peer.hear() == "ab"
        await peer.stream.aclose()


async def test_the_peer_takes_leave():
    async with served() as at:
        peer = await at.connect()
        await peer.send(CloseConnection(code=4000, reason="enough"))
        assert await peer.closed() == (4000, "enough")
        assert str(await at.ended()) == "the peer closed it with code 4000 'enough'"


async def test_the_peer_vanishes():
    async with served() as at:
        peer = await at.connect()
        await peer.stream.aclose()
        assert "without a close frame" in str(await at.ended())


def closing_1000() -> CloseConnection:
    return CloseConnection(code=1000)


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (BytesMessage(data=b"{}"), 1003, "binary"),
        (TextMessage(data="x" * 1001), 1009, "1001 bytes or more is over the limit of 1000 bytes (limits.body)"),
        (TextMessage(data="ä" * 501), 1009, "1002 bytes"),
        (b"\x81\x82\0\0\0\0\xff\xff", 1007, "not UTF-8"),
        (b"\x81\x81\0\0\0\0\xc3", 1007, "not UTF-8"),
        (b"\x81\x02hi", 1002, "unmasked"),
        (b"\xf1\x82\0\0\0\0hi", 1002, "Reserved bit"),
        (b"\x80\x82\0\0\0\0hi", 1002, "CONTINUATION"),
        (b"\x83\x82\0\0\0\0hi", 1002, "Invalid opcode"),
        (b"\x88\x81\0\0\0\0x", 1002, "CLOSE with 1 byte"),
    ],
)
async def test_what_is_not_taken_is_told_by_the_close_frame(sent, code, reason):
    async with served(limit=1000) as at:
        peer = await at.connect()
        await peer.say("x" * 1000)
        assert await peer.hear() == "x" * 1000
        await peer.send(sent)
        told = await peer.closed()
        assert told[0] == code
        assert reason in told[1]
        failure = await at.ended()
        assert isinstance(failure, LimitExceeded if code == 1009 else ConnectionBroken)


async def test_a_message_that_is_too_large_is_refused_while_it_comes():
    """And the close frame arrives although the peer goes on sending."""
    async with served(limit=1000) as at:
        peer = await at.connect()
        whole = peer.frames.send(TextMessage(data="x" * 2_000_000))
        await peer.stream.send_all(whole[:20])
        event = await peer.next()
        assert isinstance(event, CloseConnection)
        assert event.code == 1009
        await peer.stream.send_all(whole[20:])
        await peer.stream.aclose()
        await at.ended()


async def test_a_peer_that_does_not_take_leave_is_left(autojump_clock):
    async def bye(socket) -> None:
        socket.end(1001, "mcpd is stopping")

    async with served(bye) as at:
        peer = await at.connect()
        event = await peer.next()
        begun = trio.current_time()
        assert (event.code, event.reason) == (1001, "mcpd is stopping")
        await at.ended()
        assert trio.current_time() - begun == pytest.approx(CLOSING, abs=0.5)
        assert await peer.next() is None
        await peer.stream.aclose()


async def test_a_ping_after_our_leave_harms_nothing():
    async def bye(socket) -> None:
        socket.end(1001, "bye")

    async with served(bye) as at:
        peer = await at.connect()
        event = await peer.next()
        assert isinstance(event, CloseConnection)
        await peer.send(b"\x89\x80\0\0\0\0" * 100, event.response())
        assert await peer.next() is None, "and no pong either"
        await peer.stream.aclose()
        await at.ended()


async def test_cancellation_is_told_without_waiting():
    async with served() as at:
        peer = await connect(at.port)
        await peer.say("a")
        await peer.hear()
    event = await peer.next()
    assert isinstance(event, CloseConnection)
    assert event.code == 1001
    assert await peer.next() is None
    await peer.stream.aclose()


async def test_a_server_that_drains_takes_leave():
    async with served() as at:
        peer = await at.connect()
        await peer.say("a")
        await peer.hear()
        at.server.drain()
        await peer.say("b")
        assert await peer.hear() == "b", "until the end it is served"
        at.server.leave()
        assert await peer.closed() == (1001, "mcpd is stopping")
        await at.ended()


async def test_a_server_whose_sockets_stay_open_says_that_it_will_be_back():
    async with served(succeeded=True) as at:
        peer = await at.connect()
        await peer.say("a")
        await peer.hear()
        at.server.leave()
        assert await peer.closed() == (1012, "mcpd is being restarted")
        await at.ended()


async def test_who_does_not_read_is_not_read_from():
    """Neither is more taken from a peer than is worked on, nor is more kept for it than is allowed."""
    release = trio.Event()

    async def busy(socket) -> None:
        await release.wait()
        await echo(socket)

    async with served(busy, limit=1 << 30) as at, trio.open_nursery() as nursery:
        peer = await at.connect()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(400):
                await peer.say("x" * 100_000)
                sent += 1

        nursery.start_soon(flood)
        await wait_all_tasks_blocked(0.05)
        assert sent < 200
        release.set()
        for _ in range(400):
            assert len(await peer.hear()) == 100_000
        await peer.stream.aclose()


async def test_what_is_queued_is_counted_and_bounded(monkeypatch):
    monkeypatch.setattr(websocket, "WRITE_QUEUE_MAX", 30_000_000)
    state = []
    waited = trio.Event()

    async def much(socket) -> None:
        socket.write(b"a" * 50_000_000)  # one message, however large, is no sign of a slow reader
        with pytest.raises(LimitExceeded, match="does not read: 50000000 bytes"):
            socket.write(b"b")
        state.append(socket.queued)
        with pytest.raises(ConnectionBroken):
            await socket.room(0)
        state.append(socket.queued)
        waited.set()

    async with served(much, limit=1 << 30) as at:
        peer = await at.connect()
        await wait_all_tasks_blocked(0.02)
        assert state == [50_000_000]
        await peer.stream.aclose()
        await at.ended()
        await waited.wait()


async def test_room_comes_when_the_peer_reads():
    async def much(socket) -> None:
        socket.write(b"a" * 5_000_000)
        await socket.room(0)
        assert socket.queued == 0
        socket.write(b"done \xff")
        await socket.receive()

    async with served(much) as at:
        peer = await at.connect()
        assert len(await peer.hear()) == 5_000_000
        assert await peer.hear() == "done \N{REPLACEMENT CHARACTER}", "what is no UTF-8 costs nobody the connection"
        await peer.send(closing_1000())
        await peer.closed()


async def test_after_the_end_everything_fails_with_the_reason():
    found = []

    async def look(socket) -> None:
        with pytest.raises(ConnectionBroken, match="code 1000"):
            await socket.receive()
        with pytest.raises(ConnectionBroken, match="code 1000") as caught:
            socket.write(b"x")
        found.append(caught.value)
        for wait in (partial(socket.room, 0), socket.receive):
            with pytest.raises(ConnectionBroken, match="code 1000") as caught:
                await wait()
            found.append(caught.value)
        socket.end(1001, "too late")
        found.append(str(socket.failure))

    async with served(look) as at:
        peer = await at.connect()
        await peer.send(closing_1000())
        assert await peer.closed() == (1000, "")
        await at.ended()
    assert len({id(each) for each in found}) == 4
    assert "code 1000" in found[3]


# ---- signs of life -----------------------------------------------------------------------------------------


async def test_pings_go_out_and_pongs_keep_it_alive(autojump_clock):
    async with served(every=15) as at:
        peer = await at.connect()
        begun = trio.current_time()
        for number in range(1, 5):
            event = await peer.next(pings=True)
            assert isinstance(event, Ping)
            assert trio.current_time() - begun == pytest.approx(15 * number, abs=0.1)
            await peer.send(event.response())
        assert at.failures == []
        await peer.stream.aclose()


async def test_a_peer_that_answers_no_ping_is_gone(autojump_clock):
    async with served(every=15) as at:
        peer = await at.connect()
        begun = trio.current_time()
        assert isinstance(await peer.next(pings=True), Ping)
        assert await peer.next(pings=True) is None
        assert trio.current_time() - begun == pytest.approx(30, abs=0.1)
        assert "no sign of life for 15 s" in str(await at.ended())
        await peer.stream.aclose()


async def test_patience_may_be_longer_than_the_time_between_pings(autojump_clock):
    async with served(every=10, patience=40) as at:
        peer = await at.connect()
        begun = trio.current_time()
        assert isinstance(await peer.next(pings=True), Ping)
        assert await peer.next(pings=True) is None, "a second ping before the first was answered tells nothing"
        assert trio.current_time() - begun == pytest.approx(50, abs=0.1)
        await at.ended()
        await peer.stream.aclose()


async def test_any_word_is_a_sign_of_life(autojump_clock):
    async with served(every=15) as at:
        peer = await at.connect()
        for _ in range(10):
            await trio.sleep(10)
            await peer.say("still here")
        assert at.failures == []
        await peer.stream.aclose()


async def test_who_is_not_listened_to_is_not_blamed(autojump_clock):
    async def deaf(socket) -> None:
        await trio.sleep(1000)
        await echo(socket)

    async with served(deaf, every=15) as at:
        peer = await at.connect()
        await peer.say("hello")
        await peer.say("hello?")
        while not isinstance(event := await peer.next(pings=True), TextMessage):
            assert isinstance(event, Ping)
        assert trio.current_time() >= 1000
        assert at.failures == []
        await peer.stream.aclose()


class SlowLine:
    """A peer that says nothing and takes what the test lets it take."""

    torn = False

    def __init__(self) -> None:
        self.progress = 0
        self.waiting = False
        self.aborted: str | None = None

    async def receive(self) -> bytes:
        await trio.sleep_forever()

    async def send(self, data: bytes) -> None:
        if self.waiting:
            await trio.sleep_forever()
        self.waiting = len(data) > 1000

    def abort(self, reason: str) -> None:
        self.aborted = reason

    def close(self) -> None:
        pass


async def test_who_takes_slowly_lives_and_who_takes_nothing_is_gone(nursery, autojump_clock):
    line = SlowLine()
    deadlines = Deadlines(resolution=0.01)
    await nursery.start(deadlines.run)
    stream = ServerStream(line, Frames(1000, "limit"), Upgrade(KEY, None))
    socket = WebSocket(stream, Terms(1000, "limit", 15, 15, deadlines))
    await nursery.start(socket.run)
    socket.write(b"x" * 5000)
    for _ in range(30):
        await trio.sleep(10)
        line.progress += 1
    assert socket.failure is None
    with pytest.raises(ConnectionBroken, match="no sign of life"):
        await socket.receive()
    assert 15 <= trio.current_time() - 300 <= 31
    await wait_all_tasks_blocked()
    assert "no sign of life" in line.aborted


# ---- the client's side -------------------------------------------------------------------------------------

ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)


def accept_for(head: bytes) -> bytes:
    key = next(line[19:] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
    return ACCEPT % generate_accept_token(key)


@asynccontextmanager
async def asking(
    url: str, *, every: float = NEVER, patience: float | None = None, headers=None, limit: int = 1 << 20, tls=None
):
    """A client's WebSocket to a URL, its handshake done."""
    deadlines = Deadlines(resolution=0.01)
    client = HttpClient(deadlines=deadlines, tls=tls)
    target = parse_url(url, WEBSOCKET)
    failure = None
    async with trio.open_nursery() as nursery:
        await nursery.start(deadlines.run)
        link = await client.open_link(target)
        terms = Terms(limit, "limits.message", every, patience or every, deadlines)
        socket = request_upgrade(link, target, headers or {}, "mcp", terms)
        try:
            await nursery.start(socket.run)
        except (ConnectionBroken, LimitExceeded) as error:
            failure = error
        else:
            yield socket
            await socket.aclose()
        assert link.closed
        nursery.cancel_scope.cancel()
    await client.aclose()
    if failure is not None:
        raise failure


@asynccontextmanager
async def scripted(script):
    """A server that does as the script says with every connection; gives its URL."""
    async with trio.open_nursery() as nursery:

        async def handle(stream) -> None:
            async with stream:
                await script(RawPeer(stream, ConnectionType.SERVER))

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, handle, listeners)
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp?x=1"
        nursery.cancel_scope.cancel()


async def test_both_sides_of_ours():
    async with served() as at, asking(at.url) as socket:
        for data in (b"", b"hello", b"x" * 1_000_000):
            socket.write(data)
            assert await socket.receive() == data
    assert "code 1000 'ended by mcpd'" in str(at.failures[0])


async def test_the_request_has_what_was_asked_for():
    heads = []

    async def script(peer) -> None:
        heads.append(await peer.read_head())
        await peer.send(accept_for(heads[0]))
        await peer.closed()

    async with scripted(script) as url, asking(url, headers={"Authorization": "Bearer t", "X": "ä"}):
        pass
    first, *lines = heads[0].split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines)
    assert first == b"GET /mcp?x=1 HTTP/1.1"
    assert headers[b"host"] == url[5:].partition("/")[0].encode()
    assert headers[b"sec-websocket-protocol"] == b"mcp"
    assert headers[b"authorization"] == b"bearer t"
    assert headers[b"x"] == "ä".encode("latin-1")
    assert b"sec-websocket-extensions" not in headers
    assert b"origin" not in headers


async def test_what_comes_with_the_answer_is_not_lost():
    async def script(peer) -> None:
        head = await peer.read_head()
        await peer.send(b"HTTP/1.1 103 Early\r\n\r\n" + accept_for(head) + peer.frames.send(TextMessage(data="early")))
        await peer.closed()

    async with scripted(script) as url, asking(url) as socket:
        assert await socket.receive() == b"early"


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\n\r\nbody", HandshakeRefused, "HTTP 401"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhtml", HandshakeRefused, "HTTP 200"),
        (b"SSH-2.0\r\n\r\n", ConnectionBroken, "not an HTTP answer"),
        (b"", ConnectionBroken, "ended before"),
        (ACCEPT % b"bm90IHRoZSByaWdodCBvbmU=", ConnectionBroken, "no WebSocket"),
        (b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", ConnectionBroken, "no WebSocket"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, LimitExceeded, "over the limit"),
    ],
)
async def test_handshakes_that_fail(answer, kind, reason):
    async def script(peer) -> None:
        await peer.read_head()
        await peer.send(answer)

    async with scripted(script) as url:
        with pytest.raises(kind, match=reason) as caught:
            async with asking(url):
                raise AssertionError("it is open")
        assert type(caught.value) is kind


@pytest.mark.parametrize("line", [b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Protocol: other"])
async def test_what_was_not_asked_for_is_not_taken(line):
    async def script(peer) -> None:
        head = await peer.read_head()
        await peer.send(accept_for(head)[:-2] + line + b"\r\n\r\n")

    async with scripted(script) as url:
        with pytest.raises(ConnectionBroken, match="no WebSocket"):
            async with asking(url):
                raise AssertionError("it is open")


@pytest.mark.parametrize(
    ("sent", "code", "kind"),
    [
        (b"\x82\x01x", 1003, ConnectionBroken),
        (b"\x81\x7e\x03\xe9", 1009, LimitExceeded),
        (b"\x81\x01\xff", 1007, ConnectionBroken),
        (b"\x81\x81\0\0\0\0x", 1002, ConnectionBroken),
    ],
)
async def test_what_a_server_may_not_send(sent, code, kind):
    told = []

    async def script(peer) -> None:
        await peer.send(accept_for(await peer.read_head()), sent)
        told.append(await peer.next())

    async with scripted(script) as url, asking(url, limit=1000) as socket:
        with pytest.raises(kind):
            await socket.receive()
        await socket.aclose()
    assert [event.code for event in told] == [code]


async def test_a_server_that_does_not_take_leave_is_left(autojump_clock):
    async def script(peer) -> None:
        await peer.send(accept_for(await peer.read_head()))
        await trio.sleep_forever()

    async with scripted(script) as url, asking(url) as socket:
        begun = trio.current_time()
        await socket.aclose()
        assert trio.current_time() - begun == pytest.approx(CLOSING, abs=0.5)


async def test_a_server_that_does_not_read_is_gone_and_gets_nothing_after_half_a_frame():
    said = b""
    ended = trio.Event()

    async def script(peer) -> None:
        nonlocal said
        await peer.send(accept_for(await peer.read_head()))
        await ended.wait()
        while data := await peer.receive():
            said += data

    async with scripted(script) as url:
        async with asking(url, every=0.05, patience=0.2) as socket:
            socket.write(b"x" * 30_000_000)
            with pytest.raises(ConnectionBroken, match=r"no sign of life for 0\.2 s"):
                await socket.receive()
            begun = trio.current_time()
            await socket.aclose()
            assert trio.current_time() - begun < CLOSING
        ended.set()
        await wait_all_tasks_blocked(0.05)
        assert 0 < len(said) < 30_000_000
        assert said.startswith(b"\x81\xff")


async def test_a_client_that_is_cancelled_says_so():
    told = []

    async def script(peer) -> None:
        await peer.send(accept_for(await peer.read_head()))
        told.append(await peer.next())

    async with scripted(script) as url:
        client = HttpClient(deadlines=Deadlines())
        target = parse_url(url, WEBSOCKET)
        async with trio.open_nursery() as nursery:
            terms = Terms(1000, "limits.message", NEVER, NEVER, Deadlines())
            socket = request_upgrade(await client.open_link(target), target, {}, "mcp", terms)
            await nursery.start(socket.run)
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
    assert [event.code for event in told] == [1001]


async def test_tls(nursery):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERT, KEY_FILE)
    told = []

    async def handle(stream) -> None:
        async with stream:
            peer = RawPeer(stream, ConnectionType.SERVER)
            await peer.send(accept_for(await peer.read_head()))
            while isinstance(event := await peer.next(), TextMessage):
                await peer.send(event)
            told.append(event.code)
            await peer.send(event.response())

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    await nursery.start(trio.serve_listeners, handle, listeners)
    url = f"wss://127.0.0.1:{listeners[0].transport_listener.socket.getsockname()[1]}/"
    async with asking(url, tls=client_context(ca_file=CERT)) as socket:
        for data in (b"hello", b"x" * 1_000_000):
            socket.write(data)
            assert await socket.receive() == data
    assert told == [1000]
    with pytest.raises(ConnectFailed, match="not trusted"):
        await HttpClient(deadlines=Deadlines()).open_link(parse_url(url, WEBSOCKET))


async def test_nobody_listens():
    async with served() as at:
        pass
    client = HttpClient(deadlines=Deadlines())
    with pytest.raises(ConnectFailed, match="connection refused"):
        await client.open_link(parse_url(at.url, WEBSOCKET))
    await client.aclose()
    with pytest.raises(ConnectFailed, match="stopping"):
        await client.open_link(parse_url(at.url, WEBSOCKET))


async def test_the_librarys_client_learns_the_code():
    async with served(limit=10) as at, open_websocket_url(at.url) as client:
        await client.send_message("x" * 11)
        with pytest.raises(ConnectionClosed) as caught:
            await client.get_message()
        assert caught.value.reason.code == 1009
        await client._stream.aclose()  # the library leaves that to the server, which waits for it
        await at.ended()
