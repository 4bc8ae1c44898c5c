"""A link over a WebSocket, to a scripted server that speaks in frames."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import CloseConnection, TextMessage
from wsproto.utilities import generate_accept_token

from mcpd.backends import websocket
from mcpd.backends.link import Link
from mcpd.backends.opening import Era
from mcpd.backends.websocket import JUNK_SHOWN, SocketEnded
from mcpd.config.model import Secrets, ServerSpec, Timeouts
from mcpd.errors import BackendError, BackendMisbehaved, BackendTimedOut, BackendUnavailable
from mcpd.protocol.capabilities import EVERYTHING
from mcpd.protocol.versions import MODERN
from mcpd.wire.deadlines import Deadlines
from mcpd.wire.http_client import HttpClient
from tests.backends.parts import DISCOVER, HELLO, Client, Heard, calling, result_of
from tests.backends.test_connector import connector_for, one_call, remote_spec, use
from tests.wire.websocket_peer import RawPeer

ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: mcp\r\n\r\n"
)


class Remote:
    """A server of MCP on a WebSocket. `serve[method]` is an async function of the connection and a message."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self.seen: list[dict] = []
        self.peers: list[RawPeer] = []
        self.closed: list[int] = []
        """The codes of the close frames that came."""
        self.answer: Any = None
        """Answers a request in place of the usual 101: gets its head, returns bytes or None for the usual."""
        self.serve: dict[str, Any] = {}
        self._news = trio.Event()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/mcp"

    async def handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            peer = RawPeer(stream, ConnectionType.SERVER)
            head = await peer.read_head()
            self.heads.append(head)
            own = self.answer(head) if self.answer is not None else None
            if own is not None:
                await peer.send(own)
                return
            key = next(line[19:] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
            await peer.send(ACCEPTED % generate_accept_token(key))
            self.peers.append(peer)
            try:
                while isinstance(event := await peer.next(), TextMessage):
                    await self._take(peer, event.data if event.message_finished else event.data + await peer.hear())
            except trio.ClosedResourceError:
                return  # the test has closed it
            if isinstance(event, CloseConnection):
                self.closed.append(int(event.code))
                if peer.frames.state is ConnectionState.REMOTE_CLOSING:
                    await peer.send(event.response())

    async def _take(self, peer: RawPeer, text: str) -> None:
        message = json.loads(text)
        self.seen.append(message)
        self._news.set()
        self._news = trio.Event()
        method = message.get("method", "answer")
        if method in self.serve:
            await self.serve[method](peer, message)
        elif "id" in message and "method" in message:
            await reply(peer, message, HELLO if method == "initialize" else {"echo": message.get("params", {})})

    async def wait_seen(self, method: str) -> dict:
        while True:
            for message in self.seen:
                if message.get("method", "answer") == method:
                    return message
            await self._news.wait()


async def reply(peer: RawPeer, message: dict, result: object) -> None:
    await peer.say(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}))


@asynccontextmanager
async def remote_server(remote: Remote | None = None):
    remote = remote or Remote()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        remote.port = listeners[0].socket.getsockname()[1]
        await nursery.start(trio.serve_listeners, remote.handle, listeners)
        yield remote
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(
    url: str, *, message_max: int = 1 << 20, era: Era = Era.LEGACY, secrets: Secrets | None = None, **members: Any
):
    """A link as a connector opens it: the link, its carrier, and what is heard."""
    heard = Heard()
    deadlines = Deadlines(resolution=0.01)
    members.setdefault("timeouts", Timeouts(init=5))
    spec = ServerSpec(name="b", transport="websocket", url=url, **members)
    client = HttpClient(deadlines=deadlines)
    failure = None
    async with trio.open_nursery() as outer:
        await outer.start(deadlines.run)
        async with trio.open_nursery() as nursery:
            link = Link(
                "b",
                capabilities=EVERYTHING,
                owner=None,
                listener=heard,
                timeouts=spec.timeouts,
                deadlines=deadlines,
                nursery=nursery,
                era=era,
            )
            manager = websocket.connect(
                spec,
                client,
                link,
                nursery,
                message_max=message_max,
                deadlines=deadlines,
                secrets=secrets or Secrets(),
            )
            try:
                carrier = await manager.__aenter__()
            except BackendError as error:
                failure = error
            else:
                try:
                    yield link, carrier, heard
                finally:
                    link.fail(link.reason or BackendUnavailable("b", "the test is over"))
                    await manager.__aexit__(None, None, None)
            nursery.cancel_scope.cancel()
        await client.aclose()
        outer.cancel_scope.cancel()
    if failure is not None:
        raise failure  # here, where no nursery makes a group of it


async def refusal(url: str, **members: Any) -> BackendError:
    """Why a link does not open."""
    with pytest.raises(BackendError) as caught:
        async with connected(url, **members):
            raise AssertionError("connected")
    return caught.value


async def call(link, **params):
    made = Client().call(**params)
    return result_of(await link.call(made, "tools/call", made.members))


# ---- calls -------------------------------------------------------------------------------------------------


async def test_calls_news_and_questions():
    async with remote_server() as remote, connected(remote.url) as (link, carrier, heard):
        assert carrier.shared
        assert (await call(link, x="ä\n"))["echo"] == {"x": "ä\n"}
        text = "x" * 500_000
        assert (await call(link, x=text))["echo"] == {"x": text}
        [peer] = remote.peers
        await peer.say('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        await peer.say('{"jsonrpc":"2.0","id":0,"method":"ping"}')
        assert (await remote.wait_seen("answer"))["id"] == 0
        assert heard.list_changes == ["notifications/tools/list_changed"]
    assert remote.closed == [1000], "mcpd takes leave"


async def test_the_request_has_the_servers_headers_and_the_subprotocol():
    headers = {"Authorization": "Bearer hunter22"}
    async with remote_server() as remote, connected(remote.url + "?a=1", headers=headers):
        pass
    [head] = remote.heads
    assert head.startswith(b"GET /mcp?a=1 HTTP/1.1\r\n")
    assert b"Authorization: Bearer hunter22" in head
    assert b"Sec-WebSocket-Protocol: mcp" in head
    assert b"permessage-deflate" not in head


async def test_a_modern_server():
    remote = Remote()

    async def discover(peer, message) -> None:
        await reply(peer, message, DISCOVER)

    remote.serve["server/discover"] = discover
    async with remote_server(remote), connected(remote.url, era=Era.UNKNOWN) as (link, _, _):
        assert link.hello.version is MODERN
        assert not [message for message in remote.seen if message["method"] == "initialize"]


async def test_bad_messages_harm_nothing_and_are_counted(caplog):
    remote = Remote()

    async def junk(peer, message) -> None:
        for _ in range(3 * JUNK_SHOWN):
            await peer.say("<junk>")
        await peer.say("")
        await peer.say('[{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}]')
        await reply(peer, message, {})

    remote.serve["tools/call"] = junk
    async with remote_server(remote), connected(remote.url) as (link, _, heard):
        assert await call(link) == {}
        assert len(heard.list_changes) == 1
    assert sum("junk_on_socket" in record.message for record in caplog.records) == JUNK_SHOWN


async def test_a_call_that_is_not_answered_in_time():
    remote = Remote()

    async def silent(peer, message) -> None:
        pass

    remote.serve["tools/call"] = silent
    timeouts = Timeouts(init=5, call_idle=0.1)
    async with remote_server(remote), connected(remote.url, timeouts=timeouts) as (link, _, _):
        with pytest.raises(BackendTimedOut):
            await call(link)
        assert (await remote.wait_seen("notifications/cancelled"))["params"]["reason"] == "timed out"


# ---- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (CloseConnection(code=1011, reason="out of hunter22"), "closed it with code 1011 'out of ***'"),
        (b"\x81\x01\xff", "not UTF-8"),
        (b"\x82\x01x", "binary"),
        (b"\x81\x81\0\0\0\0x", "broken frames"),
        (None, "without a close frame"),
    ],
)
async def test_the_end_of_the_connection_fails_its_calls_with_the_reason(end, reason):
    remote = Remote()

    async def leave(peer, message) -> None:
        if end is None:
            await peer.stream.aclose()
        else:
            await peer.send(end)

    remote.serve["tools/call"] = leave
    secrets = Secrets.of({"hunter22"})
    async with remote_server(remote), connected(remote.url, secrets=secrets) as (link, _, _):
        with pytest.raises(SocketEnded) as caught:
            await call(link)
        assert reason in caught.value.reason
        assert "call again" in caught.value.remedy
        assert link.lost.is_set()
        with pytest.raises(SocketEnded):
            await call(link)


async def test_a_message_that_is_too_large():
    remote = Remote()

    async def large(peer, message) -> None:
        await reply(peer, message, {"text": "x" * 3000})

    remote.serve["tools/call"] = large
    async with remote_server(remote), connected(remote.url, message_max=2000) as (link, _, _):
        with pytest.raises(BackendMisbehaved, match=r"over the limit of 2000 bytes .*limits\.message"):
            await call(link)
        assert link.lost.is_set()
    assert remote.closed == [1009]


async def test_a_server_that_hangs_is_noticed(autojump_clock):
    remote = Remote()
    timeouts = Timeouts(init=5, call_idle=100)
    async with remote_server(remote), connected(remote.url, timeouts=timeouts) as (link, _, _):
        begun = trio.current_time()
        await link.lost.wait()  # the scripted server answers no ping
        assert isinstance(link.reason, SocketEnded)
        assert "no sign of life" in link.reason.reason
        assert 100 <= trio.current_time() - begun <= 125


async def test_a_server_that_does_not_read_is_not_written_to_for_ever(monkeypatch):
    monkeypatch.setattr("mcpd.wire.websocket.WRITE_QUEUE_MAX", 1_000_000)
    remote = Remote()
    release = trio.Event()

    async def busy(peer, message) -> None:
        await release.wait()
        await reply(peer, message, {})

    remote.serve["tools/call"] = busy
    async with remote_server(remote), connected(remote.url) as (link, _, _), trio.open_nursery() as nursery:
        outcomes = []
        for text in ("small", "x" * 30_000_000):
            made = Client().call(text=text)
            outcomes.append(calling(nursery, link.call, made, "tools/call", made.members))
            await trio.testing.wait_all_tasks_blocked(0.02)
        with pytest.raises(BackendUnavailable, match="does not read"):
            await call(link)
        assert not link.lost.is_set()
        release.set()
        for outcome in outcomes:
            await outcome.done.wait()
            assert outcome.result == {}


async def test_what_needs_no_answer_waits_for_room(monkeypatch):
    monkeypatch.setattr(websocket, "QUEUE_MAX", 1000)
    remote = Remote()
    release = trio.Event()

    async def busy(peer, message) -> None:
        await release.wait()

    remote.serve["notifications/first"] = busy
    async with (
        remote_server(remote),
        connected(remote.url) as (_, carrier, _),
        trio.open_nursery() as nursery,
    ):
        await carrier.post((b'{"jsonrpc":"2.0","method":"notifications/first"}',))
        posted = trio.Event()

        async def post() -> None:
            await carrier.post((b'{"jsonrpc":"2.0","method":"x","params":{"x":"', b"x" * 20_000_000, b'"}}'))
            posted.set()

        nursery.start_soon(post)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert not posted.is_set()
        release.set()
        await posted.wait()


async def test_nothing_can_be_posted_after_the_end():
    async with remote_server() as remote, connected(remote.url) as (link, carrier, _):
        await remote.peers[0].stream.aclose()
        await link.lost.wait()
        with pytest.raises(SocketEnded):
            await carrier.post((b"{}",))


# ---- connecting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "word", "attributes"),
    [
        (401, b"", "credentials", {"needs_operator": True}),
        (403, b"", "credentials", {"needs_operator": True}),
        (410, b"", "gone for good", {"needs_operator": True}),
        (503, b"Retry-After: 9\r\n", "busy", {"needs_operator": False, "retry_after": 9}),
        (429, b"", "busy", {"retry_after": None}),
        (404, b"", "HTTP 404", {"needs_operator": False}),
        (200, b"Content-Length: 0\r\n", "HTTP 200", {}),
        (307, b"Location: ws://localhost:1/mcp\r\n", "another origin", {}),
        (307, b"Location: wss://127.0.0.1:PORT/mcp\r\n", "another origin", {}),
        (307, b"Location: ftp://127.0.0.1:PORT/mcp\r\n", "another origin", {}),
        (307, b"", "HTTP 307", {}),
        (303, b"Location: /other\r\n", "HTTP 303", {}),
    ],
)
async def test_handshakes_that_are_refused(status, headers, word, attributes):
    remote = Remote()
    async with remote_server(remote):
        answer = b"HTTP/1.1 %d X\r\n%b\r\n" % (status, headers.replace(b"PORT", b"%d" % remote.port))
        remote.answer = lambda head: answer
        error = await refusal(remote.url)
        assert type(error) is BackendUnavailable
        assert f"HTTP {status}" in error.reason
        assert word in error.reason
        for name, value in attributes.items():
            assert getattr(error, name) == value
        assert len(remote.heads) == 1


@pytest.mark.parametrize("location", [b"/there", b"ws://127.0.0.1:PORT/there", b"http://127.0.0.1:PORT/there"])
async def test_a_redirect_inside_the_origin_is_followed(location):
    remote = Remote()

    def answer(head: bytes) -> bytes | None:
        there = location.replace(b"PORT", b"%d" % remote.port)
        return b"HTTP/1.1 307 X\r\nLocation: %b\r\n\r\n" % there if head.startswith(b"GET /mcp ") else None

    remote.answer = answer
    async with remote_server(remote), connected(remote.url, headers={"X-Key": "k"}) as (link, _, _):
        await call(link)
    assert [head.split()[1] for head in remote.heads] == [b"/mcp", b"/there"]
    assert all(b"X-Key: k" in head for head in remote.heads)


async def test_redirects_in_circles():
    remote = Remote()
    remote.answer = lambda head: b"HTTP/1.1 308 X\r\nLocation: /mcp\r\n\r\n"
    async with remote_server(remote):
        assert "circles" in (await refusal(remote.url)).reason
        assert len(remote.heads) == 4


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"SSH-2.0\r\n\r\n", "not an HTTP answer"),
        (b"", "ended before"),
        (ACCEPTED % b"bm90IHRoZSByaWdodCBvbmU=", "no WebSocket"),
    ],
)
async def test_what_is_no_websocket(answer, word):
    remote = Remote()
    remote.answer = lambda head: answer
    async with remote_server(remote):
        error = await refusal(remote.url)
        assert type(error) is BackendUnavailable
        assert word in error.reason
        assert "servers.b.url" in error.remedy


async def test_a_handshake_that_takes_too_long(nursery):
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
    error = await refusal(url, timeouts=Timeouts(init=0.1))
    assert "not done in 0.1 s" in error.reason
    await listeners[0].aclose()


async def test_a_server_that_does_not_answer_initialize():
    remote = Remote()

    async def silent(peer, message) -> None:
        pass

    remote.serve["initialize"] = silent
    async with remote_server(remote):
        error = await refusal(remote.url, timeouts=Timeouts(init=0.1))
        assert isinstance(error, BackendUnavailable | BackendTimedOut)
        assert "0.1 s" in error.reason
        await trio.testing.wait_all_tasks_blocked()
        assert remote.closed == [1000]


async def test_a_server_that_leaves_when_it_is_asked_what_it_is():
    remote = Remote()

    async def leave(peer, message) -> None:
        await peer.send(CloseConnection(code=1008, reason="initialize first"))

    remote.serve["initialize"] = leave
    async with remote_server(remote):
        error = await refusal(remote.url)
        assert type(error) is SocketEnded
        assert "code 1008 'initialize first'" in error.reason


async def test_nobody_listens():
    async with remote_server() as remote:
        pass
    error = await refusal(remote.url)
    assert type(error) is BackendUnavailable
    assert "connection refused" in error.reason


# ---- as a connector uses it --------------------------------------------------------------------------------


async def test_a_connector_speaks_it():
    async with remote_server() as remote, connector_for(remote_spec(remote.url, transport="websocket")) as connector:
        assert await use(connector, one_call) is None
        assert connector.transport == "websocket"
        assert not connector.stateless
        assert connector.pid is None
        methods = [message["method"] for message in remote.seen]
        assert methods[0] == "server/discover"
        assert "initialize" in methods


async def test_a_server_that_leaves_when_it_is_probed_is_connected_to_again():
    remote = Remote()

    async def leave(peer, message) -> None:
        await peer.send(CloseConnection(code=1002, reason="initialize first"))

    remote.serve["server/discover"] = leave
    async with remote_server(remote), connector_for(remote_spec(remote.url, transport="websocket")) as connector:
        assert await use(connector, one_call) is None
        assert await use(connector, one_call) is None
        assert len(remote.heads) == 3, "and what it is, is remembered"


async def test_secrets_of_the_server_are_redacted():
    remote = Remote()

    async def leave(peer, message) -> None:
        await peer.send(CloseConnection(code=1008, reason="bad hunter22"))

    remote.serve["initialize"] = leave
    async with remote_server(remote):
        spec = remote_spec(remote.url, transport="websocket", headers={"X-Key": "hunter22"})
        async with connector_for(spec) as connector:
            assert "bad ***" in str(await use(connector))
