"""mcpd and a service manager that is played by the test; a real one is in `python -m tests.systemd`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.e2e.background import ENVIRONMENT, mcpd, until
from tests.fixtures.peer import HttpPeer
from tests.fixtures.peer_process import stop_process
from tests.systemd.receiver import Receiver

EXEC = """
import os, sys
name, fds, argv = sys.argv[1], [int(fd) for fd in sys.argv[2].split(",") if fd], sys.argv[3:]
moved = [os.dup(fd) for fd in fds]
for at, fd in enumerate(moved):
    os.dup2(fd, 3 + at)
    os.set_inheritable(3 + at, True)  # dup2 changes nothing where both are one
for fd in fds:
    if fd >= 3 + len(fds):
        os.close(fd)
names = ":".join([name] * len(fds))
pid = str(os.getpid())
os.environ.update(LISTEN_PID=pid, LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names, WATCHDOG_PID=pid)
os.execvp(argv[0], argv)
"""
"""What systemd does between fork and exec: the variables name the process that is executed."""

MINI = str(Path(__file__).parent / "mini_server.py")
SPEAKING = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def write(directory, **settings) -> str:
    servers = {"mini": {"command": sys.executable, "args": [MINI, "t"], "inherit_env": list(SPEAKING), "prefix": ""}}
    file = directory / "mcpd.json"
    file.write_text(json.dumps({"mcpServers": servers, **settings}))
    return str(file)


@asynccontextmanager
async def managed(directory, manager: Receiver, config: str, *, name: str = "", socks=(), usec: int = 30_000_000):
    """mcpd as a service manager starts it; killed at the end of the block if it is still there."""
    fds = [sock.fileno() for sock in socks]
    environ = {**ENVIRONMENT, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(usec)}
    argv = [sys.executable, "-c", EXEC, name, ",".join(map(str, fds))]
    process = await trio.lowlevel.open_process(
        [*argv, *mcpd("--config", config, "--state-dir", str(directory / "state"))],
        env=environ,
        pass_fds=fds,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await stop_process(process)


@pytest.fixture
def manager(tmp_path):
    with Receiver(tmp_path / "notify") as receiver:
        yield receiver


async def test_a_socket_unit_end_to_end(tmp_path, manager):
    with listener() as sock:
        port = sock.getsockname()[1]
        async with managed(tmp_path, manager, write(tmp_path), name="http", socks=[sock]) as process:
            await manager.wait_for("READY", "1")
            assert "STATUS" in manager.seen[-1]
            async with HttpPeer(f"http://127.0.0.1:{port}/mcp") as peer:
                await peer.initialize()
                result = await peer.request("tools/call", {"name": "pid", "arguments": {}})
                child = int(result["content"][0]["text"])
                await until(lambda: status_is(manager, "1 ready"))
                assert names_of_environment(child).isdisjoint(SPEAKING)
                inode = os.fstat(sock.fileno()).st_ino
                assert (inode in inodes(process.pid), inode in inodes(child)) == (True, False)
            process.terminate()
            await manager.wait_for("STOPPING", "1")
            assert await process.wait() == 0
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass  # the socket is the manager's, and stays open
    assert [message for message in manager.seen if "FDSTORE" in message] == []


def names_of_environment(pid: int) -> set[str]:
    return {line.partition("=")[0] for line in Path(f"/proc/{pid}/environ").read_text().split("\0")}


def inodes(pid: int) -> set[int]:
    return {os.stat(fd).st_ino for fd in Path(f"/proc/{pid}/fd").iterdir()}


def status_is(manager: Receiver, text: str) -> bool:
    while True:
        try:
            manager.receive()
        except BlockingIOError:
            break
    return next((m["STATUS"] for m in reversed(manager.seen) if "STATUS" in m), None) == text


async def test_a_reload_begins_and_ends_whatever_comes_of_it(tmp_path, manager):
    with listener() as sock:
        config = write(tmp_path)
        async with managed(tmp_path, manager, config, name="http", socks=[sock]) as process:
            await manager.wait_for("READY", "1")
            for settings in ({}, {"nonsense": 1}):
                write(tmp_path, **settings)
                process.send_signal(signal.SIGHUP)
                await manager.wait_for("RELOADING", "1")
                assert "MONOTONIC_USEC" in manager.seen[-1]
                await manager.wait_for("READY", "1")
            while not any("configuration not in effect" in m.get("STATUS", "") for m in manager.seen):
                await manager.wait_for("STATUS")
            assert process.poll() is None


async def test_a_port_of_our_own_survives_a_restart(tmp_path, manager):
    with listener() as free:
        port = free.getsockname()[1]
    config = write(tmp_path, listen={"port": port})
    async with managed(tmp_path, manager, config) as process:
        await manager.wait_for("FDSTORE", "1")
        kept = [socket.socket(fileno=fd) for fd in manager.fds]
        manager.fds.clear()
        await manager.wait_for("READY", "1")
        process.send_signal(signal.SIGKILL)
        await process.wait()
    with kept[0], socket.create_connection(("127.0.0.1", port), timeout=10) as early:
        early.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        async with managed(tmp_path, manager, config, name="kept-http", socks=kept):
            await manager.wait_for("BARRIER")
            manager.close_fds()
            await manager.wait_for("READY", "1")
            early.setblocking(False)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(early)) as stream:
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 "), "who came in between is served"


async def test_the_watchdog_is_fed_by_a_loop_that_turns(tmp_path, manager):
    with listener() as sock:
        async with managed(tmp_path, manager, write(tmp_path), name="http", socks=[sock], usec=300_000) as process:
            await manager.wait_for("READY", "1")
            for _ in range(3):
                await manager.wait_for("WATCHDOG", "1")
            process.send_signal(signal.SIGABRT)
            assert process.stderr is not None
            errors = b""
            async for data in process.stderr:
                errors += data
            assert await process.wait() == -signal.SIGABRT
    assert b"Fatal Python error: Aborted" in errors, "it says where the loop was"


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ({"nonsense": 1}, 78, "nonsense"),
        ({"listen": {"host": "0.0.0.0"}}, 78, "others can reach"),
        ({"listen": {"port": -1}}, 69, "another process listens there"),
    ],
)
async def test_why_it_did_not_start_is_in_the_status(settings, status, words, tmp_path, manager):
    with listener() as taken:
        if settings.get("listen") == {"port": -1}:
            settings = {"listen": {"port": taken.getsockname()[1]}}
        async with managed(tmp_path, manager, write(tmp_path, **settings)) as process:
            message = await manager.wait_for("EXIT_STATUS")
            assert message["EXIT_STATUS"] == str(status)
            assert words in message["STATUS"]
            assert await process.wait() == status


async def test_what_nobody_knows_is_closed_and_named(tmp_path, manager):
    with listener() as sock:
        address = sock.getsockname()
        with listener() as free:
            port = free.getsockname()[1]
        config = write(tmp_path, listen={"port": port})
        async with managed(tmp_path, manager, config, name="mcpd.socket", socks=[sock]) as process:
            await manager.wait_for("READY", "1")
            sock.close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=10)
            process.terminate()
            assert process.stderr is not None
            errors = b""
            async for data in process.stderr:
                errors += data
    assert b"event=descriptor_not_used name=mcpd.socket" in errors
