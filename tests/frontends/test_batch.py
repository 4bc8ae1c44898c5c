"""Batches, as a client of 2025-03-26 sends them."""

from __future__ import annotations

import json

import pytest
import trio

from mcpd.config.model import Config, Limits
from mcpd.config.model import Streams as Times
from tests.fixtures.peer import HttpPeer, Reply
from tests.frontends.rig import serve_front, until

BATCHES = "2025-03-26"


async def post(peer: HttpPeer, body) -> Reply:
    headers = {
        **peer.session_headers(),
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    return await peer.raw("POST", headers=headers, body=body)


def request(id: object, method: str = "ping") -> dict:
    return {"jsonrpc": "2.0", "id": id, "method": method}


def answers(reply: Reply) -> dict[object, dict]:
    messages = [json.loads(event.data) for event in reply.events() if event.data]
    return {each["id"]: each for each in messages if "method" not in each}


async def say(talk) -> bytes:
    talk.notify("notifications/message", level="info", data=talk.message.id.decode())
    return b"{}"


async def test_requests_run_side_by_side_and_bad_ones_harm_nobody(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        both = trio.Event()

        async def meet(talk) -> bytes:
            if talk.message.id == b'"a"':
                await both.wait()
            both.set()
            return b'{"met":true}'

        front.gateway.scripts["tools/call"] = meet
        front.gateway.scripts["ping"] = say
        await peer.initialize(BATCHES)
        reply = await post(
            peer,
            [
                request("a", "tools/call"),
                7,
                request("b", "tools/call"),
                {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
                request("c", "no/such"),
                request("d", "initialize"),
                request("e"),
                {"jsonrpc": "2.0", "id": 99, "result": {}},
            ],
        )
        assert reply.status == 200
        found = answers(reply)
        assert found["a"]["result"] == found["b"]["result"] == {"met": True}
        assert found["c"]["error"]["code"] == -32601
        assert found["d"]["error"]["code"] == -32600
        assert found[None]["error"]["code"] == -32600
        assert found["e"]["result"] == {}
        assert len(front.gateway.roots) == 1
        messages = [json.loads(event.data) for event in reply.events()]
        assert [each["params"]["data"] for each in messages if "method" in each] == ['"e"']
        assert all(event.id is None for event in reply.events())


async def test_nothing_to_answer_is_202(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize(BATCHES)
        reply = await post(peer, [{"jsonrpc": "2.0", "method": "x"}, {"jsonrpc": "2.0", "id": 1, "result": {}}])
        assert (reply.status, reply.body) == (202, b"")


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_other_versions_have_no_batches(tmp_path, version):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize(version)
        reply = await post(peer, [request(1)])
        assert reply.status == 400
        assert reply.json()["error"]["code"] == -32600


@pytest.mark.parametrize("body", [b"[]", b"[1", json.dumps([request(n) for n in range(300)]).encode()])
async def test_a_bad_array_is_400(tmp_path, body):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize(BATCHES)
        assert (await post(peer, body)).status == 400


async def test_one_of_a_batch_is_cancelled_and_the_others_go_on(tmp_path, nursery):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        release = trio.Event()

        async def wait(talk) -> bytes:
            await release.wait()
            return b"{}"

        front.gateway.scripts["tools/call"] = wait
        await peer.initialize(BATCHES)
        replies = []

        async def batch() -> None:
            replies.append(await post(peer, [request("a", "tools/call"), request("b", "tools/call")]))

        nursery.start_soon(batch)
        await front.gateway.started.wait()
        await peer.cancel("a")
        release.set()
        await until(lambda: replies)
        assert list(answers(replies[0])) == ["b"]
        assert front.gateway.cancelled == ['"a"']


async def test_a_silent_batch_is_kept_alive(tmp_path):
    config = Config(streams=Times(keepalive=0.02))
    async with serve_front(tmp_path, config) as front, HttpPeer(front.url) as peer:

        async def slow(talk) -> bytes:
            await trio.sleep(0.1)
            return b"{}"

        front.gateway.scripts["tools/call"] = slow
        await peer.initialize(BATCHES)
        reply = await post(peer, [request(1, "tools/call")])
        assert reply.body.count(b": keep-alive") >= 2
        assert list(answers(reply)) == [1]
        assert not front.patience.statistics().entries


async def test_more_than_a_session_may_have_in_flight(tmp_path):
    config = Config(limits=Limits(calls_per_session=2))
    async with serve_front(tmp_path, config) as front, HttpPeer(front.url) as peer:
        full = trio.Event()

        async def wait(talk) -> bytes:
            await full.wait()
            return b"{}"

        async def let_go() -> None:
            await front.gateway.started.wait()
            full.set()

        front.gateway.scripts["tools/call"] = wait
        await peer.initialize(BATCHES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(let_go)
            found = answers(await post(peer, [request(n, "tools/call") for n in range(3)]))
        refused = [each for each in found.values() if "error" in each]
        assert len(refused) == 1
        assert "limits.calls_per_session" in refused[0]["error"]["message"]
