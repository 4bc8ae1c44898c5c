"""Remote servers that lose sessions, go away, come back, speak the old transport, or want something first."""

# ruff: noqa: ASYNC110 - processes and remotes tell nothing of what goes on inside them
from __future__ import annotations

import re
from contextlib import AsyncExitStack

import pytest
import trio

from tests.e2e.backends import server_state, wait_state
from tests.fixtures.peer import (
    MODERN,
    HttpPeer,
    PeerError,
    fixture_command,
    start_daemon,
    start_fixture,
    start_process,
)

SIZE = 10 * 1024 * 1024
TOOLS_CHANGED = "notifications/tools/list_changed"


def everything_on(port: str, *arguments: str):
    """The everything server on a port that is known already."""
    argv = [*fixture_command("everything"), "--transport", "http", "--port", port, *arguments]
    return start_process(argv, ready=re.compile(r"^(\d+)$", re.MULTILINE))


@pytest.mark.parametrize("instances", ["shared", "per-session"])
async def test_a_remote_that_loses_sessions(instances):
    async with start_fixture("everything", "--era", "legacy", "--lose-sessions-after", "12") as remote:
        config = {"mcpServers": {"r": {"url": remote.url, "instances": instances}}}
        async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
            await peer.initialize()
            for n in range(40):
                assert (await peer.call_json("r_echo", {"value": n}))["arguments"] == {"value": n}
            about = await server_state(peer, daemon, "r")
            assert (about["state"], about["restarts"]) == ("ready", 0)
            assert daemon.stderr.count("event=session_lost") >= 2


DOWN_AND_UP = [
    ("/mcp", ("--era", "modern")),
    ("/mcp", ("--era", "legacy")),
    ("/mcp", ("--era", "legacy", "--no-get")),
    ("/sse", ()),
]


@pytest.mark.parametrize(("path", "more"), DOWN_AND_UP)
async def test_down_and_back_up(path, more):
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(start_fixture("everything", *more))
        restart = {"initial": 0.1, "cap": 0.3}
        config = {"mcpServers": {"r": {"url": first.base + path, "restart": restart}}}
        daemon = await stack.enter_async_context(start_daemon(config))
        peer = await stack.enter_async_context(HttpPeer(daemon.url))
        await peer.initialize()
        before = await peer.list_all("tools/list", "tools")
        await peer.call("r_echo")
        first.process.kill()
        await first.process.wait()
        begun = trio.current_time()
        with pytest.raises(PeerError) as caught:
            await peer.call("r_echo")
        assert trio.current_time() - begun < 30, "it is told at once, and not by a timeout"
        assert "backend 'r'" in caught.value.message
        about = await wait_state(peer, daemon, "r", "backing-off")
        assert "connection refused" in about["error"] or "ended" in about["error"] or "broke" in about["error"]
        assert await peer.list_all("tools/list", "tools") == before
        port = first.base.rpartition(":")[2]
        await stack.enter_async_context(everything_on(port, *more))
        await wait_state(peer, daemon, "r", "ready")
        assert (await peer.call_json("r_echo", {"value": 1}))["arguments"] == {"value": 1}
        assert await peer.list_all("tools/list", "tools") == before


@pytest.mark.parametrize(("before", "after"), [("legacy", "modern"), ("modern", "legacy")])
async def test_a_remote_that_comes_back_in_the_other_era(before, after):
    versions = {"legacy": "2025-11-25", "modern": MODERN}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(start_fixture("everything", "--era", before))
        config = {"mcpServers": {"r": {"url": first.url, "restart": {"initial": 0.1, "cap": 0.3}}}}
        daemon = await stack.enter_async_context(start_daemon(config))
        peer = await stack.enter_async_context(HttpPeer(daemon.url))
        await peer.initialize()
        assert (await peer.call_json("r_whoami"))["version"] == versions[before]
        first.process.kill()
        await first.process.wait()
        with pytest.raises(PeerError):
            await peer.call("r_echo")
        await wait_state(peer, daemon, "r", "backing-off")
        await stack.enter_async_context(everything_on(first.base.rpartition(":")[2], "--era", after))
        about = await wait_state(peer, daemon, "r", "ready")
        assert about["protocol_version"] == versions[after]
        assert (await peer.call_json("r_whoami"))["version"] == versions[after]


@pytest.mark.parametrize("how", ["end", "break"])
async def test_lists_are_fresh_although_a_modern_remote_ended_its_stream(how):
    async with start_fixture("everything", "--era", "modern") as remote:
        config = {"mcpServers": {"r": {"url": remote.url}}}
        async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
            await peer.initialize()
            assert await peer.open_stream() == 200
            before = {tool["name"] for tool in await peer.list_all("tools/list", "tools")}
            assert (await peer.call_json("r_stats"))["listens"] == 1
            await peer.call("r_test_trigger_tool_change")
            await peer.wait_notifications(TOOLS_CHANGED)
            added = {tool["name"] for tool in await peer.list_all("tools/list", "tools")} - before
            assert added == {"r_extra_0"}
            await peer.call("r_end_listens", {"abrupt": how == "break"})
            await peer.call("r_test_trigger_tool_change")  # nobody hears of this one
            await peer.wait_notifications(TOOLS_CHANGED, 2)
            added = {tool["name"] for tool in await peer.list_all("tools/list", "tools")} - before
            assert added == {"r_extra_0", "r_extra_1"}
            assert (await peer.call_json("r_stats"))["listens"] == 1
            assert (await server_state(peer, daemon, "r"))["restarts"] == 0


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_subscriptions_survive_a_remote_that_comes_back(era):
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(start_fixture("everything", "--era", era))
        config = {"mcpServers": {"r": {"url": first.url, "restart": {"initial": 0.1, "cap": 0.3}}}}
        daemon = await stack.enter_async_context(start_daemon(config))
        peer = await stack.enter_async_context(HttpPeer(daemon.url))
        await peer.initialize()
        assert await peer.open_stream() == 200
        uri = "test://watched-resource"
        await peer.request("resources/subscribe", {"uri": uri})
        first.process.kill()
        await first.process.wait()
        await wait_state(peer, daemon, "r", "backing-off")
        await stack.enter_async_context(everything_on(first.base.rpartition(":")[2], "--era", era))
        await wait_state(peer, daemon, "r", "ready")
        with trio.fail_after(10):
            while await peer.call_text("r_test_trigger_resource_update", {"uri": uri}) != "told 1":
                await trio.sleep(0.05)
        assert await peer.wait_notifications("notifications/resources/updated") == [{"uri": uri}]


@pytest.mark.parametrize("transport", ["auto", "sse"])
async def test_the_old_transport(transport):
    async with start_fixture("everything") as remote:
        server = {"url": remote.base + "/sse", **({} if transport == "auto" else {"transport": transport})}
        async with start_daemon({"mcpServers": {"r": server}}) as daemon, HttpPeer(daemon.url) as peer:
            await peer.initialize(capabilities={"roots": {}})
            peer.callbacks["roots/list"] = lambda params: {"roots": [{"uri": "file:///x"}]}
            assert await peer.call_json("r_list_roots") == ["file:///x"]
            assert (await server_state(peer, daemon, "r"))["transport"] == "sse"


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_headers_reach_the_remote_and_nobody_elses_do(era):
    async with start_fixture("everything", "--era", era) as remote:
        server = {"url": remote.url, "headers": {"Authorization": "Bearer backend-token", "X-Own": "1"}}
        async with start_daemon({"mcpServers": {"r": server}}) as daemon:
            headers = {"Authorization": "Bearer client-token", "X-Client": "1", "Cookie": "a=b"}
            async with HttpPeer(daemon.url, headers=headers) as peer:
                await peer.initialize()
                seen = (await peer.call_json("r_whoami"))["headers"]
                assert seen["authorization"] == "Bearer backend-token"
                assert seen["x-own"] == "1"
                assert "x-client" not in seen
                assert "cookie" not in seen
                assert ("mcp-session-id" in seen) is (era == "legacy")
                assert seen.get("mcp-session-id") != peer.session_id
                assert seen.get("mcp-name") == ("whoami" if era == "modern" else None)


async def test_a_remote_that_is_not_there_yet():
    async with start_fixture("everything") as gone:
        port = gone.base.rpartition(":")[2]
    config = {"mcpServers": {"r": {"url": gone.url, "restart": {"initial": 0.1, "cap": 0.3}}}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        about = await wait_state(peer, daemon, "r", "backing-off")
        assert "connection refused" in about["error"]
        async with everything_on(port):
            await wait_state(peer, daemon, "r", "ready")
            assert "r_echo" in [tool["name"] for tool in await peer.list_all("tools/list", "tools")]
            assert (await peer.call_json("r_echo", {"value": 1}))["arguments"] == {"value": 1}


@pytest.mark.parametrize("arguments", [(), ("--json",)])
async def test_ten_mebibytes_byte_for_byte(arguments):
    async with start_fixture("everything", *arguments) as remote:
        config = {"mcpServers": {"r": {"url": remote.url}}, "streams": {"hold": 10}}
        async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
            await peer.initialize()
            assert await peer.call_text("r_big", {"bytes": SIZE}) == "0123456789abcdef" * (SIZE // 16)
            text = '\u2028ä"\\ 0123456789' * (SIZE // 18)
            assert (await peer.call_json("r_echo", {"value": text}))["arguments"] == {"value": text}


@pytest.mark.parametrize("instances", ["shared", "per-session"])
async def test_polling_streams(instances):
    async with start_fixture("everything", "--era", "legacy") as remote:
        config = {"mcpServers": {"r": {"url": remote.url, "instances": instances}}}
        async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
            await peer.initialize()
            assert await peer.call_text("r_test_reconnection") == "answered after the stream was closed"
