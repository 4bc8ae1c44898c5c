"""What the daemon decides before it runs; that it runs is shown in tests/e2e."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys

import msgspec
import pytest
import trio

from mcpd.__main__ import run
from mcpd.config.load import loads
from mcpd.daemon import Daemon
from mcpd.errors import ConfigError
from mcpd.gateway.handover import capture


async def test_only_enabled_servers_get_a_backend_in_the_order_of_the_file(tmp_path):
    servers = {
        "b": {"command": "x"},
        "off": {"command": "x", "enabled": False},
        "a": {"url": "http://127.0.0.1:1/mcp"},
        "c": {"url": "https://127.0.0.1:1/mcp"},
        "d": {"url": "wss://127.0.0.1:1/ws"},
    }
    config = loads(msgspec.json.encode({"mcpServers": servers}).decode(), name="c.json", environ={})
    daemon = Daemon(config, tmp_path)
    assert [backend.name for backend in daemon.roster.backends] == ["b", "a", "c", "d"]
    assert daemon.gateway.backends == daemon.roster.backends


async def test_what_was_kept_of_a_server_that_is_removed_is_forgotten(tmp_path):
    def config(*names):
        servers = {name: {"command": "x"} for name in names}
        return loads(msgspec.json.encode({"mcpServers": servers}).decode(), name="c.json", environ={})

    daemon = Daemon(config("a", "b"), tmp_path)
    for tell in daemon.reloader.settings:
        tell(config("a", "c"))
    assert daemon.kept._due == {"b": None}


def test_a_state_directory_that_cannot_be_made_is_a_configuration_error(tmp_path):
    (tmp_path / "file").write_text("")
    config = loads('{"mcpServers":{}}', name="c.json", environ={})
    with pytest.raises(ConfigError, match="--state-dir"):
        Daemon(config, tmp_path / "file" / "state")


def test_check_says_what_is_wrong_and_what_is_planned(tmp_path, capsys):
    file = tmp_path / "mcpd.yaml"
    file.write_text("listen:\n  host: 0.0.0.0\n")
    assert run(["--config", str(file), "--check"]) == 78
    assert "behind_authenticating_proxy" in capsys.readouterr().err
    assert run(["--config", str(file), "--check", "--transport", "stdio"]) == 0, "it does not listen then"
    assert run(["--config", str(file), "--check", "--host", "127.0.0.1"]) == 0
    assert "127.0.0.1:8080" in capsys.readouterr().out
    file.write_text("nonsense: 1\n")
    assert run(["--config", str(file), "--check"]) == 78
    assert f"{file}:1" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/mcp", "wss://127.0.0.1:1/ws"])
def test_files_for_tls_are_looked_at_by_check_too(url, tmp_path, capsys):
    servers = {"far": {"url": url, "tls": {"ca": str(tmp_path / "none.pem")}}}
    file = tmp_path / "c.json"
    file.write_bytes(msgspec.json.encode({"mcpServers": servers}))
    assert run(["--config", str(file), "--check"]) == 78
    assert "mcpServers.far.tls" in capsys.readouterr().err


async def test_a_hangup_does_not_cut_short_the_end(tmp_path, nursery):
    daemon = Daemon(loads('{"mcpServers":{}}', name="c.json", environ={}), tmp_path)
    daemon._hangups._terminal = False
    drained = trio.Event()
    send, signals = trio.open_memory_channel(5)
    ended = trio.Event()

    async def live() -> None:
        async with trio.open_nursery() as tasks:
            nursery.start_soon(daemon._heed, signals, tasks, drained.wait)
            await trio.sleep_forever()
        ended.set()

    nursery.start_soon(live)
    for number in (signal.SIGTERM, signal.SIGHUP):
        await send.send(number)
    await trio.testing.wait_all_tasks_blocked()
    assert not ended.is_set()
    assert not daemon._hangups._due.is_set(), "and nothing is read anew"
    drained.set()
    with trio.fail_after(5):
        await ended.wait()
    await send.aclose()


async def test_what_was_left_is_left_to_the_next_by_one_that_serves_nobody(tmp_path):
    config = loads('{"listen":{"port":0},"mcpServers":{}}', name="c.json", environ={})
    first = Daemon(config, tmp_path / "state")
    first.vault.bequeath(left := capture(first.gateway))
    (tmp_path / "file").write_text("")
    second = Daemon(config, tmp_path / "state", control=(tmp_path / "file", True))
    with pytest.raises(ConfigError, match="no socket"):
        await second.run_http()
    assert (tmp_path / "state" / "handover").read_bytes() == left


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_it_starts_without_its_standard_streams(closed, tmp_path):
    file = tmp_path / "c.json"
    file.write_text('{"mcpServers":{}}')
    command = f"exec {shlex.quote(sys.executable)} -m mcpd --check --config {shlex.quote(str(file))} {closed}"
    assert subprocess.run(["sh", "-c", command], timeout=60, check=False).returncode == 0
