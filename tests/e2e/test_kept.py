"""The second start: what servers listed in the first one is listed at once, whatever they do meanwhile."""

from __future__ import annotations

import trio

from tests.e2e.backends import mini, new_token, processes_with, server_state, wait_state, wait_until
from tests.fixtures.peer import HttpPeer, start_daemon, start_fixture

COUNT = 12
"""More than start at the same time."""


def servers(tmp_path, count=COUNT):
    """Servers whose mode stands in a file, so that their configuration stays the same."""
    return {"mcpServers": {f"s{n}": mini(f"@{tmp_path / 'mode'}") for n in range(count)}}


def set_mode(tmp_path, mode):
    """At once: a child that starts just now must not read half of it."""
    (tmp_path / "new").write_text(mode)
    (tmp_path / "new").replace(tmp_path / "mode")


async def first_start(config, tmp_path):
    """What a client sees of the servers when they are up."""
    set_mode(tmp_path, "")
    async with start_daemon(config, state_dir=str(tmp_path / "state")) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        for name in config["mcpServers"]:
            assert (await wait_state(peer, daemon, name, "ready", 30))["catalogue"] == "fetched"
        return await peer.list_all("tools/list", "tools")


async def test_while_every_child_hangs_in_its_handshake_all_is_listed(tmp_path):
    config = servers(tmp_path)
    before = await first_start(config, tmp_path)
    assert {tool["name"].split("_")[0] for tool in before} == set(config["mcpServers"])
    set_mode(tmp_path, "hang")
    async with start_daemon(config, state_dir=str(tmp_path / "state")) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        assert await peer.list_all("tools/list", "tools") == before
        reply = await peer.raw("GET", url=daemon.base + "/servers")
        listed = reply.json()["servers"]
        assert [each["catalogue"] for each in listed] == ["kept"] * COUNT
        assert {each["state"] for each in listed} <= {"starting", "stopped"}, "none of them is up"
        assert (await peer.raw("GET", url=daemon.base + "/readyz")).status == 503


async def test_what_is_different_now_is_announced(tmp_path):
    config = servers(tmp_path, 2)
    before = await first_start(config, tmp_path)
    set_mode(tmp_path, "hang")
    for about in config["mcpServers"].values():
        about |= {"timeouts": {"init": "1s"}, "restart": {"initial": "100ms", "cap": "100ms"}}
    async with start_daemon(config, state_dir=str(tmp_path / "state")) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await peer.open_stream()
        assert await peer.list_all("tools/list", "tools") == before
        set_mode(tmp_path, "more")
        await peer.wait_notifications("notifications/tools/list_changed", timeout=30)
        for name in config["mcpServers"]:
            await wait_state(peer, daemon, name, "ready", 30)
        after = [tool["name"] for tool in await peer.list_all("tools/list", "tools")]
        assert set(after) - {tool["name"] for tool in before} == {"s0_more", "s1_more"}
        assert await peer.call_text("s1_echo", {"text": "x"}) == "x"


async def test_another_configuration_has_nothing_kept(tmp_path):
    config = servers(tmp_path, 1)
    await first_start(config, tmp_path)
    config["mcpServers"]["s0"]["args"].append("another")
    set_mode(tmp_path, "hang")
    async with start_daemon(config, state_dir=str(tmp_path / "state")) as daemon, HttpPeer(daemon.url) as peer:
        assert (await server_state(peer, daemon, "s0"))["catalogue"] == "none"
        await wait_until(lambda: not (tmp_path / "state" / "catalogues" / "s0").exists(), 30)
        assert "its configuration is another one" in daemon.stderr


async def test_a_remote_that_nobody_uses_is_left_and_reached_again(tmp_path):
    async with start_fixture("everything", "--era", "legacy") as remote:
        about = {"url": remote.url, "instances": "shared", "idle_stop": "400ms"}
        async with start_daemon({"mcpServers": {"r": about}}) as daemon, HttpPeer(daemon.url) as peer:
            await peer.initialize()
            assert (await peer.call_json("r_counter"))["session"] == 1
            found = await wait_state(peer, daemon, "r", "stopped", 30)
            assert (found["asleep"], found["catalogue"], found["restarts"]) == (True, "fetched", 0)
            assert (await peer.call_json("r_counter"))["session"] == 1, "its session ended, this is another one"
            assert (await peer.call_json("r_stats"))["connections"] == 1


async def test_a_lazy_server_runs_only_while_it_is_needed(tmp_path):
    token = new_token()
    about = mini(token=token, start="lazy", idle_stop="400ms")
    config = {"mcpServers": {"s": about, "other": mini()}}
    state_dir = str(tmp_path / "state")
    async with start_daemon(config, state_dir=state_dir) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await wait_until(lambda: "backend=s event=idle_stopped" in daemon.stderr, 30)
        await wait_until(lambda: not processes_with(token), 30)
        before = await peer.list_all("tools/list", "tools")
    async with start_daemon(config, state_dir=state_dir) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        assert await peer.list_all("tools/list", "tools") == before
        await wait_state(peer, daemon, "other", "ready", 30)
        found = await server_state(peer, daemon, "s")
        assert (found["state"], found["asleep"], found["catalogue"]) == ("stopped", True, "kept")
        assert (await peer.raw("GET", url=daemon.base + "/readyz")).status == 200
        assert (await peer.raw("GET", url=daemon.base + "/health")).json()["status"] == "ok"
        assert processes_with(token) == [], "it was not needed yet"
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(peer.call, "s_hold")
            await wait_until(lambda: daemon.stderr.count("thinking hard") == 4, 30)
            assert len(processes_with(token)) == 1, "several calls are one start"
            await peer.call("s_echo", {"release": True})
        await wait_until(lambda: not processes_with(token), 30)
        assert (await wait_state(peer, daemon, "s", "stopped", 30))["restarts"] == 0
        assert await peer.call_text("s_echo", {"text": "again"}) == "again"
        assert await peer.list_all("tools/list", "tools") == before
