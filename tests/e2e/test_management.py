"""The management routes: what is true of good, slow, broken and missing servers."""

from __future__ import annotations

import pytest
import trio

from mcpd import __version__
from tests.e2e.background import children, everything, until
from tests.fixtures.peer import HttpPeer, start_daemon

NEVER = 3600.0


async def get(daemon, path: str) -> tuple[int, dict]:
    reply = await HttpPeer("").raw("GET", url=daemon.base + path)
    assert reply.headers["content-type"] == "application/json"
    return reply.status, reply.json()


async def state_of(daemon, name: str) -> dict:
    _, answer = await get(daemon, "/servers")
    [found] = [server for server in answer["servers"] if server["name"] == name]
    return found


async def test_ready_only_with_something_behind_it():
    config = {
        "mcpServers": {
            "good": everything(),
            "old": everything("--era", "legacy", prefix="old_"),
            "hanging": everything("--init-delay", str(NEVER), prefix="h_"),
            "broken": {"command": "false", "restart": {"initial": 60}},  # it is not just being tried again
            "missing": {"command": "/no/such/program"},
            "off": {"command": "false", "enabled": False},
        }
    }
    async with start_daemon(config) as daemon:

        async def settled() -> bool:
            states = [(await state_of(daemon, name))["state"] for name in ("good", "old", "broken", "missing")]
            return "starting" not in states

        await until(settled)
        status, answer = await get(daemon, "/readyz")
        assert (status, answer) == (503, {"status": "starting", "waiting_for": ["hanging"]})
        good = await state_of(daemon, "good")
        old = await state_of(daemon, "old")
        for server, version in ((good, "2026-07-28"), (old, "2025-11-25")):
            assert (server["state"], server["tools"] > 30, server["protocol_version"]) == ("ready", True, version)
            assert server["pid"] in children(daemon.pid)
        hanging = await state_of(daemon, "hanging")
        assert (hanging["state"], hanging["tools"]) == ("starting", 0)
        for name in ("broken", "missing"):
            bad = await state_of(daemon, name)
            assert bad["state"] not in ("ready", "starting")
            assert bad["error"]
            assert "pid" not in bad
        status, health = await get(daemon, "/health")
        assert (status, health["status"], health["version"]) == (200, "degraded", __version__)
        assert set(health["servers"]) == {"good", "old", "hanging", "broken", "missing"}
        assert await get(daemon, "/healthz") == (200, {"status": "ok"})
        _, tools = await get(daemon, "/tools")
        assert {tool["server"] for tool in tools["tools"]} == {"good", "old"}
        async with HttpPeer(daemon.url) as peer:
            with trio.fail_after(9):
                await peer.initialize()
                assert len(await peer.list_all("tools/list", "tools")) == good["tools"] + old["tools"]


async def test_ready_after_all_had_their_say_and_honest_about_a_crash():
    async with start_daemon({"mcpServers": {"all": everything(), "bad": {"command": "false"}}}) as daemon:

        async def ready() -> bool:
            return (await get(daemon, "/readyz"))[0] == 200

        await until(ready)
        before = await state_of(daemon, "all")
        async with HttpPeer(daemon.url) as peer:
            await peer.initialize()
            with pytest.raises(Exception, match="status 3"):
                await peer.call("crash")

            async def restarted() -> bool:
                now = await state_of(daemon, "all")
                return now["state"] == "ready" and now["restarts"] == before["restarts"] + 1

            await until(restarted)
            assert (await state_of(daemon, "all"))["pid"] != before["pid"]
            assert (await get(daemon, "/health"))[1]["sessions"] == 1
            assert (await peer.call_json("add", {"a": 1, "b": 1})) == {"sum": 2}


async def test_they_are_read_only_and_guarded():
    async with start_daemon({"mcpServers": {}}) as daemon:
        peer = HttpPeer("")
        for path in ("/health", "/healthz", "/readyz", "/servers", "/tools"):
            for method in ("POST", "DELETE", "OPTIONS"):
                if (method, path) == ("POST", "/servers"):
                    continue  # see test_admin
                reply = await peer.raw(method, url=daemon.base + path)
                allowed = "GET, HEAD, POST" if path == "/servers" else "GET, HEAD"
                assert (reply.status, reply.headers["allow"]) == (405, allowed)
            for headers, status in (
                ({"Origin": "http://evil.example"}, 403),
                ({"Host": "evil.example"}, 421),
            ):
                assert (await peer.raw("GET", url=daemon.base + path, headers=headers)).status == status
        assert (await get(daemon, "/readyz"))[0] == 200
        assert (await get(daemon, "/tools"))[1] == {"tools": []}
