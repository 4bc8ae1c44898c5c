"""mcpd stopped and started again, as its clients see it: what they had, what they missed, what they asked for."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from tests.e2e.background import everything, mcpd, until
from tests.e2e.restarting import check, restart_under_load
from tests.fixtures.peer import ROOT, WAIT, HttpPeer, ModernHttpPeer, StdioPeer, WebSocketPeer, start_daemon

UPDATED = "notifications/resources/updated"
CHANGED = "notifications/tools/list_changed"
URI = "test://watched-resource"


def config(**members: object) -> dict[str, object]:
    return {"mcpServers": {"all": everything("--era", "legacy", **members)}}


@pytest.mark.parametrize("instances", ["shared", "per-session"])
async def test_subscriptions_levels_and_streams_go_on(tmp_path, instances):
    state = str(tmp_path / "state")
    async with HttpPeer("") as peer:
        async with start_daemon(config(instances=instances), state_dir=state) as daemon:
            peer.url = daemon.url
            port = urlsplit(daemon.base).port
            await peer.initialize()
            await peer.list_all("tools/list", "tools")
            await peer.request("resources/subscribe", {"uri": URI})
            await peer.request("logging/setLevel", {"level": "error"})
            assert await peer.open_stream() == 200
            await peer.call("test_trigger_resource_update", {"uri": URI})
            await peer.wait_notifications(UPDATED)
            before = peer.last_event_id
            assert before is not None
        assert (tmp_path / "state" / "handover").exists()
        async with start_daemon(config(instances=instances), state_dir=state, port=port) as again:
            assert not (tmp_path / "state" / "handover").exists()

            async def subscribed() -> bool:
                return (await peer.call_json("stats"))["subscribed"] == [URI]

            await until(subscribed)
            peer.received.clear()
            assert await peer.open_stream(before) == 200
            await peer.wait_notifications(UPDATED)
            assert peer.notifications(UPDATED) == [{"uri": URI}], "what may have happened meanwhile, once"
            await peer.call("test_trigger_resource_update", {"uri": URI})
            await peer.wait_notifications(UPDATED, 2)
            for level in ("info", "error"):
                await peer.call("log", {"level": level, "text": level})
            await peer.wait_notifications("notifications/message")
            assert [each["level"] for each in peer.notifications("notifications/message")] == ["error"]
            assert peer.notifications(CHANGED) == [], "the lists are as they were"
            assert "Traceback" not in again.stderr


async def test_what_a_stream_said_is_there_after_a_restart(tmp_path):
    state = str(tmp_path / "state")
    async with HttpPeer("") as peer:
        async with start_daemon(config(), state_dir=state) as daemon:
            peer.url = daemon.url
            port = urlsplit(daemon.base).port
            await peer.initialize()
            await peer.call("test_tool_with_progress", meta={"progressToken": "t"})
            last = peer.last_event_id
            stream, _, number = last.partition("-")
        async with start_daemon(config(), state_dir=state, port=port):
            events = await peer.resume(f"{stream}-0")
            assert [event.id for event in events] == [f"{stream}-{n}" for n in range(1, int(number) + 1)]
            assert '"result"' in events[-1].data


async def test_news_wait_for_a_client_that_was_not_listening(tmp_path):
    state = str(tmp_path / "state")
    async with HttpPeer("") as peer:
        async with start_daemon(config(), state_dir=state) as daemon:
            peer.url = daemon.url
            port = urlsplit(daemon.base).port
            await peer.initialize()
            await peer.request("resources/subscribe", {"uri": URI})
            await peer.call("test_trigger_resource_update", {"uri": URI})
        changed = {"mcpServers": {**config()["mcpServers"], "more": everything("--era", "legacy")}}
        changed["mcpServers"]["more"]["prefix"] = "more_"
        async with start_daemon(changed, state_dir=state, port=port):
            assert await peer.open_stream() == 200
            await peer.wait_notifications(UPDATED)
            await peer.wait_notifications(CHANGED)
            names = [tool["name"] for tool in await peer.list_all("tools/list", "tools")]
            assert "more_echo" in names


async def test_a_damaged_handover_is_reported_and_costs_no_more(tmp_path):
    state = tmp_path / "state"
    async with HttpPeer("") as peer:
        async with start_daemon(config(), state_dir=str(state)) as daemon:
            peer.url = daemon.url
            port = urlsplit(daemon.base).port
            await peer.initialize()
        handover = state / "handover"
        handover.write_bytes(handover.read_bytes()[:-3])
        async with start_daemon(config(), state_dir=str(state), port=port) as again:
            assert await peer.request("ping") == {}
            assert "event=handover_refused reason=it is damaged" in again.stderr
            assert not handover.exists()


# ---- the end


async def test_nothing_is_lost_when_it_is_restarted_under_load(tmp_path):
    """`make test-restart` does the same twenty times."""
    unit, legacy, modern = await restart_under_load(tmp_path, 3)
    check(unit, legacy, 3)
    assert all(client.calls for client in modern)


@asynccontextmanager
async def sleeping(peer: HttpPeer, seconds: float):
    """A call under way, and its answer."""
    answers = []
    servers = peer.url.replace("/mcp", "/servers")
    async with trio.open_nursery() as nursery:

        async def call() -> None:
            answers.append(await peer.exchange("tools/call", {"name": "sleep", "arguments": {"seconds": seconds}}))

        nursery.start_soon(call)

        async def at_work() -> bool:
            return bool((await peer.raw("GET", url=servers)).json()["servers"][0]["calls_in_flight"])

        await until(at_work)
        yield answers


async def test_a_call_in_flight_is_answered_and_a_stream_ends_after_it():
    async with start_daemon(config()) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        assert await peer.open_stream() == 200
        async with sleeping(peer, 2.5) as answers:
            daemon.process.terminate()
            await peer.wait_closed()
            await until(lambda: bool(answers), 1.0)  # both may be read in one turn, in whatever order
            assert [each["result"]["content"][0]["text"] for each in answers] == ["slept"], "the call came first"
        with trio.fail_after(WAIT):
            assert await daemon.process.wait() == 0
        assert "calls_given_up=0" in daemon.stderr


async def test_a_call_that_takes_too_long_is_told_why():
    settings = {**config(), "shutdown": {"grace": 0.2}, "streams": {"hold": 0.05}}
    async with start_daemon(settings) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        async with sleeping(peer, 60) as answers:
            daemon.process.terminate()
        assert "shutdown.grace" in answers[0]["error"]["message"]
        with trio.fail_after(WAIT):
            assert await daemon.process.wait() == 0
        assert "calls_given_up=1" in daemon.stderr


async def test_a_second_signal_ends_it_at_once():
    settings = {**config(), "shutdown": {"grace": 3600}}
    async with start_daemon(settings) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        async with sleeping(peer, 3600) as answers:
            daemon.process.terminate()
            await until(lambda: "event=stopping" in daemon.stderr)
            assert daemon.process.returncode is None
            daemon.process.terminate()
            with trio.fail_after(WAIT):
                assert await daemon.process.wait() == 0
        assert "error" in answers[0]


async def test_a_websocket_is_taken_leave_of_when_its_calls_are_done():
    async with start_daemon(config()) as daemon, WebSocketPeer(daemon.socket_url) as peer:
        await peer.initialize()
        async with trio.open_nursery() as nursery:
            answers = []

            async def call() -> None:
                answers.append(await peer.call_text("sleep", {"seconds": 0.5}, meta={"progressToken": 1}))

            nursery.start_soon(call)
            await peer.wait_notifications("notifications/progress")
            daemon.process.terminate()
        assert answers == ["slept"]
        await peer.wait_closed()
        assert (peer.socket.closed.code, peer.socket.closed.reason) == (1001, "mcpd is stopping")


async def test_on_stdio_what_is_in_flight_is_answered():
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "mcpd.json"
        file.write_text(json.dumps(config()))
        argv = mcpd("--config", str(file), "--state-dir", directory + "/state", "--transport", "stdio")
        async with StdioPeer(argv, cwd=str(ROOT)) as peer:
            await peer.initialize()
            answers = []
            async with trio.open_nursery() as nursery:

                async def call() -> None:
                    answers.append(await peer.call_text("sleep", {"seconds": 0.5}, meta={"progressToken": 1}))

                nursery.start_soon(call)
                await peer.wait_notifications("notifications/progress")
                peer.process.terminate()
            assert answers == ["slept"]
            with trio.fail_after(WAIT):
                assert await peer.process.wait() == 0


async def test_who_was_asked_before_a_restart_is_told_of_it_afterwards(tmp_path):
    state = str(tmp_path / "state")
    params = {"name": "list_roots", "arguments": {}}
    impatient = {**config(), "shutdown": {"grace": 0.2}}
    async with start_daemon(impatient, state_dir=state) as daemon, ModernHttpPeer(daemon.url) as peer:
        asked = await peer.exchange("tools/call", params, capabilities={"roots": {}})
        assert asked.needs_input
        second = int(time.time())
        port = urlsplit(daemon.base).port
    while int(time.time()) == second:  # noqa: ASYNC110 - states have whole seconds, and tell no runs of the same one apart
        await trio.sleep(0.02)
    async with start_daemon(config(), state_dir=state, port=port) as again, ModernHttpPeer(again.url) as peer:
        [key] = asked.asks
        outcome = await peer.retry(asked, {key: {"roots": []}}, capabilities={"roots": {}})
        assert outcome.status == 400
        assert "mcpd was restarted" in outcome.error.message
