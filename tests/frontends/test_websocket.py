"""The front at /ws over real sockets, with a scripted gateway behind it and clients that speak in frames."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import open_websocket_url
from wsproto.events import BytesMessage, CloseConnection, Ping

from mcpd.config.model import KIB, MIB, Config, Limits, Streams
from mcpd.frontends.endpoint import Endpoint
from mcpd.frontends.guard import Guard
from mcpd.frontends.websocket import WebSocketFront
from mcpd.wire.deadlines import Deadlines
from tests.frontends.rig import ScriptedGateway, envelope, make_sessions, modern_request, until
from tests.frontends.test_conversation import INITIALIZE, empty, hang, initialize, request
from tests.wire.http_peer import Client, serving
from tests.wire.websocket_peer import RawPeer, connect, upgrade_head

INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


class Talker:
    """A client of the front in messages."""

    def __init__(self, peer: RawPeer) -> None:
        self.peer = peer

    async def say(self, *messages: object) -> None:
        for message in messages:
            await self.peer.say(message if isinstance(message, str) else json.dumps(message))

    async def hear(self) -> dict:
        return json.loads(await self.peer.hear())


class Front:
    def __init__(self, gateway: ScriptedGateway, port: int, server) -> None:
        self.gateway = gateway
        self.port = port
        self.server = server
        self.peers: list[RawPeer] = []

    async def connect(self, *more: bytes) -> Talker:
        self.peers.append(await connect(self.port, *more))
        return Talker(self.peers[-1])

    async def http(self, data: bytes) -> tuple[int, dict[bytes, bytes], dict]:
        """What is answered to a request that does not become a WebSocket."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            client = Client(stream)
            await client.send(data)
            status, headers, body = await client.answer()
            return status, headers, json.loads(body)


@asynccontextmanager
async def fronted(directory, config: Config | None = None):
    config = config or Config()
    gateway = ScriptedGateway(make_sessions(directory, config))
    gateway.scripts["ping"] = empty
    patience = Deadlines(resolution=0.01)
    fronts = {b"/ws": WebSocketFront(gateway, config, patience).handle}
    endpoint = Endpoint(Guard(config.listen, loopback=True), fronts, gateway.gate)
    async with trio.open_nursery() as nursery:
        await nursery.start(patience.run)
        async with serving(endpoint.handle) as running:
            front = Front(gateway, running.port, running.server)
            try:
                yield front
            finally:
                for peer in front.peers:
                    await trio.aclose_forcefully(peer.stream)
        nursery.cancel_scope.cancel()


# ---- messages ----------------------------------------------------------------------------------------------


async def test_a_session_in_text_frames(tmp_path):
    async with fronted(tmp_path) as front:
        client = await front.connect(b"Sec-WebSocket-Protocol: mcp")
        await client.say(INITIALIZE)
        assert (await client.hear())["result"]["protocolVersion"] == "2025-11-25"
        await client.say(INITIALIZED, request(1, "ping"), request("zwei\n", "ping"))
        assert [await client.hear(), await client.hear()] == [
            {"jsonrpc": "2.0", "id": 1, "result": {}},
            {"jsonrpc": "2.0", "id": "zwei\n", "result": {}},
        ]
        assert len(front.gateway.sessions) == 1


async def test_with_the_librarys_client(tmp_path):
    async with fronted(tmp_path) as front:
        url = f"ws://127.0.0.1:{front.port}/ws/"
        async with open_websocket_url(url, subprotocols=["mcp"]) as socket:
            assert socket.subprotocol == "mcp"
            await socket.send_message(json.dumps(INITIALIZE))
            assert json.loads(await socket.get_message())["id"] == 0
        await wait_all_tasks_blocked()
        assert not front.gateway.sessions


async def test_modern_requests_need_no_session(tmp_path):
    async with fronted(tmp_path) as front:
        client = await front.connect()

        async def serve(round) -> bytes:
            return b'{"content":[]}'

        front.gateway.modern.scripts["tools/call"] = serve
        await client.say(modern_request(7, name="t"), modern_request(8, meta=envelope("v999"), name="t"))
        answers = {answer["id"]: answer for answer in [await client.hear(), await client.hear()]}
        assert answers[7]["result"] == {"content": []}
        assert answers[8]["error"]["code"] == -32022


async def test_questions_and_notifications_of_a_call(tmp_path):
    async def curious(talk) -> bytes:
        talk.notify("notifications/progress", progressToken=1, progress=1)
        answer = await talk.ask("roots/list", b"{}")
        return b'{"roots":%b}' % bytes(answer)

    async with fronted(tmp_path) as front:
        front.gateway.scripts["tools/call"] = curious
        client = await front.connect()
        await client.say(INITIALIZE, request(1))
        await client.hear()
        assert (await client.hear())["method"] == "notifications/progress"
        question = await client.hear()
        await client.say({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})
        assert (await client.hear())["result"] == {"roots": {"roots": []}}


async def test_news_that_belongs_to_no_call(tmp_path):
    async with fronted(tmp_path) as front:
        client = await front.connect()
        await client.say(INITIALIZE)
        await client.hear()
        [session] = front.gateway.sessions
        session.deliver("tools", (b'{"jsonrpc":"2.0",', b'"method":"notifications/tools/list_changed"}'))
        assert (await client.hear())["method"] == "notifications/tools/list_changed"


async def test_batches_exist_in_one_version_only(tmp_path):
    batch = json.dumps([request(1, "ping"), INITIALIZED, request(2, "ping")])
    async with fronted(tmp_path) as front:
        for version, answers in (("2025-03-26", {1, 2}), ("2025-06-18", {None})):
            client = await front.connect()
            await client.say(initialize(version))
            await client.hear()
            await client.say(batch)
            assert {(await client.hear())["id"] for _ in answers} == answers


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[1]", "[" * 9999, '"\\ud800"'])
async def test_a_bad_message_is_answered_and_harms_nothing(tmp_path, text):
    async with fronted(tmp_path) as front:
        client = await front.connect()
        await client.say(INITIALIZE, text, request(1, "ping"))
        answers = [await client.hear() for _ in range(3)]
        assert [each["id"] for each in answers] == [0, None, 1]
        assert answers[1]["error"]["code"] in (-32700, -32600)


# ---- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rude", [False, True])
async def test_the_end_of_the_connection_is_the_end_of_the_session_and_its_calls(tmp_path, rude):
    async with fronted(tmp_path) as front:
        front.gateway.scripts["tools/call"] = hang
        client = await front.connect()
        await client.say(INITIALIZE, request(1))
        await front.gateway.started.wait()
        [session] = front.gateway.sessions
        if rude:
            await client.peer.stream.aclose()
        else:
            await client.hear()
            await client.peer.send(CloseConnection(code=1001))
            assert (await client.peer.closed())[0] == 1001
        await wait_all_tasks_blocked()
        assert front.gateway.cancelled == ["1"]
        assert not front.gateway.sessions
        assert session.left


@pytest.mark.parametrize(
    ("sent", "code"),
    [(BytesMessage(data=b"{}"), 1003), (b"\x81\x82\0\0\0\0\xff\xff", 1007), (b"\x81\xfe\x08\x01", 1009)],
)
async def test_a_bad_frame_ends_the_session_at_once(tmp_path, sent, code):
    async with fronted(tmp_path, Config(limits=Limits(body=2 * KIB))) as front:
        client = await front.connect()
        await client.say(INITIALIZE)
        await client.hear()
        await client.peer.send(sent, b"\0\0\0\0" if code == 1009 else b"")
        event = await client.peer.next()
        assert event.code == code
        assert not front.gateway.sessions, "also while the client has not taken leave"


async def test_the_limit_is_that_of_a_body(tmp_path):
    async with fronted(tmp_path, Config(limits=Limits(body=2 * KIB))) as front:
        client = await front.connect()
        await client.say(" " * 2000 + "{}")
        assert (await client.hear())["id"] is None
        await client.say(" " * 2047 + "{}")
        code, reason = await client.peer.closed()
        assert code == 1009
        assert "2049 bytes" in reason
        assert "limits.body" in reason


async def test_the_daemons_end_is_told(tmp_path):
    async with fronted(tmp_path) as front:
        client = Talker(await connect(front.port))
        await client.say(INITIALIZE)
        await client.hear()
    event = await client.peer.next()
    assert event.code == 1001
    await client.peer.stream.aclose()


async def test_a_client_that_leaves_during_the_handshake(tmp_path):
    async with fronted(tmp_path) as front:
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", front.port) as stream:
                await stream.send_all(upgrade_head())
        await wait_all_tasks_blocked(0.01)
        assert not front.gateway.sessions
        assert front.server.statistics().connections == 0


# ---- slow and silent clients -------------------------------------------------------------------------------


async def test_a_client_that_does_not_read_is_not_read_from_and_loses_no_response(tmp_path):
    config = Config(limits=Limits(stream_queue=256 * KIB))

    async def big(talk) -> bytes:
        return b'"%b"' % (b"x" * 100_000)

    async with fronted(tmp_path, config) as front, trio.open_nursery() as nursery:
        front.gateway.scripts["tools/call"] = big
        client = await front.connect()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            await client.say(INITIALIZE)
            for number in range(1, 301):
                await client.say(request(number, text="y" * 60_000))
                sent = number

        nursery.start_soon(flood)
        await wait_all_tasks_blocked(0.05)
        assert sent < 250
        answers = [await client.hear() for _ in range(301)]
        assert {each["id"] for each in answers} == set(range(301))


async def test_notifications_are_dropped_when_nobody_reads(tmp_path):
    config = Config(limits=Limits(stream_queue=64 * KIB))

    async def chatter(talk) -> bytes:
        for _ in range(30_000):
            talk.notify("notifications/message", level="info", data="x" * 1000)
        return b"{}"

    async with fronted(tmp_path, config) as front:
        front.gateway.scripts["tools/call"] = chatter
        client = await front.connect()
        await client.say(INITIALIZE, request(1))
        heard = []
        while not heard or heard[-1].get("id") != 1:
            heard.append(await client.hear())
        assert 10 < len(heard) < 25_000


async def test_a_response_larger_than_the_queue_passes(tmp_path):
    async def big(talk) -> bytes:
        return b'"%b"' % (b"x" * 10_000_000)

    async with fronted(tmp_path, Config(limits=Limits(stream_queue=64 * KIB))) as front:
        front.gateway.scripts["tools/call"] = big
        client = await front.connect()
        await client.say(INITIALIZE, request(1), request(2), request(3))
        answers = [await client.hear() for _ in range(4)]
        assert sorted(len(each["result"]) for each in answers[1:]) == [10_000_000] * 3


async def test_a_client_that_reads_nothing_is_gone_in_the_end(tmp_path):
    config = Config(limits=Limits(stream_queue=MIB), streams=Streams(keepalive=0.1))

    async def big(talk) -> bytes:
        return b'"%b"' % (b"x" * 10_000_000)

    async with fronted(tmp_path, config) as front:
        front.gateway.scripts["tools/call"] = big
        client = await front.connect()
        await client.say(INITIALIZE, *(request(number) for number in range(1, 9)))
        await front.gateway.started.wait()
        await until(lambda: not front.server.statistics().connections)
        assert not front.gateway.sessions


async def test_a_silent_client_is_pinged_and_then_gone(tmp_path, autojump_clock):
    async with fronted(tmp_path, Config(streams=Streams(keepalive=20))) as front:
        client = await front.connect()
        await client.say(INITIALIZE)
        await client.hear()
        begun = trio.current_time()
        event = await client.peer.next(pings=True)
        assert isinstance(event, Ping)
        await client.peer.send(event.response())
        assert isinstance(await client.peer.next(pings=True), Ping)
        assert await client.peer.next(pings=True) is None
        assert trio.current_time() - begun == pytest.approx(60, abs=1)
        assert not front.gateway.sessions


# ---- requests that do not become a WebSocket ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        (lambda head: head.replace(b"Upgrade: websocket\r\n", b""), 426, "WebSocket"),
        (lambda head: head.replace(b"Version: 13", b"Version: 8"), 426, "13"),
        (lambda head: head.replace(b"Key: ", b"Key: x"), 400, "Key"),
        (lambda head: head.replace(b"GET", b"POST"), 405, "GET"),
        (lambda head: head[:-2] + b"Sec-WebSocket-Protocol: graphql\r\n\r\n", 400, "'mcp'"),
        (lambda head: head[:-2] + b"Origin: https://evil.example\r\n\r\n", 403, "Origin"),
        (lambda head: head.replace(b"localhost", b"evil.example"), 421, "Host"),
        (lambda head: head.replace(b"/ws", b"/nothing"), 404, "/ws"),
    ],
)
async def test_refusals_are_plain_http_with_the_reason(tmp_path, change, status, word):
    async with fronted(tmp_path) as front:
        found, headers, body = await front.http(change(upgrade_head()))
        assert found == status
        assert headers[b"content-type"] == b"application/json"
        assert word in body["error"]["message"]
        assert (headers.get(b"upgrade") == b"websocket") is (status == 426)
        assert not front.gateway.sessions


async def test_after_a_refusal_the_connection_goes_on(tmp_path):
    async with fronted(tmp_path) as front, await trio.open_tcp_stream("127.0.0.1", front.port) as stream:
        client = Client(stream)
        await client.send(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.answer())[0] == 426
        await client.send(upgrade_head())
        assert (await client.receive()).startswith(b"HTTP/1.1 101 ")


async def test_trusted_origins_may_connect(tmp_path):
    async with fronted(tmp_path) as front:
        client = await front.connect(b"Origin: http://localhost:3000")
        await client.say(INITIALIZE)
        assert (await client.hear())["id"] == 0


async def test_no_room_for_another_session(tmp_path):
    async with fronted(tmp_path, Config(limits=Limits(sessions=1))) as front:
        await front.connect()
        status, _, body = await front.http(upgrade_head())
        assert status == 503
        assert "limits.sessions" in body["error"]["message"]


async def test_calls_have_a_limit(tmp_path):
    async with fronted(tmp_path, Config(limits=Limits(calls_per_session=2))) as front:
        front.gateway.scripts["tools/call"] = hang
        client = await front.connect()
        await client.say(INITIALIZE, request(1), request(2), request(3))
        assert (await client.hear())["id"] == 0
        answer = await client.hear()
        assert (answer["id"], "calls_per_session" in answer["error"]["message"]) == (3, True)
        await client.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        await wait_all_tasks_blocked()
        assert front.gateway.cancelled == ["1"]


async def test_a_failing_front_is_told_by_its_close_frame(tmp_path, monkeypatch, caplog):
    def broken(gateway, session, message) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("mcpd.frontends.conversation.take", broken)
    async with fronted(tmp_path) as front:
        client = await front.connect()
        await client.say(INITIALIZE, INITIALIZED)
        await client.hear()
        event = await client.peer.next()
        assert isinstance(event, CloseConnection)
        await wait_all_tasks_blocked()
        assert not front.gateway.sessions
        assert front.server.statistics().connections == 0
    assert "a bug of ours" in caplog.text
