"""A configuration that changes under a running mcpd, while clients go on."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio

from tests.e2e.backends import mini, processes_with, server_state, wait_state, wait_until
from tests.e2e.background import ENVIRONMENT, alive, mcpd
from tests.fixtures.peer import HttpPeer, PeerError, start_daemon
from tests.fixtures.peer_http import HttpError
from tests.fixtures.peer_modern import ModernHttpPeer
from tests.fixtures.peer_process import stop_process, watch

TOOLS_CHANGED = "notifications/tools/list_changed"
UNKNOWN = -32602
LIMIT = 40.0
"""Seconds for one reload: more than it gives servers that do not come up."""


def write(daemon, servers, **settings):
    """Put a configuration in place at once: a reload must not read half of it."""
    new = daemon.config.with_suffix(".new")
    new.write_text(servers if isinstance(servers, str) else json.dumps({"mcpServers": servers, **settings}, indent=1))
    new.rename(daemon.config)


async def reload(daemon, servers, word="event=reloaded", **settings):
    """Put a configuration into effect; returns what the log says of it."""
    write(daemon, servers, **settings)
    before = len(daemon.stderr)
    os.kill(daemon.pid, signal.SIGHUP)
    await wait_until(lambda: word in daemon.stderr[before:] and daemon.stderr.endswith("\n"), LIMIT)
    return daemon.stderr[before:]


class Caller:
    """Calls one tool again and again, and keeps what comes of it."""

    def __init__(self, call, tool):
        self._call, self._tool = call, tool
        self.answers = 0
        self.errors: list[tuple[int, str]] = []

    async def run(self):
        while True:
            error = await self._call(self._tool)
            if error is None:
                self.answers += 1
            else:
                self.errors.append((error["code"], error["message"]))

    async def go_on(self):
        """Wait for an answer to a call that begins now."""
        now = self.answers
        await wait_until(lambda: self.answers > now + 1)


async def legacy_call(peer, tool):
    return (await peer.exchange("tools/call", {"name": tool, "arguments": {"text": "x"}})).get("error")


async def modern_call(peer, tool):
    return (await peer.call(tool, {"text": "x"})).answer.get("error")


@asynccontextmanager
async def clients(daemon, tools, *, legacy=2, modern=1):
    """Clients of both eras that call the tools all the time; what each has heard of lists, and its callers."""
    async with AsyncExitStack() as stack:
        heard, callers = [], {tool: [] for tool in tools}
        for _ in range(legacy):
            peer = await stack.enter_async_context(HttpPeer(daemon.url))
            await peer.initialize()
            assert await peer.open_stream() == 200
            heard.append(lambda peer=peer: len(peer.notifications(TOOLS_CHANGED)))
            for tool in tools:
                callers[tool].append(Caller(partial(legacy_call, peer), tool))
        for _ in range(modern):
            peer = await stack.enter_async_context(ModernHttpPeer(daemon.url))
            await peer.list_tools()
            listening = await stack.enter_async_context(peer.listen("tools"))
            heard.append(lambda listening=listening: len(listening.news))
            for tool in tools:
                callers[tool].append(Caller(partial(modern_call, peer), tool))
        async with trio.open_nursery() as nursery:
            for each in callers.values():
                for caller in each:
                    nursery.start_soon(caller.run)
            yield heard, callers
            nursery.cancel_scope.cancel()


async def test_servers_come_change_and_go_while_clients_call():
    keep = mini(token=f"keep-{os.getpid()}")
    first = {"keep": keep, "moving": mini(), "leaving": mini(), "off": mini(enabled=False)}
    steps = [
        # What the file says next, and how many lists of tools are another one then.
        ({**first, "coming": mini()}, "added=coming unchanged=3", 1),
        ({**first, "coming": mini(), "moving": mini("more")}, "changed=moving unchanged=3", 2),
        ({"keep": keep, "coming": mini(), "moving": mini("more")}, "removed=leaving unchanged=3", 3),
        ({"keep": keep, "coming": mini(), "moving": mini("more")}, "unchanged=3", 3),
        ({"coming": mini(), "moving": mini("more"), "keep": keep}, "unchanged=3", 4),
        ({"coming": mini(prefix="other_"), "moving": mini("more"), "keep": keep}, "adjusted=coming unchanged=2", 5),
        ({"moving": mini("more"), "keep": keep}, "removed=coming unchanged=2", 6),
    ]
    async with start_daemon({"mcpServers": first}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        for name in ("keep", "moving", "leaving"):
            await wait_state(peer, daemon, name, "ready")
        before = await peer.call_text("keep_pid")
        async with clients(daemon, ["keep_echo", "moving_echo", "leaving_echo"]) as (heard, callers):
            for each in callers.values():
                for caller in each:
                    await caller.go_on()
            assert [count() for count in heard] == [0, 0, 0]
            for servers, plan, changes in steps:
                assert f"event=reloaded {plan}\n" in await reload(daemon, servers)
                await wait_until(lambda changes=changes: [count() for count in heard] == [changes] * 3)
                names = {tool["name"] for tool in await peer.list_all("tools/list", "tools")}
                assert (
                    "coming_echo" in names,
                    "other_echo" in names,
                    "leaving_echo" in names,
                    "moving_more" in names,
                ) == (
                    "coming" in servers and "prefix" not in servers["coming"],
                    "coming" in servers and "prefix" in servers["coming"],
                    "leaving" in servers,
                    servers["moving"] != mini(),
                )
                for caller in (*callers["keep_echo"], *callers["moving_echo"]):
                    await caller.go_on()
            assert await peer.call_text("keep_pid") == before
            assert len(processes_with(f"keep-{os.getpid()}")) == 1
            for caller in (*callers["keep_echo"], *callers["moving_echo"]):
                assert caller.errors == []
            for caller in callers["leaving_echo"]:
                assert caller.errors
                assert set(caller.errors) == {(UNKNOWN, "Unknown tool: leaving_echo")}


async def test_a_call_in_flight_ends_where_it_began(tmp_path):
    gate = tmp_path / "gate"
    async with start_daemon({"mcpServers": {"a": mini(), "b": mini()}}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        pids = {name: await peer.call_text(f"{name}_pid") for name in ("a", "b")}
        ended = {}

        async def call(name):
            ended[name] = await peer.call_text(f"{name}_until", {"file": str(gate)})

        async with trio.open_nursery() as nursery:
            for name in ("a", "b"):
                nursery.start_soon(call, name)
            for name in ("a", "b"):
                await wait_calls(peer, daemon, name, 1)
            said = await reload(daemon, {"b": mini("more")})
            assert "changed=b removed=a" in said
            assert "backend=a event=draining calls=1" in said
            assert await peer.call_text("b_pid") != pids["b"]
            with pytest.raises(PeerError, match="Unknown tool: a_pid"):
                await peer.call_text("a_pid")
            assert not ended
            assert alive(int(pids["a"]))
            gate.write_text("")
        assert ended == pids
        for pid in pids.values():
            await wait_until(lambda pid=pid: not alive(int(pid)))


async def wait_calls(peer, daemon, name, count):
    with trio.fail_after(LIMIT):
        while (await server_state(peer, daemon, name))["calls_in_flight"] != count:  # noqa: ASYNC110
            await trio.sleep(0.02)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"mcpServers": {"b": {"command": "x", "nonsense": 1}}}', r"mcpd.yaml:1: mcpServers.b.nonsense"),
        ("mcpServers: [", r"mcpd.yaml:"),
        ('{"mcpServers": {"b": {"url": "https://127.0.0.1:1/", "tls": {"ca": "/none.pem"}}}}', "mcpServers.b.tls"),
        ('{"listen": {"host": "0.0.0.0"}}', "behind_authenticating_proxy"),
    ],
)
async def test_a_fault_changes_nothing_and_is_said(text, fault):
    async with start_daemon({"mcpServers": {"a": mini()}}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        before = await peer.call_text("a_pid")
        said = await reload(daemon, text, "nothing has changed")
        await wait_until(lambda: fault in daemon.stderr)
        assert "event=reloaded" not in said
        assert await peer.call_text("a_pid") == before
        # The next one, which is right, is carried out.
        assert "added=c unchanged=1" in await reload(daemon, {"a": mini(), "c": mini()})
        assert await peer.call_text("a_pid") == before


async def test_settings_apply_or_are_named_until_a_restart():
    servers = {"a": mini()}
    async with start_daemon({"mcpServers": servers}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        before = await peer.call_text("a_pid")
        changes = {
            "naming": {"separator": "-", "page_size": 2},
            "limits": {"session_age": "1h", "body": 2000},
            "listen": {"trusted_hosts": ["x.example"]},
            "instructions": "be brief",
        }
        said = await reload(daemon, servers, **changes)
        for setting in ("listen.trusted_hosts", "limits.session_age"):
            assert f"event=needs_restart setting={setting}\n" in said
        assert said.count("event=needs_restart") == 2
        assert await peer.call_text("a-pid") == before
        page = await peer.request("tools/list")
        assert len(page["tools"]) == 2
        async with HttpPeer(daemon.url) as other:
            assert (await other.initialize())["instructions"] == "be brief"
            with pytest.raises(HttpError, match="413"):
                await other.call_text("a-echo", {"text": "x" * 2000})
        again = await reload(daemon, servers, **changes)
        assert again.count("event=needs_restart") == 2
        assert "event=reloaded needs_restart=" in again


async def test_a_server_that_does_not_come_up_is_in_effect_all_the_same():
    async with start_daemon({"mcpServers": {"a": mini(), "b": mini()}}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await reload(daemon, {"a": {"command": "/no/such/program"}, "b": mini()})
        about = await server_state(peer, daemon, "a")
        assert about["state"] == "needs-operator"
        names = {tool["name"].split("_")[0] for tool in await peer.list_all("tools/list", "tools")}
        assert names == {"b"}
        await reload(daemon, {"a": mini(), "b": mini()})
        assert await peer.call_text("a_echo", {"text": "again"}) == "again"


TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Makes a terminal the one of this session, and goes on as another program."""


@asynccontextmanager
async def in_a_terminal(argv):
    """A process that was started from a terminal; stopped at the end of the block. Gives it, and how to end the
    terminal."""
    ours, theirs = pty.openpty()
    ends = [lambda: os.close(ours)]
    try:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", TAKE_TERMINAL, str(theirs), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            pass_fds=(theirs,),
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    try:
        yield process, lambda: ends.pop()()
    finally:
        with trio.CancelScope(shield=True):
            await stop_process(process)
            await process.stdin.aclose()
            await process.stderr.aclose()
        for end in ends:
            end()


@pytest.mark.parametrize("front", ["http", "stdio"])
async def test_the_end_of_its_terminal_ends_mcpd_and_the_signal_alone_does_not(front, tmp_path, nursery):
    config = tmp_path / "mcpd.yaml"
    config.write_text('{"mcpServers": {"a": {"command": "/no/such/program"}}}')
    argv = mcpd("--config", str(config), "--port", "0", "--state-dir", str(tmp_path / "state"), "--transport", front)
    said = bytearray()
    async with in_a_terminal(argv) as (process, hang_up):
        nursery.start_soon(watch, process.stderr, said)
        await wait_until(lambda: b"event=needs_operator" in said, LIMIT)
        process.send_signal(signal.SIGHUP)
        await wait_until(lambda: b"event=reloaded unchanged=1" in said, LIMIT)
        assert process.returncode is None
        hang_up()
        with trio.fail_after(LIMIT):
            assert await process.wait() == 0
        await wait_until(lambda: b"event=stopping signal=SIGHUP" in said)
