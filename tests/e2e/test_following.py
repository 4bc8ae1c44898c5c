"""What happens, what servers say and who called what: with the daemon as a process, over every way in and over ends."""

from __future__ import annotations

import json
import re
import sys
from functools import partial

import pytest
import trio

from tests.control.following import following
from tests.e2e.background import ENVIRONMENT, everything, until
from tests.e2e.test_control import controlled, mcpctl
from tests.fixtures.peer import (
    HttpPeer,
    ModernHttpPeer,
    ModernWebSocketPeer,
    PeerError,
    SsePeer,
    WebSocketPeer,
    start_daemon,
)

FRONTS = {
    "http": lambda daemon: HttpPeer(daemon.url),
    "sse": lambda daemon: SsePeer(f"{daemon.base}/sse"),
    "websocket": lambda daemon: WebSocketPeer(daemon.base.replace("http", "ws") + "/ws"),
}
MODERN_FRONTS = {
    "http": lambda daemon: ModernHttpPeer(daemon.url),
    "websocket": lambda daemon: ModernWebSocketPeer(daemon.base.replace("http", "ws") + "/ws"),
}


def audited(daemon):
    """The audit lines so far: a dict of the values of each."""
    lines = [line for line in daemon.stderr.splitlines() if " mcpd.audit " in line]
    return [dict(re.findall(r"(\w+)=('[^']*'|\S+)", line)) for line in lines]


async def wait_audited(daemon, count):
    await until(lambda: len(audited(daemon)) >= count)
    return audited(daemon)


@pytest.mark.parametrize("front", FRONTS)
async def test_every_call_of_a_session_is_audited_whichever_way_it_came(front):
    async with start_daemon({"mcpServers": {"all": everything()}}) as daemon, FRONTS[front](daemon) as peer:
        await peer.initialize()
        await peer.call("test_simple_text")
        await peer.call("test_error_handling")
        await peer.request("prompts/get", {"name": "test_simple_prompt"})
        await peer.request("resources/read", {"uri": "test://static-text"})
        with pytest.raises(PeerError):
            await peer.call("nobody_has_this")
        found = await wait_audited(daemon, 5)
    assert [(each["method"], each["outcome"]) for each in found] == [
        ("tools/call", "ok"),
        ("tools/call", "error"),
        ("prompts/get", "ok"),
        ("resources/read", "ok"),
        ("tools/call", "refused"),
    ]
    assert all(each["client"].startswith("test") for each in found)
    assert found[0].items() >= {"backend": "all", "tool": "test_simple_text", "principal": "local"}.items()
    assert (found[3]["resource"], "backend" in found[4]) == ("test://static-text", False)


@pytest.mark.parametrize("front", MODERN_FRONTS)
async def test_every_call_that_stands_alone_is_audited_whichever_way_it_came(front):
    async with start_daemon({"mcpServers": {"all": everything()}}) as daemon, MODERN_FRONTS[front](daemon) as peer:
        await peer.call("test_simple_text")
        await peer.request("prompts/get", {"name": "test_simple_prompt"})
        await peer.request("resources/read", {"uri": "test://static-text"})
        found = await wait_audited(daemon, 3)
    assert [(each["method"], each["protocol"], each["outcome"]) for each in found] == [
        ("tools/call", "2026-07-28", "ok"),
        ("prompts/get", "2026-07-28", "ok"),
        ("resources/read", "2026-07-28", "ok"),
    ]


async def test_the_log_as_json_is_json_to_the_last_line_and_changes_with_a_reload():
    config = {"mcpServers": {"all": everything()}, "audit": {"calls": "arguments"}}
    async with controlled(config) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await peer.call("test_simple_text", {"x": "a\n'b"})
        await until(lambda: " mcpd.audit " in daemon.stderr)
        assert """arguments='{"x": """ in daemon.stderr.replace('":"', '": "')
        before = len(daemon.stderr)
        daemon.config.write_text(json.dumps({**config, "log": {"format": "json"}, "listen": {"port": 0}}))
        assert (await mcpctl(path, "reload")).returncode == 0
        await peer.call("test_simple_text", {"x": "a\n'b"})
        await until(lambda: '"mcpd.audit"' in daemon.stderr)
        lines = daemon.stderr[before:].splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        assert {"time", "level", "logger", "event"} <= entries[-1].keys()
        [call] = [each for each in entries if each["logger"] == "mcpd.audit"]
        assert (call["server"], call["tool"]) == ("all", "test_simple_text")
        assert json.loads(call["arguments"]) == {"x": "a\n'b"}


async def test_logs_go_on_over_the_death_of_a_server_and_events_say_why():
    code = "import sys; print('up, token=abcdef123456', file=sys.stderr, flush=True); sys.stdin.readline(); sys.exit(3)"
    servers = {"dies": {"command": sys.executable, "args": ["-c", code], "restart": {"initial": 0.1, "cap": 0.1}}}
    async with controlled({"mcpServers": servers}) as (daemon, path):
        async with following(path, "/v1/events?after=0&kind=restart&server=dies") as events:
            told = await events.events(2)
        assert all(each["reason"] and each["retry_in"] is not None for each in told)
        async with following(path, "/v1/logs?follow=1&lines=1000&server=dies") as stream:
            starts, pids = 0, set()
            while starts < 3:
                line = (await stream.event())["data"]
                if line["kind"] == "line":
                    assert line["text"] == "up, token=***"
                    pids.add(line["pid"])
                    starts += 1
        assert len(pids) == 3, "each process has its own number"
        shown = await mcpctl(path, "logs", "-n", "50", "dies")
        assert b"-- started --" in shown.stdout
        assert b"-- ended: exited with status 3" in shown.stdout
        assert b"abcdef" not in shown.stdout + daemon.stderr.encode()


async def test_a_follower_goes_on_over_an_upgrade_without_missing_or_repeating_anything(tmp_path):
    out = tmp_path / "out"

    def seen():
        return [json.loads(line) for line in out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    async with controlled({"mcpServers": {"all": everything()}}) as (daemon, path), trio.open_nursery() as nursery:
        argv = [sys.executable, "-m", "mcpd.cli.main", "--socket", str(path), "events", "--after", "0", "--json"]
        with out.open("wb") as file:
            run = partial(trio.run_process, argv, stdout=file.fileno(), check=False, env=ENVIRONMENT)
            process = await nursery.start(run)
        await until(lambda: any(each.get("what") == "ready" for each in seen()))
        assert (await mcpctl(path, "upgrade")).returncode == 0
        await until(lambda: any(each.get("what") == "upgraded" for each in seen()))
        async with HttpPeer(daemon.url) as peer:
            await peer.initialize()
            await peer.call("test_simple_text")
        await until(lambda: any(each["kind"] == "call" for each in seen()))
        process.terminate()
    found = seen()
    assert not [each for each in found if each["kind"] == "gap"]
    numbers = [int(each["cursor"].rpartition(".")[2]) for each in found]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_follower_from_before_a_restart_is_told_of_the_gap(tmp_path):
    config = {"mcpServers": {"all": everything()}}
    first = controlled(config, state_dir=str(tmp_path))
    async with first as (_, path), following(path, "/v1/events?after=0") as stream:
        cursor = (await stream.event())["id"]
    second = controlled(config, state_dir=str(tmp_path))
    async with second as (_, path), following(path, "/v1/events", Last_Event_ID=cursor) as stream:
        assert (await stream.event())["event"] == "gap"
        assert (await stream.event())["event"] != "gap"
