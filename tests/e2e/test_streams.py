"""Event streams with a real child: lost, resumed, polled, silent, slow; and calls that are cancelled."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
import trio

from tests.e2e.background import daemon_in_background, everything, mcpd, until
from tests.fixtures.peer import (
    LATEST,
    ROOT,
    HttpPeer,
    PeerError,
    SsePeer,
    StdioPeer,
    open_request,
    start_daemon,
    start_fixture,
)

CONFIG = {"mcpServers": {"all": everything()}}
ERAS = ("legacy", "modern")
POST = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
CHANGED = "notifications/tools/list_changed"


@pytest.fixture(scope="module", params=ERAS)
def daemon(request):
    """With a child of either era."""
    with daemon_in_background({"mcpServers": {"all": everything("--era", request.param)}}) as running:
        yield running


@asynccontextmanager
async def calling(peer: HttpPeer, tool: str, id: object, *, token: object = None, **arguments: object):
    """A tools/call as a raw exchange, which hangs up at the end of the block."""
    params = {
        "name": tool,
        "arguments": arguments,
        **({} if token is None else {"_meta": {"progressToken": token}}),
    }
    body = json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode()
    async with open_request("POST", peer.url, {**POST, **peer.session_headers()}, body) as exchange:
        yield exchange


# ---- lost and found


async def test_a_call_survives_the_loss_of_its_connection(daemon):
    async with HttpPeer(daemon.url) as peer:
        await peer.initialize()
        before = await peer.call_json("stats")
        async with calling(peer, "sleep", "s", token="t", seconds=0.6) as exchange:
            priming = await exchange.next_event()
            assert (priming.data, priming.retry) == ("", 500)
            first = await exchange.next_event()
        events = await peer.resume(first.id)
        messages = [json.loads(event.data) for event in events]
        assert messages[-1]["id"] == "s"
        assert messages[-1]["result"]["content"][0]["text"] == "slept"
        steps = [each["params"]["progress"] for each in messages[:-1]]
        assert steps == list(range(json.loads(first.data)["params"]["progress"] + 1, steps[-1] + 1))
        assert (await peer.call_json("stats"))["cancelled"] == before["cancelled"]
        assert [event.id for event in await peer.resume(events[-2].id)] == [events[-1].id]
        whole = await peer.resume(priming.id)
        assert [event.id for event in whole[1:]] == [event.id for event in events]


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18"])
async def test_older_clients_get_no_priming_and_can_resume_as_well(daemon, version):
    async with HttpPeer(daemon.url) as peer:
        await peer.initialize(version)
        async with calling(peer, "sleep", 1, token="t", seconds=0.3) as exchange:
            first = await exchange.next_event()
            assert json.loads(first.data)["method"] == "notifications/progress"
            assert first.retry is None
        events = await peer.resume(first.id)
        assert json.loads(events[-1].data)["result"]


async def test_a_question_waits_for_a_client_that_lost_its_stream(daemon):
    async with HttpPeer(daemon.url) as peer:
        peer.callbacks["roots/list"] = lambda params: {"roots": [{"uri": "file:///found"}]}
        await peer.initialize(capabilities={"roots": {}})
        async with calling(peer, "list_roots", 1) as exchange:
            priming = await exchange.next_event()
        with trio.fail_after(10):
            events = await peer.resume(priming.id)
        assert json.loads(json.loads(events[-1].data)["result"]["content"][0]["text"]) == ["file:///found"]


async def test_a_remote_backend_that_lets_go_lets_the_client_go():
    async with start_fixture("everything", "--era", "legacy") as backend:
        config = {"mcpServers": {"far": {"url": backend.url, "transport": "streamable-http", "prefix": ""}}}
        async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
            await peer.initialize()
            peer.received.clear()
            assert await peer.call_text("test_reconnection") == "answered after the stream was closed"
            assert peer.last_event_id is not None
            assert peer.retry > 0
            await peer.initialize("2025-06-18")
            assert "answered" in await peer.call_text("test_reconnection")


@pytest.mark.parametrize("era", ERAS)
async def test_polling(era):
    servers = {"all": everything("--era", era)}
    config = {"mcpServers": servers, "streams": {"poll_after": 0.2, "retry": 0.05, "hold": 0.05}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer, HttpPeer(daemon.url) as old:
        await peer.initialize()
        answer = await peer.call_text("sleep", {"seconds": 0.9}, meta={"progressToken": 1})
        assert answer == "slept"
        steps = [each["progress"] for each in peer.notifications("notifications/progress")]
        assert steps == list(range(1, len(steps) + 1)), "each once, over all the streams"
        assert peer.retry == 0.05
        old.resume_lost = False
        await old.initialize("2025-06-18")
        assert await old.call_text("sleep", {"seconds": 0.5}) == "slept", "it was not let go"


async def test_keep_alive_comments():
    async with start_daemon({**CONFIG, "streams": {"keepalive": 1}}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize("2025-06-18")
        heard = set()

        async def hear(name: str, exchange) -> None:
            data = b""
            while b": keep-alive" not in data:
                data += await exchange.next_chunk()
            heard.add(name)

        accept = {"Accept": "text/event-stream"}
        async with (
            calling(peer, "hang", 1) as call,
            open_request("GET", daemon.url, {**peer.session_headers(), **accept}) as standing,
            open_request("GET", daemon.base + "/sse", accept) as sse,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(hear, "call", call)
            nursery.start_soon(hear, "standing", standing)
            nursery.start_soon(hear, "sse", sse)
        assert heard == {"call", "standing", "sse"}


# ---- the standing stream


@pytest.mark.parametrize("era", ERAS)
async def test_changes_are_told_once_on_the_newest_stream(era):
    async with (
        start_daemon({"mcpServers": {"all": everything("--era", era)}}) as daemon,
        HttpPeer(daemon.url) as peer,
        SsePeer(daemon.base + "/sse") as other,
    ):
        await other.initialize()
        await peer.initialize()
        before = len(await peer.list_all("tools/list", "tools"))
        headers = {**peer.session_headers(), "Accept": "text/event-stream"}
        async with open_request("GET", peer.url, headers) as first:
            async with open_request("GET", peer.url, headers) as second:
                assert second.status == 200
                while (event := await first.next_event()) is not None:
                    assert event.data, "what came before the replacement"
                while True:
                    # What is left from the start may come first.
                    await peer.call("test_trigger_tool_change")
                    event = await second.next_event()
                    if len(await peer.list_all("tools/list", "tools")) > before:
                        break
                assert json.loads(event.data)["method"] == CHANGED
            last = event.id
        await other.wait_notifications(CHANGED)
        grown = len(await peer.list_all("tools/list", "tools"))
        await peer.call("test_trigger_tool_change")

        async def listed() -> bool:
            return len(await peer.list_all("tools/list", "tools")) > grown

        await until(listed)
        assert await peer.open_stream(last) == 200
        await peer.wait_notifications(CHANGED)


# ---- cancellation


async def test_cancelling_one_call_reaches_the_child_and_spares_the_other(daemon):
    async with HttpPeer(daemon.url) as peer, HttpPeer(daemon.url) as other:
        await peer.initialize()
        await other.initialize()
        before = (await peer.call_json("stats"))["cancelled"]
        outcomes = {}

        async def call(name: str, who: HttpPeer, id: object, tool: str, **arguments: object) -> None:
            try:
                outcomes[name] = await who.call_text(tool, arguments, request_id=id)
            except PeerError as error:
                outcomes[name] = error.code

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "hang", peer, 7, "hang")
            nursery.start_soon(call, "mine", peer, "7", "sleep")
            nursery.start_soon(call, "theirs", other, 7, "sleep")

            async def in_flight() -> bool:
                health = await peer.raw("GET", url=daemon.base + "/health")
                return health.json()["calls_in_flight"] >= 1

            await until(in_flight)
            with pytest.raises(Exception, match="already in use"):
                await peer.call("hang", request_id=7)
            await peer.cancel(7)
        assert outcomes == {"hang": -32800, "mine": "slept", "theirs": "slept"}

        async def told() -> bool:
            return (await peer.call_json("stats"))["cancelled"] == before + 1

        await until(told)


async def test_cancelling_on_stdio_and_sse(daemon, tmp_path):
    file = tmp_path / "mcpd.json"
    file.write_text(json.dumps(CONFIG))
    argv = mcpd("--config", str(file), "--state-dir", str(tmp_path / "state"), "--transport", "stdio")
    async with StdioPeer(argv, cwd=str(ROOT)) as stdio, SsePeer(daemon.base + "/sse") as sse:
        for peer in (stdio, sse):
            await peer.initialize()
            before = (await peer.call_json("stats"))["cancelled"]
            params = {"name": "sleep", "arguments": {"seconds": 60}, "_meta": {"progressToken": 1}}
            await peer._post({"jsonrpc": "2.0", "id": "s", "method": "tools/call", "params": params})
            await peer.wait_notifications("notifications/progress")
            await peer.cancel("s")

            async def told(peer=peer, before=before) -> bool:
                return (await peer.call_json("stats"))["cancelled"] == before + 1

            await until(told)
            assert not [each for each in peer.received if each.get("id") == "s"], "it gets no answer"


# ---- slow readers


async def test_who_does_not_read_harms_nobody(daemon):
    async with HttpPeer(daemon.url) as slow, HttpPeer(daemon.url) as good:
        await slow.initialize(LATEST)
        await good.initialize()
        async with calling(slow, "big", 1, bytes=6 << 20), calling(slow, "big", 2, bytes=6 << 20) as second:
            for n in range(20):
                assert (await good.call_json("echo", {"n": n}))["arguments"] == {"n": n}
            data = b""
            while chunk := await second.next_chunk():
                data += chunk
            assert len(data) > 6 << 20


async def test_a_message_larger_than_the_queue_passes(daemon):
    async with HttpPeer(daemon.url, headers={"Accept": "text/event-stream, application/json"}) as peer:
        await peer.initialize()
        assert len(await peer.call_text("big", {"bytes": 20 << 20})) == 20 << 20
