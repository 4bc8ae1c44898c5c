"""Servers that an operator stops and starts, with the daemon as a process."""

from __future__ import annotations

import json

import pytest
import trio

from tests.e2e.backends import mini, new_token, processes_with, wait_until
from tests.e2e.background import alive
from tests.e2e.test_control import controlled, mcpctl
from tests.e2e.test_reload import TOOLS_CHANGED, reload, wait_calls
from tests.e2e.test_upgrade import Load
from tests.fixtures.peer import HttpPeer, PeerError, start_daemon


async def switch(path, verb, name):
    done = await mcpctl(path, verb, name)
    return done.returncode, (done.stdout or done.stderr).decode().strip()


async def state_of(path, name):
    return json.loads((await mcpctl(path, "show", name, "--json")).stdout)


async def names(peer):
    return [tool["name"] for tool in await peer.list_all("tools/list", "tools")]


async def test_one_that_is_stopped_ends_its_calls_and_stays_listed(tmp_path):
    gate = tmp_path / "gate"
    async with (
        controlled({"mcpServers": {"a": mini(), "b": mini()}}) as (daemon, path),
        HttpPeer(daemon.url) as peer,
    ):
        await peer.initialize()
        assert await peer.open_stream() == 200
        listed = await names(peer)
        pid, other = int(await peer.call_text("a_pid")), await peer.call_text("b_pid")
        answers, said = [], []

        async def call():
            answers.append(int(await peer.call_text("a_until", {"file": str(gate)})))

        async def stop():
            said.append(await switch(path, "stop", "a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await wait_calls(peer, daemon, "a", 1)
            nursery.start_soon(stop)
            await wait_until(lambda: "backend=a event=stopped_by_operator" in daemon.stderr)
            with pytest.raises(PeerError, match=r"an operator stopped it.*mcpctl start a"):
                await peer.call_text("a_pid")
            assert not answers
            assert not said
            gate.write_text("")
        assert answers == [pid]
        assert said == [(0, "a is stopped: backend 'a': an operator stopped it (mcpctl start a)")]
        assert not alive(pid)
        assert await names(peer) == listed
        assert await peer.call_text("b_pid") == other
        assert await switch(path, "stop", "a") == said[0], "it is already"
        assert await switch(path, "start", "a") == (0, "a is ready")
        assert int(await peer.call_text("a_pid")) != pid
        assert not peer.notifications(TOOLS_CHANGED)


async def test_a_restart_is_a_stop_and_a_start_and_calls_wait(tmp_path):
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        before = int(await peer.call_text("a_pid"))
        calls = []

        async def call():
            while not calls or calls[-1] == before:
                calls.append(int(await peer.call_text("a_pid")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            assert await switch(path, "restart", "a") == (0, "a is ready")
        assert len(set(calls)) == 2
        assert not alive(before)
        pid = calls[-1]
        assert await switch(path, "start", "a") == (0, "a is ready"), "it is already"
        assert int(await peer.call_text("a_pid")) == pid


async def test_what_failed_or_sleeps_is_started_and_what_is_not_there_is_not(tmp_path):
    config = {"mcpServers": {"bad": {"command": str(tmp_path / "x")}, "off": mini(enabled=False), "a": mini()}}
    async with controlled(config) as (_, path):
        await wait_until_state(path, "bad", "needs-operator")
        (tmp_path / "x").symlink_to("/bin/false")
        code, text = await switch(path, "start", "bad")
        assert (code, text.split(":")[0]) == (1, "bad is backing-off")
        code, text = await switch(path, "start", "off")
        assert (code, "mcpctl enable off" in text) == (1, True)
        code, text = await switch(path, "restart", "none")
        assert (code, "no server 'none'" in text) == (1, True)


async def test_a_lazy_one_is_started_without_a_call(tmp_path):
    state = str(tmp_path / "state")
    config = {"mcpServers": {"a": mini(start="lazy")}}
    async with controlled(config, state_dir=state) as (daemon, path):
        await wait_until_state(path, "a", "ready")
    async with controlled(config, state_dir=state) as (daemon, path), HttpPeer(daemon.url) as peer:
        assert (await state_of(path, "a"))["asleep"] is True
        assert await switch(path, "start", "a") == (0, "a is ready")
        assert "asleep" not in await state_of(path, "a")
        assert (await switch(path, "stop", "a"))[1].startswith("a is stopped: ")
        await peer.initialize()
        with pytest.raises(PeerError, match="an operator stopped it"):
            await peer.call_text("a_pid")


async def test_it_stays_stopped_over_reloads_and_upgrades():
    async with controlled({"mcpServers": {"a": mini(), "b": mini()}}) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await switch(path, "stop", "a")
        await reload(daemon, {"a": mini(), "c": mini()})
        assert (await state_of(path, "a"))["state"] == "stopped"
        await Load(daemon).upgrade()
        assert (await state_of(path, "a"))["state"] == "stopped"
        with pytest.raises(PeerError, match="an operator stopped it"):
            await peer.call_text("a_pid")
        assert await peer.call_text("c_echo", {"text": "x"}) == "x"
        assert await switch(path, "start", "a") == (0, "a is ready")
        assert await peer.call_text("a_echo", {"text": "x"}) == "x"
        await switch(path, "stop", "a")
        await reload(daemon, {"c": mini()})
        assert [tool for tool in await names(peer) if tool.startswith("a_")] == []


async def wait_until_state(path, name, wanted):
    with trio.fail_after(40):
        while (await state_of(path, name))["state"] != wanted:  # noqa: ASYNC110
            await trio.sleep(0.02)


@pytest.mark.parametrize("instances", ["leased", "per-session", "per-principal"])
async def test_whatever_it_runs_in_is_stopped_and_started(instances):
    token = new_token()
    config = {"mcpServers": {"a": mini(token=token, instances=instances)}}
    async with controlled(config) as (daemon, path), HttpPeer(daemon.url) as one, HttpPeer(daemon.url) as two:
        for peer in (one, two):
            await peer.initialize(capabilities={"elicitation": {}})
        before = {int(await peer.call_text("a_pid")) for peer in (one, two)}
        assert before <= set(processes_with(token))
        assert (await switch(path, "stop", "a"))[1].startswith("a is stopped: ")
        assert processes_with(token) == [], "spare ones too"
        for peer in (one, two):
            with pytest.raises(PeerError, match=r"an operator stopped it.*mcpctl start a"):
                await peer.call_text("a_pid")
        assert processes_with(token) == []
        assert (await switch(path, "start", "a"))[0] == 0
        after = {int(await peer.call_text("a_pid")) for peer in (one, two)}
        assert not before & after


@pytest.mark.parametrize("front", ["mcp", "sse", "ws"])
async def test_so_is_one_that_is_elsewhere(front):
    async with start_daemon({"mcpServers": {"x": mini(prefix="")}}) as remote:
        address = f"{remote.base}/{front}".replace("http", "ws" if front == "ws" else "http", 1)
        transport = {"mcp": "streamable-http", "sse": "sse", "ws": "websocket"}[front]
        config = {"mcpServers": {"a": {"url": address, "transport": transport}}}
        async with controlled(config) as (daemon, path), HttpPeer(daemon.url) as peer:
            await peer.initialize()
            before = await peer.call_text("a_pid")
            listed = await names(peer)
            assert (await switch(path, "stop", "a"))[1].startswith("a is stopped: ")
            with pytest.raises(PeerError, match=r"an operator stopped it.*mcpctl start a"):
                await peer.call_text("a_pid")
            assert await names(peer) == listed
            assert await switch(path, "start", "a") == (0, "a is ready")
            assert await peer.call_text("a_pid") == before, "what runs elsewhere was not ended"
