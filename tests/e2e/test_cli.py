"""The command `mcpd` itself: exit statuses, what goes to stdout, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import trio

from mcpd import __version__
from tests.e2e.background import ENVIRONMENT, alive, children, everything, mcpd, until
from tests.fixtures.peer import ROOT, HttpPeer, StdioPeer, start_daemon

END_LIMIT = 10.0
"""Seconds that an end may take; children get two for each step of being stopped."""


async def run(*arguments: str, stdin: bytes = b"", **options) -> subprocess.CompletedProcess:
    with trio.fail_after(20):
        return await trio.run_process(
            mcpd(*arguments),
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=ENVIRONMENT,
            **options,
        )


def write(directory, text: str, name: str = "mcpd.yaml") -> str:
    file = directory / name
    file.write_text(text)
    return str(file)


@pytest.fixture
def config(tmp_path):
    return write(tmp_path, json.dumps({"mcpServers": {"all": everything()}}), "mcpd.json")


# ---- before it runs


async def test_check_prints_the_plan_and_starts_nothing(tmp_path, config):
    done = await run("--config", config, "--check")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"all" in done.stdout
    assert os.listdir(tmp_path) == ["mcpd.json"]


@pytest.mark.parametrize(
    ("text", "line", "words", "mode"),
    [
        ("mcpServers:\n  a:\n    comand: x\n", 3, "comand", ("--check",)),
        ("mcpServers:\n  a:\n    command: [x]\n", 3, "command", ("--port", "0")),
        ("mcpServers:\n  a:\n    command: x\n    env:\n      K: ${NO_SUCH_VARIABLE}\n", 5, "NO_SUCH", ()),
        ("mcpServers:\n  a: {\n", 3, "", ("--transport", "stdio")),
    ],
)
async def test_a_bad_configuration_is_78_with_file_and_line(tmp_path, text, line, words, mode):
    file = write(tmp_path, text)
    done = await run("--config", file, "--state-dir", str(tmp_path / "s"), *mode)
    assert done.returncode == 78
    assert done.stdout == b""
    error = done.stderr.decode()
    assert f"{file}:{line}" in error
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "s").exists()


async def test_a_missing_file_is_78(tmp_path):
    done = await run("--config", str(tmp_path / "none.yaml"))
    assert done.returncode == 78
    assert b"none.yaml" in done.stderr


async def test_beyond_loopback_only_behind_something_that_authenticates(tmp_path):
    host = "0.0.0.0"
    file = write(tmp_path, f'listen:\n  host: "{host}"\n')
    for more in ((), ("--check",)):
        done = await run("--config", file, "--port", "0", "--state-dir", str(tmp_path / "s"), *more)
        assert done.returncode == 78
        assert b"listen.behind_authenticating_proxy" in done.stderr
    allowed = write(tmp_path, f'listen:\n  host: "{host}"\n  behind_authenticating_proxy: true\n', "other.yaml")
    assert (await run("--config", allowed, "--check")).returncode == 0


async def test_a_port_in_use_is_said_so(config, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await run("--config", config, "--port", str(port), "--state-dir", str(tmp_path / "s"))
    assert done.returncode == 69
    assert f"127.0.0.1:{port}" in done.stderr.decode()
    assert b"another process listens there" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_a_state_directory_that_cannot_be_one_is_said_so(config, tmp_path, transport):
    blocked = tmp_path / "file"
    blocked.write_text("")
    arguments = ("--config", config, "--port", "0", "--transport", transport)
    done = await run(*arguments, "--state-dir", str(blocked / "state"))
    assert done.returncode == 78
    assert b"--state-dir" in done.stderr
    assert b"Traceback" not in done.stderr


async def test_the_command_line():
    assert (await run("--version")).stdout.decode() == f"mcpd {__version__}\n"
    for wrong in (("--no-such-option",), ("--port", "x")):
        done = await run(*wrong)
        assert (done.returncode, done.stdout) == (64, b"")
        assert done.stderr


# ---- over HTTP


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_time_with_a_call_in_flight(number):
    config = {"mcpServers": {"all": everything()}, "shutdown": {"grace": 0.2}}
    async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await peer.call("echo")
        mine = children(daemon.pid)
        assert mine
        answers = []

        async def hang() -> None:
            answers.append(await peer.exchange("tools/call", {"name": "hang", "arguments": {}}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang)

            async def in_flight() -> bool:
                health = await peer.raw("GET", url=daemon.base + "/health")
                return health.json()["calls_in_flight"] == 1

            await until(in_flight)
            daemon.process.send_signal(number)
            with trio.fail_after(END_LIMIT):
                assert await daemon.process.wait() == 0
        assert "shutdown.grace" in answers[0]["error"]["message"], "the client is told and does not hang"
        await until(lambda: not any(map(alive, mine)))
        assert "Traceback" not in daemon.stderr


async def test_a_signal_while_it_starts_leaves_nothing_behind(tmp_path):
    config = {"mcpServers": {str(n): everything("--init-delay", "3600", prefix=f"{n}_") for n in range(3)}}
    async with start_daemon(config) as daemon:
        mine = set()
        await until(lambda: bool(mine.update(children(daemon.pid)) or mine))
        daemon.process.terminate()
        with trio.fail_after(END_LIMIT):
            assert await daemon.process.wait() == 0
        await until(lambda: not any(map(alive, mine)))


# ---- on stdio


def stdio(config: str, tmp_path) -> list[str]:
    return mcpd("--config", config, "--state-dir", str(tmp_path / "state"), "--transport", "stdio")


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


async def test_nothing_but_messages_on_stdout_and_eof_ends_it(config, tmp_path):
    async with StdioPeer(stdio(config, tmp_path), cwd=str(ROOT)) as peer:
        await peer.initialize()
        await peer.call("echo")
        mine = children(peer.process.pid)
        assert mine
        await peer.write(b"junk\n\n[]\n")
        assert await peer.request("ping") == {}
        assert await peer.close_stdin() == 0
        await until(lambda: not any(map(alive, mine)))
        assert not peer.junk
        assert "client_left" in peer.stderr


async def test_a_signal_ends_it_on_stdio(config, tmp_path):
    async with StdioPeer(stdio(config, tmp_path), cwd=str(ROOT)) as peer:
        await peer.initialize()
        await peer.call("echo")
        mine = children(peer.process.pid)
        peer.process.terminate()
        with trio.fail_after(END_LIMIT):
            assert await peer.process.wait() == 0
        await until(lambda: not any(map(alive, mine)))


async def test_the_signal_to_upgrade_changes_nothing_on_stdio(config, tmp_path):
    async with StdioPeer(stdio(config, tmp_path), cwd=str(ROOT)) as peer:
        await peer.initialize()
        await peer.call("echo")
        mine = children(peer.process.pid)
        peer.process.send_signal(signal.SIGUSR2)
        await peer.call("echo")
        assert children(peer.process.pid) == mine


async def test_piped_requests_are_answered(config, tmp_path):
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "add", "arguments": {"a": 1, "b": 2}},
    }
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in (INITIALIZE, call))
    arguments = stdio(config, tmp_path)[3:]
    done = await run(*arguments, stdin=lines)
    answers = {each["id"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0
    assert answers[0]["result"]["serverInfo"]["name"] == "mcpd"
    assert answers[1]["result"]["structuredContent"] == {"sum": 3}


async def test_files_do_as_stdin_and_stdout(config, tmp_path):
    given, got = tmp_path / "in", tmp_path / "out"
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    given.write_text(json.dumps(INITIALIZE) + "\n" + json.dumps(ping) + "\n")
    for source, count in ((given, 2), ("/dev/null", 0)):
        async with await trio.open_file(source, "rb") as stdin, await trio.open_file(got, "wb") as stdout:
            process = await trio.lowlevel.open_process(
                stdio(config, tmp_path),
                stdin=stdin.wrapped,
                stdout=stdout.wrapped,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
            )
            with trio.fail_after(20):
                assert await process.wait() == 0
        assert len(got.read_text().splitlines()) == count


async def test_a_pipe_that_others_use_blocks_again_afterwards(config, tmp_path):
    theirs, ours = os.pipe()
    try:
        with trio.fail_after(20):
            process = await trio.lowlevel.open_process(
                stdio(config, tmp_path),
                stdin=subprocess.DEVNULL,
                stdout=ours,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
            )
            assert await process.wait() == 0
        assert os.get_blocking(ours)
    finally:
        os.close(theirs)
        os.close(ours)


async def test_two_with_one_state_directory_do_not_harm_each_other(config, tmp_path):
    async with StdioPeer(stdio(config, tmp_path), cwd=str(ROOT)) as one:
        await one.initialize()
        pid = (await one.call_json("whoami"))["pid"]
        async with StdioPeer(stdio(config, tmp_path), cwd=str(ROOT)) as two:
            await two.initialize()
            assert (await two.call_json("whoami"))["pid"] != pid
        assert (await one.call_json("whoami"))["pid"] == pid


async def test_on_stdio_it_needs_no_place_for_state():
    """Desktop clients start their servers with an environment of their own, sometimes without HOME."""
    command = [sys.executable, "-m", "mcpd", "--demo", "--transport", "stdio"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]
    done = await trio.run_process(
        command,
        env=environment,
        stdin="".join(json.dumps(line) + "\n" for line in lines).encode(),
        capture_stdout=True,
        capture_stderr=True,
    )
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["result"]["protocolVersion"] == "2025-06-18"
    assert "calculator_add" in [tool["name"] for tool in second["result"]["tools"]]
    assert b"event=no_state_directory" in done.stderr
