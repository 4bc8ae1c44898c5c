"""mcpctl and the files of MCP clients, with the daemon as a process: what was a client's becomes mcpd's, and the client
reaches it there."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from mcpd.cli import statuses
from mcpd.cli.clients import jsonc
from tests.e2e.background import ENVIRONMENT
from tests.e2e.test_control import controlled
from tests.fixtures.peer import HttpPeer, fixture_command

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 60.0
SECRET = "planted-s3cr3t"
"""Where people put theirs."""


def cursor_file(home: Path) -> Path:
    command, *args = fixture_command("everything")
    entry = {"command": command, "args": args, "env": {"TOKEN": SECRET, "FROM": "${env:SOMEWHERE}"}}
    gone = {"url": "http://127.0.0.1:1/mcp", "headers": {"Authorization": f"Bearer {SECRET}"}}
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir(parents=True)
    text = json.dumps({"mcpServers": {"mine": entry, "gone": gone}}, indent=2)
    file.write_text(text.replace("{\n", "{ // mine\n", 1))
    return file


@pytest.fixture
def mcpctl(tmp_path):
    async def run(path, *arguments: str):
        argv = [sys.executable, "-m", "mcpd.cli.main", "--socket", str(path), *arguments]
        environment = {**ENVIRONMENT, "HOME": str(tmp_path), "SOMEWHERE": "here"}
        with trio.fail_after(LIMIT):
            return await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False, env=environment)

    return run


@pytest.mark.slow
async def test_what_a_client_had_is_served_by_mcpd_and_reached_by_the_client(tmp_path, mcpctl):
    file = cursor_file(tmp_path)
    async with controlled({"mcpServers": {}}) as (daemon, path):
        dry = await mcpctl(path, "import", "cursor", "--fill", "--dry-run")
        assert b"would import mine" in dry.stdout
        assert SECRET.encode() not in dry.stdout + dry.stderr
        done = await mcpctl(path, "import", "cursor", "--fill", "--json")
        told = json.loads(done.stdout)
        assert {each["name"]: each["state"] for each in told["imported"]} == {"mine": "ready", "gone": "backing-off"}
        assert SECRET.encode() not in done.stdout + done.stderr

        written = await mcpctl(path, "connect", "cursor", "--write")
        assert written.returncode == statuses.OK, written.stderr
        entry = jsonc.read(file.read_text())["mcpServers"]["mcpd"]
        assert file.read_text().startswith("{ // mine\n")
        assert entry["url"].startswith(daemon.url.rsplit("/", 1)[0])
        async with HttpPeer(entry["url"]) as peer:
            await peer.initialize()
            names = [tool["name"] for tool in await peer.list_all("tools/list", "tools")]
        assert "mine_echo" in names

        again = json.loads((await mcpctl(path, "import", "--json")).stdout)
        assert again["imported"] == []
        assert {each["name"]: each["reason"] for each in again["skipped"]} == {
            "mine": "mcpd has a server of that name",
            "gone": "mcpd has a server of that name",
            "mcpd": "it is mcpd itself",
        }

        examined = await mcpctl(path, "doctor", "--json")
        assert examined.returncode == statuses.FAILED
        findings = json.loads(examined.stdout)["findings"]
        assert [each["subject"] for each in findings if each["level"] == "error"] == ["gone"]
        assert {each["code"]: each["level"] for each in findings}["port"] == "ok"
        assert SECRET.encode() not in examined.stdout


async def test_a_doctor_comes_where_mcpd_does_not_run(tmp_path, mcpctl):
    examined = await mcpctl(tmp_path / "none.sock", "doctor", "--json")
    assert examined.returncode == statuses.FAILED
    [found] = json.loads(examined.stdout)["findings"]
    assert (found["code"], found["level"]) == ("daemon", "error")
    assert found["remedy"]
