"""mcpd stopped and started again, as its clients see it: what they had, what they missed, what they asked for."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.e2e.background import everything, until
from tests.fixtures.peer import HttpPeer, start_daemon

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
