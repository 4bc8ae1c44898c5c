"""MCP over the control socket, with the daemon as a process: `mcpctl call` and the like are MCP clients there."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest
import trio

from mcpd.control.client import Client
from tests.e2e.backends import mini
from tests.e2e.background import until
from tests.e2e.test_control import controlled
from tests.fixtures.everything_modern_headers import headers_for
from tests.fixtures.peer_http import META, MODERN

ROOT = Path(__file__).parents[2]
LIMIT = 30.0
SOMEBODY = 12345
"""A user's number that is neither root's nor mcpd's."""

ENVELOPE = {
    META + "protocolVersion": MODERN,
    META + "clientInfo": {"name": "t", "version": "1"},
    META + "clientCapabilities": {},
}


def post(path, body, headers):
    """Status, headers and text of the answer."""
    base = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    with closing(http.client.HTTPConnection("mcpd", timeout=LIMIT)) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(LIMIT)
        connection.sock.connect(str(path))
        connection.request("POST", "/mcp", json.dumps(body), {**base, **headers})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


AS_SOMEBODY = f"""
import encodings.idna, json, os, socket, sys
from tests.e2e.test_control_mcp import post
path, body, headers = json.loads(sys.argv[1])
os.setgroups([])
os.setgid({SOMEBODY})
os.setuid({SOMEBODY})
status, _, text = post(path, body, headers)
print(json.dumps([status, text]))
"""
"""The same, as another user, who could not read its modules; so all are there before."""


async def modern(path, method, params, **headers):
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": ENVELOPE}}
    return await trio.to_thread.run_sync(post, path, message, {**headers_for(message, MODERN), **headers})


def in_flight(path) -> bool:
    return bool(Client(path).get("/v1/status")["calls_in_flight"])


async def test_a_client_needs_no_session():
    async with controlled({"mcpServers": {"a": mini()}}) as (_daemon, path):
        status, _, text = await modern(path, "tools/list", {})
        assert status == 200
        assert "a_echo" in [tool["name"] for tool in json.loads(text)["result"]["tools"]]
        status, _, text = await modern(path, "tools/call", {"name": "a_echo", "arguments": {"text": "here"}})
        assert (status, json.loads(text)["result"]["content"][0]["text"]) == (200, "here")


async def test_a_client_may_have_a_session_which_is_its_users_alone():
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path):
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        first = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        status, headers, _ = await trio.to_thread.run_sync(post, path, first, {})
        assert status == 200
        mine = {"Mcp-Session-Id": headers["Mcp-Session-Id"]}
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "a_echo", "arguments": {}}}
        call["params"]["arguments"] = {"text": "here"}
        status, _, text = await trio.to_thread.run_sync(post, path, call, mine)
        assert (status, "here" in text) == (200, True)
        # Over TCP everybody is another principal, whatever id they know.
        host = daemon.url.split("/")[2]

        def over_tcp():
            accept = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
            with closing(http.client.HTTPConnection(host, timeout=LIMIT)) as connection:
                connection.request("POST", "/mcp", json.dumps(call), {**accept, **mine})
                return connection.getresponse().status

        assert await trio.to_thread.run_sync(over_tcp) == 404


@pytest.mark.parametrize(("name", "value"), [("Origin", "http://localhost"), ("Referer", "http://localhost/")])
async def test_no_web_page_calls_anything(name, value):
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path):
        status, _, text = await modern(path, "tools/list", {}, **{name: value})
        assert (status, json.loads(text)["code"]) == (403, "web_page")
        assert "event=operation_refused method=b'POST' path=b'/mcp'" in daemon.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_who_may_not_change_things_may_not_have_anything_run():
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path):
        path.parent.chmod(0o755)
        path.chmod(0o666)
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": ENVELOPE}}
        argument = json.dumps([str(path), message, headers_for(message, MODERN)])
        with trio.fail_after(LIMIT):
            done = await trio.run_process([sys.executable, "-c", AS_SOMEBODY, argument], capture_stdout=True, cwd=ROOT)
        status, text = json.loads(done.stdout)
        assert (status, json.loads(text)["code"]) == (403, "not_permitted")
        assert f"uid={SOMEBODY}" in daemon.stderr


async def test_an_upgrade_waits_for_a_call_and_what_comes_meanwhile_is_told_to_come_back(tmp_path):
    async with controlled({"mcpServers": {"a": mini()}}) as (daemon, path):
        go, answers = tmp_path / "go", []

        async def call() -> None:
            answers.append(await modern(path, "tools/call", {"name": "a_until", "arguments": {"file": str(go)}}))

        async def turned_away() -> bool:
            status, headers, text = await modern(path, "tools/list", {})
            if status == 200:
                return False
            assert (status, headers["Retry-After"], json.loads(text)["code"]) == (503, "1", "busy")
            return True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await until(lambda: in_flight(path))
            daemon.process.send_signal(signal.SIGUSR2)
            with trio.fail_after(LIMIT):
                while not await turned_away():
                    await trio.lowlevel.checkpoint()
            assert answers == []
            go.touch()
        [(status, _, text)] = answers
        assert (status, '"text"' in text) == (200, True)
        await until(lambda: "event=upgraded" in daemon.stderr)
        status, _, text = await modern(path, "tools/call", {"name": "a_echo", "arguments": {"text": "here"}})
        assert (status, json.loads(text)["result"]["content"][0]["text"]) == (200, "here")
