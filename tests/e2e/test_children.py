"""Children that misbehave, behind the daemon as it is run."""

# ruff: noqa: ASYNC110 - processes and remotes tell nothing of what goes on inside them
from __future__ import annotations

import os
import signal

import pytest
import trio

from tests.e2e.backends import mini, new_token, processes_with, server_state, wait_state, wait_until
from tests.fixtures.peer import HttpPeer, PeerError, start_daemon

SERVERS_IN_ALL = 10
SIZE = 10 * 1024 * 1024
RUNG = 20.0
"""Seconds: one rung of the ladder that ends a child, the shortest thing that a call could be made to wait for."""

SLOW_STOP = {"eof": RUNG, "term": RUNG, "kill": RUNG}


async def test_killed_in_mid_call():
    config = {"mcpServers": {"a": mini(stop=SLOW_STOP), "b": mini()}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer, trio.open_nursery() as nursery:
        await peer.initialize()
        before = await peer.list_all("tools/list", "tools")
        pid = int(await peer.call_text("a_pid"))
        errors, texts = [], []

        async def hold(name, into):
            try:
                into.append(await peer.call_text(name))
            except PeerError as error:
                errors.append(error)

        nursery.start_soon(hold, "a_hold", texts)
        nursery.start_soon(hold, "b_hold", texts)
        while (await server_state(peer, daemon, "a"))["calls_in_flight"] < 1:
            await trio.sleep(0.01)
        while (await server_state(peer, daemon, "b"))["calls_in_flight"] < 1:
            await trio.sleep(0.01)
        await wait_until(lambda: daemon.stderr.count("thinking hard") == 2)
        begun = trio.current_time()
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: bool(errors))
        assert trio.current_time() - begun < RUNG
        message = errors[0].message
        assert "backend 'a'" in message
        assert "killed by SIGKILL" in message
        assert "thinking hard" in message
        assert errors[0].data["backend"] == "a"
        assert await peer.list_all("tools/list", "tools") == before, "lists do not shrink meanwhile"
        assert await peer.call_text("a_echo", {"text": "back"}) == "back"
        assert int(await peer.call_text("a_pid")) != pid
        assert await peer.list_all("tools/list", "tools") == before
        assert texts == []
        await peer.call("b_echo", {"release": True})
        await wait_until(lambda: texts == ["released"])
        assert (await server_state(peer, daemon, "a"))["restarts"] == 1
        assert (await server_state(peer, daemon, "b"))["restarts"] == 0


async def test_a_handshake_that_hangs_delays_nobody():
    servers = {f"s{n}": mini() for n in range(SERVERS_IN_ALL - 1)}
    config = {"mcpServers": {"slow": mini("hang"), **servers}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        begun = trio.current_time()
        await peer.initialize()
        tools = await peer.list_all("tools/list", "tools")
        assert trio.current_time() - begun < 30, "its own time to shake hands is a minute"
        assert {tool["name"].split("_")[0] for tool in tools} == set(servers)
        begun = trio.current_time()
        for name in servers:
            assert await peer.call_text(f"{name}_echo", {"text": name}) == name
        assert trio.current_time() - begun < 30
        assert (await server_state(peer, daemon, "slow"))["state"] == "starting"
        assert (await peer.raw("GET", url=daemon.base + "/readyz")).status == 503


async def test_what_fails_at_the_start_is_explained():
    config = {
        "mcpServers": {
            "dies": mini("die"),
            "missing": {"command": "no-such-program-anywhere"},
            "lost": mini(cwd="/no/such/directory"),
            "fine": mini(),
        }
    }
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        dies = await wait_state(peer, daemon, "dies", "backing-off")
        assert "exited with status 3" in dies["error"]
        assert "fatal: no database at /var/lib/none" in dies["error"]
        missing = await wait_state(peer, daemon, "missing", "needs-operator")
        assert "'no-such-program-anywhere' not found in PATH" in missing["error"]
        assert "install it" in missing["error"]
        assert missing["restarts"] == 0
        lost = await wait_state(peer, daemon, "lost", "needs-operator")
        assert "/no/such/directory" in lost["error"]
        assert "pid" not in dies
        assert await peer.call_text("fine_echo", {"text": "x"}) == "x"
        assert (await peer.raw("GET", url=daemon.base + "/readyz")).status == 200
        health = (await peer.raw("GET", url=daemon.base + "/health")).json()
        assert health["status"] == "degraded"


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("close_stdout", {}, "it closed its stdout"),
        ("exit", {"code": 7}, "exited with status 7"),
        ("exit", {"code": 0}, "exited with status 0"),
    ],
)
async def test_ends_in_mid_call(tool, arguments, words):
    token = new_token()
    config = {"mcpServers": {"a": mini(token=token, stop=SLOW_STOP)}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        pid = int(await peer.call_text("a_pid"))
        begun = trio.current_time()
        with pytest.raises(PeerError, match=words):
            await peer.call(f"a_{tool}", arguments)
        assert trio.current_time() - begun < RUNG
        assert await peer.call_text("a_echo", {"text": "back"}) == "back"
        assert processes_with(token) == [int(await peer.call_text("a_pid"))] != [pid]


async def test_on_failure_leaves_a_clean_end_at_that():
    config = {"mcpServers": {"a": mini(restart={"policy": "on-failure"})}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        with pytest.raises(PeerError, match="exited with status 7"):
            await peer.call("a_exit", {"code": 7})
        assert await peer.call_text("a_echo", {"text": "back"}) == "back"
        with pytest.raises(PeerError, match="exited with status 0"):
            await peer.call("a_exit", {"code": 0})
        await wait_state(peer, daemon, "a", "stopped")
        with pytest.raises(PeerError, match="it is stopped; the last failure: exited with status 0"):
            await peer.call("a_echo")


async def test_a_crash_loop_is_not_hammered():
    config = {"mcpServers": {"dies": mini("die"), "fine": mini()}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await wait_state(peer, daemon, "dies", "backing-off")
        await trio.sleep(1)
        assert (await server_state(peer, daemon, "dies"))["restarts"] <= 4


async def test_no_process_is_left_after_sigterm():
    token = new_token()
    config = {"mcpServers": {"a": mini("stubborn", token=token), "b": mini(token=token)}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        workers = [int(await peer.call_text(f"{name}_spawn")) for name in "ab"]
        assert set(workers) < set(processes_with(token))
        assert len(processes_with(token)) == 4
        daemon.process.terminate()
        with trio.fail_after(15):
            assert await daemon.process.wait() == 0
        assert processes_with(token) == []


async def test_no_process_is_left_after_sigkill_and_a_new_start(tmp_path):
    token = new_token()
    config = {"mcpServers": {"a": mini("stubborn", token=token), "b": mini(token=token)}}
    state_dir = str(tmp_path / "state")
    async with start_daemon(config, state_dir=state_dir) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        for name in "ab":
            await peer.call_text(f"{name}_spawn")
        daemon.process.kill()
        await daemon.process.wait()
    left = processes_with(token)
    assert len(left) >= 3, "the stubborn one, and both workers"
    async with start_daemon(config, state_dir=state_dir) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        pids = {int(await peer.call_text(f"{name}_pid")) for name in "ab"}
        assert set(processes_with(token)) == pids
        assert daemon.stderr.count("event=stray_killed") >= 3
    assert processes_with(token) == []


LARGE = 'ä\u2028"\\ 0123456789' * (SIZE // 18 + 1)


async def test_ten_mebibytes_byte_for_byte():
    # Answers that take longer than `hold` are event streams; this one is about the backend, so it is not to
    # be one.
    config = {"mcpServers": {"a": mini()}, "streams": {"hold": 10}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        assert await peer.call_text("a_big", {"bytes": SIZE}) == "0123456789abcdef" * (SIZE // 16)
        assert len(LARGE.encode()) >= SIZE
        assert await peer.call_text("a_echo", {"text": LARGE}) == LARGE


async def test_ten_mebibytes_on_an_event_stream():
    config = {"mcpServers": {"a": mini()}, "streams": {"hold": 0.001}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        assert await peer.call_text("a_echo", {"text": LARGE}) == LARGE
