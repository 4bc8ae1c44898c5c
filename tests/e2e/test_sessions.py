"""Sessions from their first to their last request, over restarts of the daemon, and what thousands of them
cost.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
import trio

from tests.e2e.background import daemon_in_background, descriptors, everything, resident, until
from tests.fixtures.peer import HttpPeer, SsePeer, start_daemon

CONFIG = {"mcpServers": {"all": everything()}}
POST = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def daemon():
    with daemon_in_background(CONFIG) as running:
        yield running


async def test_a_session_from_beginning_to_end(daemon):
    async with HttpPeer(daemon.url) as peer:
        await peer.initialize()
        mine = peer.session_headers()
        assert await peer.call_json("add", {"a": 1, "b": 1}) == {"sum": 2}
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        without = {**POST, "MCP-Protocol-Version": "2025-11-25"}
        assert (await peer.raw("POST", headers=without, body=ping)).status == 400
        forged = {**POST, **mine, "Mcp-Session-Id": "A" * len(mine["Mcp-Session-Id"])}
        assert (await peer.raw("POST", headers=forged, body=ping)).status == 404
        assert (await peer.delete()).status == 200
        for method in ("POST", "GET", "DELETE"):
            assert (await peer.raw(method, headers={**POST, **mine}, body=ping)).status == 404
        await peer.initialize()
        assert peer.session_id != mine["Mcp-Session-Id"]
        assert await peer.request("ping") == {}


async def test_clients_with_the_same_ids_and_tokens_do_not_meet(daemon):
    async with (
        HttpPeer(daemon.url) as one,
        HttpPeer(daemon.url) as two,
        SsePeer(daemon.base + "/sse") as three,
    ):
        peers = (one, two, three)
        for peer in peers:
            await peer.initialize()
        answers = {}

        async def call(peer, n: int) -> None:
            meta = {"progressToken": "same"}
            await peer.call("test_tool_with_progress", meta=meta, request_id="a")
            answers[n] = await peer.call_json("echo", {"n": n}, request_id="b")

        async with trio.open_nursery() as nursery:
            for n, peer in enumerate(peers):
                nursery.start_soon(call, peer, n)
        assert {n: answer["arguments"]["n"] for n, answer in answers.items()} == {0: 0, 1: 1, 2: 2}
        for peer in peers:
            steps = peer.notifications("notifications/progress")
            assert [each["progress"] for each in steps] == [0, 50, 100]
            assert {each["progressToken"] for each in steps} == {"same"}


async def test_sessions_outlive_the_daemon_and_their_end_does_too(tmp_path):
    state = str(tmp_path / "state")
    async with HttpPeer("") as peer, HttpPeer("") as ended:
        async with start_daemon(CONFIG, state_dir=state) as daemon:
            peer.url = ended.url = daemon.url
            port = urlsplit(daemon.base).port
            await peer.initialize("2025-06-18", {"roots": {}})
            await ended.initialize()
            gone = ended.session_headers()
            assert (await ended.delete()).status == 200
            assert await peer.call_json("add", {"a": 1, "b": 1}) == {"sum": 2}
        assert daemon.process.returncode == 0
        async with start_daemon(CONFIG, state_dir=state, port=port) as again:
            assert again.url == peer.url
            peer.callbacks["roots/list"] = lambda params: {"roots": [{"uri": "file:///still"}]}
            assert await peer.call_json("list_roots") == ["file:///still"], "capabilities are remembered, too"
            tools = {tool["name"]: tool for tool in await peer.list_all("tools/list", "tools")}
            assert "icons" not in tools["echo"], "and the version"
            assert await peer.open_stream() == 200
            ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            assert (await peer.raw("POST", headers={**POST, **gone}, body=ping)).status == 404
            assert (await peer.delete()).status == 200
            assert again.stderr.count("Traceback") == 0


async def test_an_id_of_another_installation_is_unknown(daemon, tmp_path):
    async with start_daemon({"mcpServers": {}}) as other, HttpPeer(other.url) as peer:
        await peer.initialize()
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {**POST, **peer.session_headers()}
        assert (await peer.raw("POST", headers=headers, body=ping)).status == 200
        assert (await peer.raw("POST", url=daemon.url, headers=headers, body=ping)).status == 404


async def test_changed_roots_reach_the_child():
    config = {"mcpServers": {"old": everything("--era", "legacy")}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize(capabilities={"roots": {"listChanged": True}})
        before = (await peer.call_json("stats"))["roots_changed"]
        await peer.notify("notifications/roots/list_changed")

        async def told() -> bool:
            return (await peer.call_json("stats"))["roots_changed"] > before

        await until(told)


class Wire:
    """One connection that is kept, for many requests in little time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = b""

    async def send(self, method: str, body: bytes = b"", session: str = "") -> tuple[int, str]:
        """Status and session id of the answer."""
        head = (
            f"{method} /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nContent-Length: {len(body)}\r\n"
        )
        if session:
            head += f"Mcp-Session-Id: {session}\r\n"
        await self._stream.send_all(head.encode() + b"\r\n" + body)
        while b"\r\n\r\n" not in self._rest:
            self._rest += await self._stream.receive_some()
        top, _, self._rest = self._rest.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in top.decode().split("\r\n")[1:])
        left = int(fields["content-length"])
        while len(self._rest) < left:
            self._rest += await self._stream.receive_some()
        self._rest = self._rest[left:]
        # Header values keep their case; only the names were wanted in lower case.
        id = next((line[16:] for line in top.decode().split("\r\n") if line.startswith("Mcp-Session-Id: ")), "")
        return int(top[9:12]), id


async def test_thousands_of_sessions_leave_nothing_behind(tmp_path):
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}).encode()
    async with start_daemon({"mcpServers": {}}) as daemon:
        parts = urlsplit(daemon.base)
        async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream:
            wire = Wire(stream)

            async def open_and_end(count: int) -> None:
                for _ in range(count):
                    status, session = await wire.send("POST", body)
                    assert status == 200
                    assert (await wire.send("DELETE", session=session))[0] == 200

            await open_and_end(500)
            memory, files = resident(daemon.pid), descriptors(daemon.pid)
            await open_and_end(2000)
            assert resident(daemon.pid) - memory < 1024 * 1024
            assert descriptors(daemon.pid) == files
        async with HttpPeer(daemon.url) as peer:
            assert (await peer.raw("GET", url=daemon.base + "/health")).json()["sessions"] == 0
