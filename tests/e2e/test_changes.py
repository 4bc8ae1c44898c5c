"""Servers that are added, switched and removed while mcpd runs, and what is left of it after its end."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trio

from mcpd.config.options import SYSTEM_CONFIG
from tests.config.test_store import fill, small_disk
from tests.e2e.backends import mini, wait_until
from tests.e2e.background import ENVIRONMENT, mcpd
from tests.e2e.test_control import LIMIT, controlled, mcpctl
from tests.e2e.test_reload import TOOLS_CHANGED, write
from tests.fixtures.peer import HttpPeer

ROOT = str(Path(__file__).parents[2])
DEMO = [sys.executable, "-m", "mcpd.demo.calculator"]
"""Behind `--`."""
CONFIGURED = SYSTEM_CONFIG.exists()


async def tools(daemon) -> set[str]:
    """What a client that comes now sees."""
    async with HttpPeer(daemon.url) as peer:
        await peer.initialize()
        return {tool["name"] for tool in await peer.list_all("tools/list", "tools")}


def overlay_in(state: str) -> tuple[int, dict]:
    """Its mode, and what is in it."""
    path = Path(state, "overlay.json")
    return stat.S_IMODE(path.stat().st_mode), json.loads(path.read_text())


async def asked(path, *arguments: str, status: int = 0) -> str:
    """What mcpctl says, which ends with that status."""
    done = await mcpctl(path, *arguments)
    assert done.returncode == status, done.stderr.decode()
    return (done.stdout or done.stderr).decode()


async def test_what_is_added_is_seen_at_once_and_is_there_after_a_restart(tmp_path):
    state = str(tmp_path / "state")
    config = {"mcpServers": {"a": mini()}}
    async with controlled(config, state_dir=state) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        assert await peer.open_stream() == 200
        await peer.list_all("tools/list", "tools")
        said = await asked(path, "add-server", "calc", "--env", f"PYTHONPATH={ROOT}", "--", *DEMO)
        assert said == "calc is ready\n"
        await wait_until(lambda: len(peer.notifications(TOOLS_CHANGED)) == 1)
        assert "calc_add" in {tool["name"] for tool in await peer.list_all("tools/list", "tools")}
        assert "5" in await peer.call_text("calc_add", {"a": 2, "b": 3})
        assert await asked(path, "disable", "a") == "a is disabled\n"
        assert not {name for name in await tools(daemon) if name.startswith("a_")}
        mode, kept = overlay_in(state)
        entry = kept["servers"]["calc"]
        assert mode == 0o600
        assert (entry["how"], entry["by"].startswith(f"uid={os.getuid()}")) == ("mcpctl", True)
    async with controlled(config, state_dir=state) as (daemon, path):
        names = await tools(daemon)
        assert "calc_add" in names
        assert "a_echo" not in names
        assert await asked(path, "enable", "a") == "a is ready\n"
        assert await asked(path, "remove-server", "calc") == "calc is removed\n"
        names = await tools(daemon)
        assert "a_echo" in names
        assert "calc_add" not in names
        assert overlay_in(state)[1] == {"format": 1, "servers": {}, "marks": {}}


async def test_one_that_does_not_come_up_says_why_and_what_to_do():
    async with controlled({"mcpServers": {}}) as (_daemon, path):
        said = await asked(path, "add-server", "bad", "--", "no-such-command")
        assert said.startswith("bad is needs-operator: backend 'bad': command 'no-such-command' not found")
        assert "mcpctl logs bad" in said
        said = await asked(path, "add-server", "bad", "--", "other", status=1)
        assert "--replace" in said
        said = await asked(path, "add-server", "odd", "--instances", "many", "--", "x", status=78)
        assert "mcpServers.odd.instances: expected one of" in said
        assert [each["name"] for each in json.loads(await asked(path, "servers", "--json"))["servers"]] == ["bad"]


async def test_a_file_wins_and_the_conflict_is_told_until_it_is_resolved():
    async with controlled({"mcpServers": {}}) as (daemon, path):
        await asked(path, "add-server", "n", "--disabled", "--", "x")
        write(daemon, {"n": mini()})
        await asked(path, "reload")
        place = f"{daemon.config}:3"
        for verb in (["status"], ["config", "diff"]):
            assert place in await asked(path, *verb)
        assert "event=overlay_conflict server=n" in daemon.stderr
        assert "n_echo" in await tools(daemon)
        assert place in await asked(path, "add-server", "n", "--replace", "--", "x", status=1)
        assert "a file defines one too" in await asked(path, "remove-server", "n")
        assert "conflict" not in await asked(path, "status")
        assert place in await asked(path, "remove-server", "n", status=1)
        assert "n_echo" in await tools(daemon)


async def test_an_upgrade_in_place_keeps_what_was_added():
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        token = f"added-{os.getpid()}"
        command = mini(token=token)
        await asked(path, "add-server", "n", "--", command["command"], *command["args"])
        await asked(path, "disable", "a")
        before = await peer.call_text("n_pid")
        await asked(path, "upgrade")
        assert await peer.call_text("n_pid") == before, "the same process"
        assert not {name for name in await tools(daemon) if name.startswith("a_")}
        assert "n: added" in await asked(path, "config", "diff")


async def test_what_is_broken_keeps_mcpd_from_nothing(tmp_path):
    overlay = tmp_path / "overlay.json"
    overlay.write_text('{"format": 1, "servers": {')
    async with controlled({"mcpServers": {"a": mini()}}, state_dir=str(tmp_path)) as (daemon, path):
        assert "event=overlay_problem" in daemon.stderr
        assert "overlay.json.broken" in await asked(path, "status")
        assert "a_echo" in await tools(daemon)
        assert (tmp_path / "overlay.json.broken").read_text() == '{"format": 1, "servers": {'
        assert not overlay.exists()
        await asked(path, "add-server", "n", "--disabled", "--", "x")
        assert overlay.exists()


async def test_killed_while_it_is_changed_all_the_time_it_loses_nothing_that_was_answered(tmp_path):
    state = str(tmp_path)
    added: list[str] = []
    async with controlled({"mcpServers": {}}, state_dir=state) as (daemon, path):

        async def add() -> None:
            for number in range(1000):
                done = await mcpctl(path, "add-server", f"n{number}", "--disabled", "--", "x")
                if done.returncode != 0:
                    return
                added.append(f"n{number}")

        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(add)
                while len(added) < 5:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.01)
                os.kill(daemon.pid, signal.SIGKILL)
    async with controlled({"mcpServers": {}}, state_dir=state) as (daemon, path):
        names = [each["name"] for each in json.loads(await asked(path, "servers", "--json"))["servers"]]
        assert names[: len(added)] == added
        assert len(names) <= len(added) + 1, "the one that was not answered any more may be there or not"
        assert "event=overlay_problem" not in daemon.stderr


async def test_with_a_full_disk_nothing_is_in_effect_and_it_says_so(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        async with controlled({"mcpServers": {"a": mini()}}, state_dir=str(disk)) as (daemon, path):
            await asked(path, "add-server", "kept", "--disabled", "--", "x")
            before = (disk / "overlay.json").read_bytes()
            filler = fill(disk)
            said = await asked(path, "add-server", "n", "--description", "d" * 8192, "--", "x", status=1)
            assert "No space left on device; nothing was changed (make room" in said
            assert (disk / "overlay.json").read_bytes() == before
            servers = json.loads(await asked(path, "servers", "--json"))["servers"]
            assert [each["name"] for each in servers] == ["a", "kept"]
            assert "a_echo" in await tools(daemon)
            filler.unlink()
            await asked(path, "add-server", "n", "--disabled", "--", "x")


async def test_files_of_the_directory_are_read_and_watched():
    async with controlled({"watch": True, "mcpServers": {"a": mini()}}) as (daemon, path):
        directory = daemon.config.parent / "servers.d"
        directory.mkdir()
        (directory / "b.json").write_text(json.dumps({"mcpServers": {"b": mini()}}))
        await wait_until(lambda: "event=reloaded added=b" in daemon.stderr)
        (directory / "c.yaml").write_text("mcpServers:\n  a: {command: x}\n")
        await wait_until(lambda: "event=reload_failed faults=1" in daemon.stderr)
        fault = f"{directory}/c.yaml:2: mcpServers.a: the server is there twice (first in {daemon.config}:"
        assert fault in daemon.stderr
        assert fault in await asked(path, "config", "check", status=78)
        assert {"a_echo", "b_echo"} <= await tools(daemon), "what was in effect still is"
        assert "failed: nothing was changed" in await asked(path, "status")
        (directory / "c.yaml").unlink()
        (directory / "b.json").unlink()
        await wait_until(lambda: "event=reloaded removed=b" in daemon.stderr)


async def check(directory: Path, *arguments: str) -> subprocess.CompletedProcess:
    with trio.fail_after(LIMIT):
        return await trio.run_process(
            mcpd("--check", "--config", str(directory / "mcpd.json"), *arguments),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=ENVIRONMENT,
        )


async def test_a_check_sees_all_sources(tmp_path):
    (tmp_path / "mcpd.json").write_text(json.dumps({"mcpServers": {"a": {"command": "x"}}}))
    (tmp_path / "servers.d").mkdir()
    (tmp_path / "servers.d" / "b.yaml").write_text("mcpServers:\n  b: {command: x}\n")
    entry = {"at": "2026-11-28T10:00:00Z", "by": "alice", "how": "mcpctl", "table": {"command": "x"}}
    overlay = tmp_path / "overlay.json"
    overlay.write_text(json.dumps({"format": 1, "servers": {"a": entry, "c": entry}}, indent=1))
    done = await check(tmp_path, "--state-dir", str(tmp_path))
    out = done.stdout.decode()
    assert done.returncode == 0
    assert "servers        3\n" in out
    assert f"{tmp_path}/servers.d/b.yaml\n" in out
    assert f"warning: a: {tmp_path}/mcpd.json:1 defines it" in out
    overlay.write_text(json.dumps({"format": 1, "servers": {"c": {**entry, "table": {"command": 1}}}}, indent=1))
    done = await check(tmp_path, "--state-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (78, b"")
    assert done.stderr.decode().startswith(f"mcpd: {overlay}:9: mcpServers.c.command: expected text")
    overlay.write_text("{")
    assert (await check(tmp_path, "--state-dir", str(tmp_path))).returncode == 78
    assert overlay.exists(), "a look changes nothing"


@pytest.mark.parametrize(("extra", "kept"), [(("--demo",), "overlay.demo.json"), ((), "overlay.json")])
async def test_without_a_file_of_its_own_it_keeps_changes_too(tmp_path, extra, kept):
    with tempfile.TemporaryDirectory(prefix="mcpd-") as directory:
        socket = Path(directory, "control.sock")
        argv = mcpd("--port", "0", "--state-dir", str(tmp_path), "--control-socket", str(socket), *extra)
        if not extra and CONFIGURED:
            pytest.skip("this machine has a configuration, which is used then")
        for names in (["calculator", "notes", "clock"], ["calculator", "notes", "clock", "n"]):
            async with trio.open_nursery() as nursery:
                process = await nursery.start(start, argv)
                await wait_until(socket.exists)
                servers = json.loads(await asked(socket, "servers", "--json"))["servers"]
                assert [each["name"] for each in servers] == names
                await asked(socket, "add-server", "n", "--replace", "--disabled", "--", "x")
                assert "embedded-default.json" in await asked(socket, "remove-server", "notes", status=1)
                process.terminate()
                await process.wait()
        assert (tmp_path / kept).exists()


async def start(argv, *, task_status):
    process = await trio.lowlevel.open_process(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    try:
        task_status.started(process)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


@pytest.fixture
def configured(tmp_path):
    path = tmp_path / "mcpd.json"
    path.write_text(json.dumps({"mcpServers": {}}))
    return path


async def test_one_client_on_stdio_shares_no_overlay(tmp_path, configured):
    with tempfile.TemporaryDirectory(prefix="mcpd-") as directory:
        socket = Path(directory, "control.sock")
        argv = mcpd("--transport", "stdio", "--config", str(configured), "--control-socket", str(socket))
        process = await trio.lowlevel.open_process(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**ENVIRONMENT, "XDG_STATE_HOME": str(tmp_path)},
        )
        try:
            await wait_until(socket.exists)
            assert "--state-dir" in await asked(socket, "add-server", "n", "--", "x", status=1)
        finally:
            process.terminate()
            await process.wait()
        assert not list(tmp_path.rglob("overlay*"))
