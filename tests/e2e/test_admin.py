"""What changes mcpd over the HTTP port: with the daemon as a process, by the paths and bodies that anybody can send."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import trio

from tests.e2e.backends import mini
from tests.fixtures.peer import HttpPeer, start_daemon
from tests.fixtures.peer_wire import open_request, read_reply

ONE = {"mcpServers": {"x": mini()}}
JSON = {"Content-Type": "application/json"}


async def ask(method, url, body=None, headers=JSON):
    """Status and answer."""
    data = json.dumps(body).encode() if body is not None else b""
    with trio.fail_after(40):
        async with open_request(method, url, dict(headers), data) as exchange:
            reply = await read_reply(exchange)
            return exchange.status, json.loads(reply.body)


def with_token(state):
    return {**JSON, "Authorization": f"Bearer {Path(state, 'admin-token').read_text().strip()}"}


async def names(daemon):
    _, answer = await ask("GET", f"{daemon.base}/servers")
    return [each["name"] for each in answer["servers"]]


async def test_servers_come_and_go_and_those_that_came_stay_over_a_restart(tmp_path):
    state = str(tmp_path / "state")
    async with start_daemon({"mcpServers": {"a": mini()}}, state_dir=state) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        assert stat.S_IMODE(os.stat(f"{state}/admin-token").st_mode) == 0o600
        status, answer = await ask("POST", f"{daemon.base}/servers", ONE, with_token(state))
        assert (status, answer["servers"]) == (200, {"x": {"state": "ready"}})
        assert await peer.call_text("x_echo", {"text": "here"}) == "here"
        status, answer = await ask("POST", f"{daemon.base}/servers", ONE, with_token(state))
        assert (status, bool(answer["remedy"])) == (409, True)
        status, answer = await ask("DELETE", f"{daemon.base}/servers/a", None, with_token(state))
        assert (status, answer["code"]) == (409, "in_file")
    async with start_daemon({"mcpServers": {"a": mini()}}, state_dir=state) as daemon:
        assert await names(daemon) == ["a", "x"]
        status, _ = await ask("DELETE", f"{daemon.base}/servers/x", None, with_token(state))
        assert (status, await names(daemon)) == (200, ["a"])
        status, answer = await ask("DELETE", f"{daemon.base}/servers/x", None, with_token(state))
        assert (status, answer["code"]) == (404, "no_such_server")


@pytest.mark.parametrize(
    ("changed", "status", "logged"),
    [
        ({"Authorization": None}, 401, "by='nobody'"),
        ({"Authorization": "Bearer of-something-else"}, 401, "by='nobody'"),
        ({"Origin": "https://evil.example"}, 403, "Origin 'https://evil.example'"),
        ({"Host": "evil.example"}, 421, "Host 'evil.example'"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "by='admin token'"),
        ({"Content-Type": "text/plain"}, 415, "by='admin token'"),
    ],
)
async def test_others_change_nothing_and_the_log_says_who_tried(changed, status, logged, tmp_path):
    state = str(tmp_path / "state")
    async with start_daemon({"mcpServers": {}}, state_dir=state) as daemon:
        headers = {name: value for name, value in {**with_token(state), **changed}.items() if value is not None}
        found, answer = await ask("POST", f"{daemon.base}/servers", ONE, headers)
        assert found == status, answer
        assert await names(daemon) == []
        assert "overlay.json" not in os.listdir(state)
        lines = [line for line in daemon.stderr.splitlines() if "refused" in line]
        assert any("peer=127.0.0.1:" in line and logged in line for line in lines), daemon.stderr
        assert with_token(state)["Authorization"].partition(" ")[2] not in daemon.stderr


async def test_a_credential_counts_before_the_file(tmp_path):
    (tmp_path / "mcpd-admin-token").write_text("what-the-service-manager-gave")
    state = str(tmp_path / "state")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    async with start_daemon({"mcpServers": {}}, state_dir=state, env=env) as daemon:
        assert "admin-token" not in os.listdir(state)
        headers = {**JSON, "Authorization": "Bearer what-the-service-manager-gave"}
        status, _ = await ask("POST", f"{daemon.base}/servers", ONE, headers)
        assert (status, await names(daemon)) == (200, ["x"])
