"""HTTP+SSE on a real port, with a scripted gateway behind it."""

from __future__ import annotations

import json

import pytest
import trio

from mcpd.config.model import Config, Limits
from mcpd.config.model import Streams as Times
from tests.fixtures.peer import HttpError, HttpPeer, PeerError, SsePeer, open_request
from tests.frontends.rig import serve_front, until


async def empty(talk) -> bytes:
    return b"{}"


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_every_version_can_travel_on_it(tmp_path, version):
    async with serve_front(tmp_path) as front, SsePeer(front.base + "/sse") as peer:
        front.gateway.scripts["ping"] = empty
        assert (await peer.initialize(version))["protocolVersion"] == version
        assert await peer.request("ping") == {}
        with pytest.raises(PeerError) as caught:
            await peer.request("no/such")
        assert caught.value.code == -32601


async def test_notices_and_questions_come_on_the_stream(tmp_path):
    async def talkative(talk) -> bytes:
        talk.notify("notifications/progress", progress=1)
        return bytes(await talk.ask("roots/list", b"{}"))

    async with serve_front(tmp_path) as front, SsePeer(front.base + "/sse") as peer:
        front.gateway.scripts["tools/call"] = talkative
        peer.callbacks["roots/list"] = lambda params: {"roots": []}
        await peer.initialize()
        assert await peer.request("tools/call") == {"roots": []}
        assert len(peer.notifications("notifications/progress")) == 1


async def test_the_end_of_the_stream_ends_the_session_and_its_calls(tmp_path):
    async def hang(talk) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async with serve_front(tmp_path) as front:
        front.gateway.scripts["tools/call"] = hang
        async with SsePeer(front.base + "/sse") as peer, trio.open_nursery() as nursery:
            await peer.initialize()
            nursery.start_soon(peer._post, {"jsonrpc": "2.0", "id": 1, "method": "tools/call"})
            await front.gateway.started.wait()
            assert len(front.sessions) == 1
            endpoint = peer.endpoint
            nursery.cancel_scope.cancel()
        await until(lambda: not front.sessions)
        assert front.gateway.cancelled == ["1"]
        assert len(front.gateway.forgotten) == 1
        late = SsePeer(front.base)
        late.endpoint = endpoint
        with pytest.raises(HttpError) as caught:
            await late._post({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert caught.value.status == 404
        assert not front.patience.statistics().entries


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "header"),
    [
        ("POST", "/sse", b"{}", 405, "GET"),
        ("DELETE", "/sse", b"", 405, "GET"),
        ("GET", "/messages", b"", 405, "POST"),
        ("POST", "/messages", b"{}", 400, None),
        ("POST", "/messages?session=", b"{}", 400, None),
        ("POST", "/messages?session=forged", b"{}", 404, None),
        ("POST", "/messages?session=%00%ff", b"{}", 404, None),
    ],
)
async def test_wrong_requests(tmp_path, method, path, body, status, header):
    async with serve_front(tmp_path) as front, HttpPeer(front.base) as peer:
        reply = await peer.raw(method, url=front.base + path, body=body)
        assert reply.status == status
        assert reply.headers.get("allow") == header
        assert reply.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'{"jsonrpc":"2.0","id":[],"method":"ping"}', b"\xff"])
async def test_a_bad_message_is_400_and_the_session_goes_on(tmp_path, body):
    async with serve_front(tmp_path) as front, SsePeer(front.base + "/sse") as peer, HttpPeer("") as plain:
        front.gateway.scripts["ping"] = empty
        await peer.initialize()
        reply = await plain.raw("POST", url=peer.endpoint, body=body)
        assert reply.status == 400
        assert reply.json()["error"]["code"] in (-32700, -32600)
        assert await peer.request("ping") == {}


async def test_the_endpoint_is_named_first_and_silence_is_broken(tmp_path):
    config = Config(streams=Times(keepalive=0.02))
    async with serve_front(tmp_path, config) as front:
        headers = {"Accept": "text/event-stream"}
        async with open_request("GET", front.base + "/sse", headers) as exchange:
            assert exchange.headers["content-type"] == "text/event-stream"
            assert exchange.headers["x-accel-buffering"] == "no"
            event = await exchange.next_event()
            assert (event.name, event.data[:18]) == ("endpoint", "/messages?session=")
            assert len(event.data) > 40
            data = b""
            while data.count(b": keep-alive") < 3:
                data += await exchange.next_chunk()


async def test_there_is_no_session_beyond_the_limit(tmp_path):
    config = Config(limits=Limits(sessions=1))
    async with serve_front(tmp_path, config) as front, SsePeer(front.base + "/sse"), HttpPeer("") as plain:
        reply = await plain.raw("GET", url=front.base + "/sse", headers={"Accept": "text/event-stream"})
        assert reply.status == 503
        assert reply.headers["retry-after"]
        assert "limits.sessions" in json.loads(reply.body)["error"]["message"]
