"""What changes mcpd over the HTTP port: with the daemon as a process, by the paths and bodies that anybody can send."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import sys
import tempfile
from pathlib import Path

import pytest
import trio

from mcpd.control.client import Client
from mcpd.control.remote import OFFERED
from tests.e2e.backends import mini
from tests.e2e.background import until
from tests.e2e.test_reload import write
from tests.fixtures.peer import ROOT, HttpPeer, start_daemon
from tests.fixtures.peer_wire import open_request, read_reply

ONE = {"mcpServers": {"x": mini()}}
JSON = {"Content-Type": "application/json"}
TWICE = "the right one, two times"


async def ask(method, url, body=None, headers=JSON):
    """Status and answer."""
    data = json.dumps(body).encode() if body is not None else b""
    with trio.fail_after(40):
        async with open_request(method, url, dict(headers), data) as exchange:
            reply = await read_reply(exchange)
            return exchange.status, json.loads(reply.body)


def with_token(state):
    return {**JSON, "Authorization": f"Bearer {Path(state, 'admin-token').read_text().strip()}"}


def kept(state):
    """What was changed for good."""
    return Path(state, "overlay.json").read_bytes()


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


CHANGES = [("POST", "/servers", {"mcpServers": {"y": mini()}}), ("DELETE", "/servers/x", None)]
FORMS = [
    ({"Content-Type": each}, 415, "by='admin token'") for each in ("application/x-www-form-urlencoded", "text/plain")
]
STRANGERS = [
    ({"Authorization": None}, 401, "by='nobody'"),
    ({"Authorization": "Bearer of-something-else"}, 401, "by='nobody'"),
    ({"Authorization": TWICE}, 401, "by='nobody'"),
    ({"Origin": "https://evil.example"}, 403, "Origin 'https://evil.example'"),
    ({"Host": "evil.example"}, 421, "Host 'evil.example'"),
]


def test_every_change_is_tried():
    assert {(method, "/v1" + path.replace("/x", "/{name}")) for method, path, _ in CHANGES} == OFFERED


@pytest.mark.parametrize(
    ("change", "changed", "status", "logged"),
    [(change, *stranger) for change in CHANGES for stranger in STRANGERS] + [(CHANGES[0], *form) for form in FORMS],
)
async def test_others_change_nothing_and_the_log_says_who_tried(change, changed, status, logged, tmp_path):
    state = str(tmp_path / "state")
    method, path, body = change
    async with start_daemon({"mcpServers": {}}, state_dir=state) as daemon:
        # What could be removed was added, so that DELETE is refused for who asks alone.
        added, _ = await ask("POST", f"{daemon.base}/servers", ONE, with_token(state))
        assert (added, await names(daemon)) == (200, ["x"])
        before, since = kept(state), len(daemon.stderr)
        headers = {name: value for name, value in {**with_token(state), **changed}.items() if value is not None}
        if headers.get("Authorization") is TWICE:
            right = with_token(state)["Authorization"]
            headers["Authorization"] = f"{right}\r\nAuthorization: {right}"
        found, answer = await ask(method, daemon.base + path, body, headers)
        assert found == status, answer
        assert await names(daemon) == ["x"]
        assert kept(state) == before
        await until(lambda: "_refused " in daemon.stderr[since:])
        [line] = [line for line in daemon.stderr[since:].splitlines() if "_refused " in line]
        assert f"method=b'{method}' path=b'{path}'" in line
        assert "peer=127.0.0.1:" in line
        assert logged in line
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


CURL = """#!/bin/sh
tr '\\0' ' ' < /proc/$$/cmdline >> "$0.seen"
exec {curl} "$@"
"""


def example(title, beginning):
    """The commands of the manual that begin so, as a shell has them."""
    page = (ROOT / "man" / "mcpd.8").read_text(encoding="utf-8")
    shown = page.split(f"\n.Sh {title}\n", 1)[1].partition(f"\n# {beginning}")[2].partition("\n.Ed")[0]
    return beginning + shown.replace(r"\(aq", "'").replace(r"\e", "\\")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_the_manuals_example_adds_a_server_and_shows_nobody_the_token(tmp_path):
    state = tmp_path / "state"
    curl = tmp_path / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text(CURL.format(curl=shutil.which("curl")))
    curl.chmod(0o755)
    async with start_daemon({"mcpServers": {}}, state_dir=str(state)) as daemon:
        script = example("MANAGEMENT", "(printf").replace("/var/lib/mcpd", str(state)).replace("uvx", sys.executable)
        script = script.replace("http://127.0.0.1:8080", daemon.base)
        assert "mcp-server-time" in script
        env = {**os.environ, "PATH": f"{curl.parent}:{os.environ['PATH']}"}
        with trio.fail_after(40):
            done = await trio.run_process(["sh", "-c", script], capture_stdout=True, capture_stderr=True, env=env)
        assert list(json.loads(done.stdout)["servers"]) == ["time"], done.stdout
        assert await names(daemon) == ["time"]
        seen = curl.with_name("curl.seen").read_text()
        assert f"{daemon.base}/servers" in seen
        assert (state / "admin-token").read_text().strip() not in seen + script


TELLTALE = """
import sys
print("I found", open(sys.argv[1]).read().strip(), "here", file=sys.stderr, flush=True)
sys.stdin.read()
"""
"""Says what is in a file, and nothing that a client could use."""


@pytest.mark.parametrize("kind", ["file", "credential"])
async def test_the_token_holds_and_stays_hidden_over_a_reload_and_an_upgrade(kind, tmp_path):
    secret = "given-by-somebody-6b20e1"
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    file = tmp_path / "mcpd-admin-token" if kind == "credential" else state / "admin-token"
    file.touch(0o600)
    file.write_text(secret)

    def telltale(name):
        return {"command": sys.executable, "args": ["-c", TELLTALE, str(file), name], "timeouts": {"init": 1}}

    headers = {**JSON, "Authorization": f"Bearer {secret}"}
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    with tempfile.TemporaryDirectory(prefix="mcpd-") as short:
        control = Path(short, "c")
        extra = ("--control-socket", str(control))
        first = {"first": telltale("first")}
        async with start_daemon({"mcpServers": first}, state_dir=str(state), env=env, extra=extra) as daemon:

            async def told(count):
                await until(lambda: daemon.stderr.count("I found *** here") >= count)
                logs = await trio.to_thread.run_sync(lambda: Client(control).get("/v1/logs", {"lines": "1000"}))
                assert "I found *** here" in json.dumps(logs)
                assert secret not in json.dumps(logs) + daemon.stderr

            await told(1)
            write(daemon, {**first, "second": telltale("second")})
            daemon.process.send_signal(signal.SIGHUP)
            await until(lambda: "event=reloaded" in daemon.stderr)
            await told(2)
            status, _ = await ask("POST", f"{daemon.base}/servers", ONE, headers)
            assert status == 200
            daemon.process.send_signal(signal.SIGUSR2)
            await until(lambda: "event=upgraded" in daemon.stderr, 100)
            since = daemon.stderr.count("I found *** here")
            await told(since)
            write(daemon, {**first, "third": telltale("third")})
            daemon.process.send_signal(signal.SIGHUP)
            await until(lambda: daemon.stderr.count("event=reloaded") == 3)
            await told(since + 1)
            status, _ = await ask("DELETE", f"{daemon.base}/servers/x", None, headers)
            assert (status, await names(daemon)) == (200, ["first", "third"])
            status, _ = await ask("POST", f"{daemon.base}/servers", ONE, {**headers, "Authorization": "Bearer other"})
            assert status == 401
