"""mcpctl and the control socket, with the daemon as a process."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mcpd.control.client import Client
from mcpd.control.operations import TABLE
from tests.e2e.backends import mini
from tests.e2e.background import ENVIRONMENT, mcpd, until
from tests.e2e.test_reload import write
from tests.fixtures.peer import HttpPeer, start_daemon

LIMIT = 40.0
"""Seconds for one command."""

SOMEBODY_ELSE = """
import encodings.idna, os, shutil, sys
from mcpd.cli.main import parser, run
parser().parse_args(["status"])
os.setgroups([])
os.setgid(12345)
os.setuid(12345)
sys.exit(run(sys.argv[1:]))
"""
"""mcpctl as another user, who could not read its modules; so all are there before."""

ASK_AS_SOMEBODY_ELSE = """
import json, os, socket, sys
os.setgroups([])
os.setgid(12345)
os.setuid(12345)
for request in json.load(sys.stdin):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(sys.argv[1])
        sock.sendall(request.encode())
        print(b"".join(iter(lambda: sock.recv(65536), b"")).decode().replace("\\r\\n", " "))
"""
"""Sends requests as another user, and prints an answer a line."""

CHANGES = [row for row in TABLE if row.changes]


@asynccontextmanager
async def controlled(config, **options):
    """A daemon, and the path of its control socket: short enough for one wherever temporary files are."""
    with tempfile.TemporaryDirectory(prefix="mcpd-") as directory:
        path = Path(directory, "control.sock")
        async with start_daemon(config, extra=("--control-socket", str(path)), **options) as daemon:
            yield daemon, path


async def mcpctl(path, *arguments, program=("-m", "mcpd.cli.main")):
    argv = [sys.executable, *program, "--socket", str(path), *arguments]
    with trio.fail_after(LIMIT):
        return await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False, env=ENVIRONMENT)


async def test_a_reload_is_over_when_mcpctl_says_so():
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        before = await peer.call_text("a_pid")
        servers = {"a": mini(), "b": mini(), "off": mini(enabled=False)}
        write(daemon, servers, listen={"trusted_hosts": ["x.example"]})
        planned = await mcpctl(path, "reload", "--dry-run", "--json")
        assert json.loads(planned.stdout)["plan"]["added"] == ["b"]
        assert not [tool for tool in await peer.list_all("tools/list", "tools") if tool["name"].startswith("b_")]
        done = await mcpctl(path, "reload")
        assert (done.returncode, done.stderr) == (0, b"")
        lines = done.stdout.decode().splitlines()
        assert "added     b: ready" in lines
        assert "restart   listen.trusted_hosts differs, which applies when mcpd is restarted" in lines
        assert await peer.call_text("b_echo", {"text": "here"}) == "here", "at once"
        assert await peer.call_text("a_pid") == before
        servers = json.loads((await mcpctl(path, "servers", "--json")).stdout)["servers"]
        assert [(each["name"], each["state"]) for each in servers] == [
            ("a", "ready"),
            ("b", "ready"),
            ("off", "disabled"),
        ]


async def test_a_fault_is_told_and_remembered_until_it_is_mended():
    async with controlled({"mcpServers": {}}) as (daemon, path):
        write(daemon, '{"mcpServers": {\n "b": {"command": "x",\n  "nonsense": 1}}}')
        done = await mcpctl(path, "reload")
        assert (done.returncode, done.stdout) == (78, b"")
        assert f"{daemon.config}:3: mcpServers.b.nonsense" in done.stderr.decode()
        status = json.loads((await mcpctl(path, "status", "--json")).stdout)
        assert status["last_reload"]["ok"] is False
        assert f"{daemon.config}:3" in status["last_reload"]["errors"][0]
        assert "failed: nothing was changed" in (await mcpctl(path, "status")).stdout.decode()
        write(daemon, {})
        assert (await mcpctl(path, "reload")).returncode == 0
        status = json.loads((await mcpctl(path, "status", "--json")).stdout)
        assert status["last_reload"]["ok"] is True
        assert status["pid"] == daemon.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_may_look_at_most():
    async with controlled({"mcpServers": {}}) as (daemon, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        path.parent.chmod(0o755)
        other = ("-c", SOMEBODY_ELSE)
        done = await mcpctl(path, "status", program=other)
        assert done.returncode == 77
        assert b"group 'mcpd'" in done.stderr
        path.chmod(0o666)
        assert (await mcpctl(path, "status", program=other)).returncode == 0
        done = await mcpctl(path, "reload", program=other)
        assert done.returncode == 77
        assert b"user 12345 may look" in done.stderr
        assert "uid=12345" in daemon.stderr
        assert "event=reloaded" not in daemon.stderr
        write(daemon, {}, control={"look": "operators"})
        assert (await mcpctl(path, "reload")).returncode == 0
        done = await mcpctl(path, "status", program=other)
        assert done.returncode == 77
        assert b"user 12345 may not look (control.look)" in done.stderr


def test_whatever_is_not_asked_for_with_get_is_a_change():
    assert {row.id for row in TABLE if row.method != "GET"} == {row.id for row in CHANGES}
    assert {"add_servers", "remove_server", "enable_server", "disable_server", "reload"} <= {row.id for row in CHANGES}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("look", ["everyone", "operators"])
async def test_another_user_changes_nothing_and_the_log_says_who_tried(look, tmp_path):
    """Whatever the tables have, with what would have it done if root asked."""
    state = tmp_path / "state"
    config = {"mcpServers": {"a": mini(), "off": mini(enabled=False)}, "control": {"look": look}}
    async with controlled(config, state_dir=str(state)) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        before, pid = await configured(path, state), await peer.call_text("a_pid")
        # What a reload would find, and an upgrade would have done.
        write(daemon, {"b": mini()}, control={"look": look})
        path.chmod(0o666)
        path.parent.chmod(0o755)
        wanted = [(row, row.path.replace("{name}", name)) for row in CHANGES for name in targets(row)]
        argv = [sys.executable, "-c", ASK_AS_SOMEBODY_ELSE, str(path)]
        data = json.dumps([request(*each) for each in wanted]).encode()
        with trio.fail_after(LIMIT):
            done = await trio.run_process(argv, stdin=data, capture_stdout=True, capture_stderr=True)
        answers = done.stdout.decode().splitlines()
        for (row, target), answer in zip(wanted, answers, strict=True):
            assert answer.startswith("HTTP/1.1 403 "), f"{row.method} {target}: {answer}"
            assert '"code":"not_permitted"' in answer
            tried = f"event=operation_refused method={row.method.encode()!r} path={target.encode()!r} uid=12345 pid="
            await until(lambda tried=tried: tried in daemon.stderr)
        assert daemon.stderr.count("event=operation_refused") == len(wanted)
        assert not re.search(r"event=(operation |reloaded|upgrad)", daemon.stderr)
        assert (await configured(path, state), await peer.call_text("a_pid")) == (before, pid)


def targets(row):
    """Servers with which it could be done."""
    if "{" not in row.path:
        return [""]
    return ["off"] if row.id == "enable_server" else ["a", "off"]


def request(row, target):
    """It as root would ask."""
    body = json.dumps({"mcpServers": {"added": mini()}}) if row.body is not None else ""
    head = f"{row.method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if row.body is not None:
        head += "Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}"


async def configured(path, state):
    """Everything that somebody could have changed: what is in effect, how servers are, and what is kept."""
    client = Client(path)
    config, servers, status = [
        await trio.to_thread.run_sync(client.get, f"/v1/{each}") for each in ("config", "servers", "status")
    ]
    overlay = state / "overlay.json"
    return (
        config,
        [(each["name"], each["state"], each.get("pid")) for each in servers["servers"]],
        (status["pid"], status["last_reload"]),
        overlay.read_bytes() if overlay.exists() else None,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_what_others_may_not_is_done_if_root_asks():
    """So what another user tries is refused for who they are."""
    async with controlled({"mcpServers": {"a": mini(), "off": mini(enabled=False)}}) as (_, path):
        for id in ("add_servers", "remove_server", "enable_server", "restart", "reload"):
            [row] = [row for row in CHANGES if row.id == id]
            name = {"remove_server": "added", "restart": "a"}.get(id, "off")
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(request(row, row.path.replace("{name}", name)).encode())
                with trio.fail_after(LIMIT):
                    answer = b"".join([piece async for piece in stream])
            assert answer.startswith(b"HTTP/1.1 200 "), answer


async def test_two_do_not_share_a_socket(tmp_path):
    async with controlled({"mcpServers": {}}) as (_daemon, path):
        config = tmp_path / "mcpd.yaml"
        config.write_text(json.dumps({"mcpServers": {}, "control": {"socket": str(path)}}))
        argv = mcpd("--config", str(config), "--port", "0", "--state-dir", str(tmp_path / "state"))
        with trio.fail_after(LIMIT):
            second = await trio.run_process(
                argv, stdin=subprocess.DEVNULL, capture_stdout=True, capture_stderr=True, check=False, env=ENVIRONMENT
            )
        assert second.returncode == 69
        assert b"another mcpd answers there" in second.stderr
        assert (await mcpctl(path, "status")).returncode == 0
    assert not path.exists()
    done = await mcpctl(path, "status")
    assert done.returncode == 69


async def test_one_that_was_killed_is_followed_by_the_next():
    with tempfile.TemporaryDirectory(prefix="mcpd-") as directory:
        path = Path(directory, "control.sock")
        extra = ("--control-socket", str(path))
        async with start_daemon({"mcpServers": {}}, extra=extra) as daemon:
            daemon.process.kill()
            await daemon.process.wait()
            assert os.listdir(directory) == [path.name]
        async with start_daemon({"mcpServers": {}}, extra=extra) as daemon:
            assert json.loads((await mcpctl(path, "status", "--json")).stdout)["pid"] == daemon.pid


async def test_without_a_word_it_is_in_the_state_directory_and_need_not_be():
    env = {"XDG_RUNTIME_DIR": "", "RUNTIME_DIRECTORY": ""}
    with tempfile.TemporaryDirectory(prefix="mcpd-") as directory:
        async with start_daemon({"mcpServers": {}}, state_dir=directory, env=env) as daemon:
            path = Path(directory, "control.sock")
            assert json.loads((await mcpctl(path, "status", "--json")).stdout)["pid"] == daemon.pid
            async with start_daemon({"mcpServers": {}}, state_dir=directory, env=env) as second:
                assert "event=no_control_socket" in second.stderr
                assert json.loads((await mcpctl(path, "status", "--json")).stdout)["pid"] == daemon.pid


async def test_an_upgrade_is_over_when_mcpctl_says_so():
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        before = await peer.call_text("a_pid")
        done = await mcpctl(path, "upgrade", "--json")
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(done.stdout)["pid"] == daemon.pid
        assert "event=upgraded" in daemon.stderr
        assert await peer.call_text("a_pid") == before
        assert b"became" in (await mcpctl(path, "upgrade")).stdout
        # And the program that came by an upgrade takes a reload like any other.
        write(daemon, {"a": mini(), "b": mini()})
        assert b"added     b: ready" in (await mcpctl(path, "reload")).stdout
        assert await peer.call_text("a_pid") == before


async def test_an_upgrade_that_cannot_be_is_refused():
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path):
        daemon.config.write_text("nonsense: 1")
        done = await mcpctl(path, "upgrade", "--json")
        assert done.returncode == 1
        answer = json.loads(done.stdout)
        assert answer["code"] == "upgrade_refused"
        assert "nonsense" in answer["message"]
        assert json.loads((await mcpctl(path, "status", "--json")).stdout)["pid"] == daemon.pid
