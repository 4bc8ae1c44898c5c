"""Clients and servers on WebSockets, through a real mcpd, with real frames."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
from wsproto.events import BytesMessage

from tests.e2e.backends import wait_state
from tests.e2e.background import daemon_in_background, everything, until
from tests.e2e.test_transports import (
    VERSIONS,
    called,
    elicit,
    listed,
    news_of_a_call,
    questions,
    resources_and_prompts,
    sample,
)
from tests.fixtures.peer import (
    HttpPeer,
    ModernHttpPeer,
    ModernWebSocketPeer,
    Peer,
    PeerError,
    WebSocketPeer,
    fixture_command,
    start_daemon,
    start_fixture,
    start_process,
)
from tests.frontends.test_conversation import INITIALIZE, request
from tests.wire.http_peer import Client
from tests.wire.websocket_peer import connect, upgrade_head

SIZE = 10 * 1024 * 1024
SLEEP = {"name": "sleep", "arguments": {"seconds": 60}}


@pytest.fixture(scope="module")
def daemon():
    with daemon_in_background({"mcpServers": {"all": everything("--era", "legacy")}}) as running:
        yield running


async def all_of_it(peer: Peer, version: str, era: str = "legacy") -> None:
    """Every feature of that version."""
    peer.callbacks |= {
        "sampling/createMessage": sample,
        "elicitation/create": elicit,
        "roots/list": lambda params: {"roots": [{"uri": "file:///home"}]},
    }
    capabilities = {"sampling": {}, "roots": {"listChanged": True}}
    if version >= "2025-06-18":
        capabilities["elicitation"] = {"form": {}, "url": {}} if version == "2025-11-25" else {}
    server = await peer.initialize(version, capabilities)
    assert server["protocolVersion"] == version
    await listed(peer, version)
    await called(peer, version)
    await resources_and_prompts(peer)
    await news_of_a_call(peer, version)
    await questions(peer, version, era)


def ask_form(params):
    assert params.get("mode", "form") == "form"
    return {"action": "accept", "content": {"username": "u", "email": "e"}}


@asynccontextmanager
async def over_websockets(*arguments: str, **members):
    """mcpd in front of a server on WebSockets."""
    async with start_fixture("everything", *arguments, transport="websocket") as remote:
        config = {"mcpServers": {"far": {"url": remote.socket_url, "prefix": "", **members}}}
        async with start_daemon(config) as running:
            yield running


# ---- clients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_everything_to_a_child(version, daemon):
    async with WebSocketPeer(daemon.socket_url) as peer:
        assert peer.socket.subprotocol == "mcp"
        await all_of_it(peer, version)


async def test_modern_requests(daemon):
    async with ModernWebSocketPeer(daemon.socket_url) as peer:
        assert "echo" in await peer.list_tools()
        assert (await peer.call_json("echo", {"value": [1.0, "ü"]}))["arguments"] == {"value": [1.0, "ü"]}
        peer.callbacks["elicitation/create"] = ask_form
        outcome = await peer.call("test_elicitation", {"message": "who"}, capabilities={"elicitation": {"form": {}}})
        assert "action=accept" in outcome.text
        assert outcome.rounds


async def test_both_eras_on_one_connection(daemon):
    async with ModernWebSocketPeer(daemon.socket_url) as peer:
        plain = peer.pipe
        await plain.initialize("2025-06-18")
        assert (await plain.call_json("echo", {"value": 1}))["arguments"] == {"value": 1}
        assert (await peer.call_json("echo", {"value": 2}))["arguments"] == {"value": 2}


async def test_large_messages(daemon):
    peer = await connect(int(daemon.base.rpartition(":")[2]))
    async with peer.stream:
        arguments = {"value": "ü" + "x" * SIZE}
        for message in (INITIALIZE, request(1, name="echo", arguments=arguments)):
            await peer.say(json.dumps(message, ensure_ascii=False))
            answer = json.loads(await peer.hear())
        assert "result" in answer, answer
        assert json.loads(answer["result"]["content"][0]["text"])["arguments"] == arguments


async def test_many_clients_at_once(daemon):
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(WebSocketPeer(daemon.socket_url)) for _ in range(20)]

        async def one(number: int, peer: WebSocketPeer) -> None:
            await peer.initialize()
            for each in range(10):
                value = [number, each]
                assert (await peer.call_json("echo", {"value": value}))["arguments"] == {"value": value}

        async with trio.open_nursery() as nursery:
            for number, peer in enumerate(peers):
                nursery.start_soon(one, number, peer)


async def test_a_client_that_leaves_takes_its_calls_along(daemon):
    async with WebSocketPeer(daemon.socket_url) as watcher, WebSocketPeer(daemon.socket_url) as peer:
        await watcher.initialize()
        await peer.initialize()
        before = await watcher.call_json("stats")
        looks = 0

        async def look(member: str, more: int) -> bool:
            """Whether the server counts so much more than before, but for our own looks."""
            nonlocal looks
            looks += 1
            own = looks if member == "calls" else 0
            return (await watcher.call_json("stats"))[member] - before[member] - own >= more

        await peer.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": SLEEP})
        await until(partial(look, "calls", 1))
        await peer.hang_up()
        await until(partial(look, "cancelled", 1))


@pytest.mark.parametrize(
    ("more", "host", "status"),
    [(b"Origin: https://evil.example", b"localhost", 403), (b"X: y", b"evil.example", 421)],
)
async def test_the_checks_of_the_http_port_come_first(daemon, more, host, status):
    async with await trio.open_tcp_stream("127.0.0.1", int(daemon.base.rpartition(":")[2])) as stream:
        client = Client(stream)
        await client.send(upgrade_head(more, host=host))
        assert (await client.answer())[0] == status
        await client.send(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
        found, headers, body = await client.answer()
        assert (found, headers[b"upgrade"]) == (426, b"websocket")
        assert "WebSocket" in json.loads(body)["error"]["message"]


async def test_bad_messages_and_bad_frames(daemon):
    peer = await connect(int(daemon.base.rpartition(":")[2]))
    await peer.say("<junk>")
    assert json.loads(await peer.hear())["error"]["code"] == -32700
    await peer.say(json.dumps(INITIALIZE))
    assert json.loads(await peer.hear())["id"] == 0
    await peer.send(BytesMessage(data=b"binary"))
    code, reason = await peer.closed()
    assert code == 1003
    assert "text" in reason


async def test_the_end_of_mcpd_is_told():
    async with start_daemon({"mcpServers": {"all": everything()}}) as running:
        peer = await connect(int(running.base.rpartition(":")[2]))
        await peer.say(json.dumps(INITIALIZE))
        await peer.hear()
        begun = trio.current_time()
        running.process.terminate()
        assert (await peer.closed())[0] == 1001
        assert await running.process.wait() == 0
        assert trio.current_time() - begun < 15, "it waits for no call, of which there is none"


# ---- servers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "era"), [("2024-11-05", "both"), ("2025-11-25", "legacy"), ("2025-11-25", "modern")]
)
@pytest.mark.parametrize("front", [HttpPeer, WebSocketPeer])
async def test_everything_from_a_server_on_a_websocket(front, version, era):
    async with (
        over_websockets("--era", era) as running,
        front(running.url if front is HttpPeer else running.socket_url) as peer,
    ):
        await all_of_it(peer, version, era)


async def test_a_modern_client_of_a_modern_server():
    async with over_websockets("--era", "modern") as running, ModernHttpPeer(running.url) as peer:
        await peer.list_tools()
        peer.callbacks["elicitation/create"] = ask_form
        outcome = await peer.call("test_elicitation", {"message": "who"}, capabilities={"elicitation": {"form": {}}})
        assert "action=accept" in outcome.text


async def test_mcpd_behind_mcpd():
    async with (
        start_daemon({"mcpServers": {"all": everything()}}) as inner,
        start_daemon({"mcpServers": {"inner": {"url": inner.socket_url, "prefix": "x_"}}}) as outer,
        WebSocketPeer(outer.socket_url) as peer,
        HttpPeer(outer.url) as other,
    ):
        await peer.initialize()
        await other.initialize()
        text = "x" * SIZE
        assert (await other.call_json("x_echo", {"value": text}))["arguments"] == {"value": text}
        assert await peer.call_text("x_test_tool_with_progress", meta={"progressToken": "p"})
        assert [each["progress"] for each in peer.notifications("notifications/progress")] == [0, 50, 100]


async def test_down_and_back_up():
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(start_fixture("everything", transport="websocket"))
        restart = {"initial": 0.1, "cap": 0.3}
        config = {"mcpServers": {"r": {"url": first.socket_url, "restart": restart}}}
        running = await stack.enter_async_context(start_daemon(config))
        peer = await stack.enter_async_context(WebSocketPeer(running.socket_url))
        looker = await stack.enter_async_context(HttpPeer(running.url))
        await peer.initialize()
        await peer.call("r_echo")
        first.process.kill()
        await first.process.wait()
        with pytest.raises(PeerError) as caught:
            await peer.call("r_echo")
        assert "backend 'r'" in caught.value.message
        await wait_state(looker, running, "r", "backing-off")
        argv = [*fixture_command("everything"), "--transport", "websocket", "--port", first.base.rpartition(":")[2]]
        await stack.enter_async_context(start_process(argv, ready=re.compile(r"^(\d+)$", re.MULTILINE)))
        about = await wait_state(looker, running, "r", "ready")
        assert about["transport"] == "websocket"
        assert (await peer.call_json("r_echo", {"value": 2}))["arguments"] == {"value": 2}


async def test_a_server_that_wants_credentials(nursery):
    heads: list[bytes] = []

    async def refuse(stream: trio.SocketStream) -> None:
        async with stream:
            heads.append(await stream.receive_some(65536))
            await stream.send_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(trio.serve_listeners, refuse, listeners)
    url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
    config = {"mcpServers": {"shy": {"url": url, "headers": {"Authorization": "Bearer hunter22"}}}}
    async with start_daemon(config) as running, HttpPeer(running.url) as looker:
        about = await wait_state(looker, running, "shy", "needs-operator")
        assert "HTTP 401: it wants credentials" in about["error"]
        assert "servers.shy.headers" in about["error"]
        assert b"Authorization: Bearer hunter22" in heads[0]
        assert "hunter22" not in json.dumps(about) + running.stderr
