"""What a confined server of mcpd's own user may try in order to have a command run outside of what confines it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests.e2e.backends import MINI, mini
from tests.e2e.test_admin import ask, names, with_token
from tests.e2e.test_control import controlled, mcpctl
from tests.fixtures.peer import HttpPeer
from tests.supervisor.trampolines import needs_landlock

PYTHON = "/usr/bin/python3"

READ = """
import os, sys
for path in sys.argv[1:]:
    try:
        if os.path.isdir(path):
            print(path, *sorted(os.listdir(path)))
        else:
            open(path).read()
            print(path, "was read")
    except OSError as error:
        print(path, error.strerror)
"""

SWAP = """
import os, sys
os.rmdir(sys.argv[1])
os.symlink(sys.argv[2], sys.argv[1])
"""

KILL = """
import os, sys
for number in map(int, sys.argv[2:]):
    try:
        os.kill(int(sys.argv[1]), number)
        print("sent")
    except OSError as error:
        print(error.strerror)
"""

ASK = """
import http.client, json, os, socket, sys
way, path, method, where, body = sys.argv[1:]
sock = socket.socket(socket.AF_UNIX)
reader, writer = os.pipe()
if way != "straight":
    # The child connects. Either its parent ends and it goes on as an orphan, or it ends and its parent goes on.
    child = os.fork()
    if way == "orphan" and child:
        os.read(reader, 1)
        os._exit(0)
    if way == "orphan":
        os.setsid()
        parent = os.getppid()
        if os.fork():
            os._exit(0)
        while os.getppid() == parent:
            pass
if way == "straight" or way == "orphan" or child == 0:
    sock.connect(path)
if way == "heir":
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
connection = http.client.HTTPConnection("localhost")
connection.sock = sock
headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
connection.request(method, where, body, headers)
answer = connection.getresponse()
print(answer.status, answer.read().decode(), flush=True)
os.write(writer, b".")
"""

ADD = json.dumps({"mcpServers": {"free": {"command": "true"}}})
PING = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})


def intruder(**sandbox):
    return {"mcpServers": {"in": mini("intruder", sandbox={"read_only_paths": ["/"], **sandbox})}}


async def run(peer, program, *arguments):
    return await peer.call_text("in_run", {"program": program, "with": [str(each) for each in arguments]})


@pytest.mark.parametrize("way", ["straight", "orphan", "heir"])
async def test_the_control_socket_changes_nothing_for_a_server(way):
    needs_landlock()
    async with controlled(intruder()) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        status, _, body = (await run(peer, ASK, way, path, "POST", "/v1/servers", ADD)).partition(" ")
        answer = json.loads(body)
        assert (status, answer["code"]) == ("403", "not_permitted")
        assert "which mcpd itself started" in answer["message"]
        assert "admin token" in answer["remedy"]
        assert (await run(peer, ASK, way, path, "POST", "/mcp", PING)).startswith("403 ")
        assert (await run(peer, ASK, way, path, "POST", "/v1/reload", "")).startswith("403 ")
        assert (await run(peer, ASK, way, path, "GET", "/v1/servers", "")).startswith("200 "), "it may look"
        assert await names(daemon) == ["in"]
        assert daemon.stderr.count("reason=not_permitted: process") == 3, daemon.stderr
        done = await mcpctl(path, "add-server", "mine", "--", *[mini()["command"], *mini()["args"]])
        assert (done.returncode, await names(daemon)) == (0, ["in", "mine"]), "whoever started mcpd may"


async def test_what_mcpd_keeps_for_itself_is_not_read_by_a_server_with_a_view(tmp_path, monkeypatch):
    needs_landlock()
    state, home, credentials = (tmp_path.resolve() / name for name in ("state", "state/home", "credentials"))
    for directory in (home, credentials):
        directory.mkdir(parents=True)
    (home / "of-server").write_text("x")
    (credentials / "other").write_text("x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("HOME", str(home))
    async with controlled(intruder(), state_dir=str(state)) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        added = await mcpctl(path, "add-server", "mine", "--", *[mini()["command"], *mini()["args"]])
        assert added.returncode == 0
        files = [each for each in state.rglob("*") if each.is_file() and home not in each.parents]
        assert {"admin-token", "overlay.json"} <= {each.name for each in files}
        said = (await run(peer, READ, *files, credentials / "other", home / "of-server", state, "/")).splitlines()
        assert said[: len(files)] == [f"{each} Permission denied" for each in files]
        assert said[len(files) :] == [
            f"{credentials / 'other'} Permission denied",
            f"{home / 'of-server'} was read",
            " ".join([str(state), *sorted(os.listdir(state))]),
            " ".join(["/", *sorted(os.listdir("/"))]),
        ]
        status, _ = await ask("DELETE", f"{daemon.base}/servers/mine", None, with_token(state))
        assert status == 200, "an operator can read it"


async def test_a_home_that_became_a_link_shows_nothing(tmp_path):
    needs_landlock()
    state, own = tmp_path.resolve() / "state", tmp_path.resolve() / "own"
    home = own / "home"
    home.mkdir(parents=True)
    config = intruder(read_write_paths=[str(own)])
    config["mcpServers"]["in"]["env"] = {"HOME": str(home)}
    async with controlled(config, state_dir=str(state)) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await run(peer, SWAP, home, state / "admin-token")
        assert home.is_symlink()
        assert (await mcpctl(path, "restart", "in")).returncode == 0
        token = state / "admin-token"
        assert await run(peer, READ, token) == f"{token} Permission denied\n"


async def test_a_path_that_became_a_link_is_told(tmp_path):
    needs_landlock()
    secret, own = tmp_path.resolve() / "secret", tmp_path.resolve() / "own"
    (own / "cache").mkdir(parents=True)
    secret.write_text("s")
    config = intruder(read_write_paths=[str(own), str(own / "cache")], inaccessible_paths=[str(secret)])
    async with controlled(config) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        await run(peer, SWAP, own / "cache", secret)
        assert (await mcpctl(path, "restart", "in")).returncode == 1
        about = json.loads((await mcpctl(path, "show", "in", "--json")).stdout)
        assert f"'{own}/cache' of its paths leads to '{secret}', by a link" in about["error"]
        assert about["state"] == "needs-operator"


async def test_a_server_of_another_mcpd_of_the_same_state_is_none_of_its_operators(tmp_path):
    needs_landlock()
    state = str(tmp_path / "state")
    async with controlled(intruder(), state_dir=state) as (one, _), HttpPeer(one.url) as peer:
        await peer.initialize()
        async with controlled({"mcpServers": {}}, state_dir=state) as (other, path):
            assert (await run(peer, ASK, "straight", path, "POST", "/v1/servers", ADD)).startswith("403 ")
            assert await names(other) == []


async def test_a_user_of_its_own_keeps_a_server_from_both():
    if os.geteuid() != 0 or not os.access(PYTHON, os.X_OK):
        pytest.skip("only root starts a server as somebody else, who needs a Python of the system")
    with tempfile.TemporaryDirectory(prefix="mcpd-") as directory:
        os.chmod(directory, 0o755)
        script = shutil.copy(MINI, directory)
        os.chmod(script, 0o644)
        state = Path(directory, "state")
        server = mini("intruder", command=PYTHON, user="nobody")
        server["args"][1] = script
        async with controlled({"mcpServers": {"in": server}}, state_dir=str(state)) as (daemon, path):
            os.chmod(path.parent, 0o755)
            os.chmod(path, 0o666)
            async with HttpPeer(daemon.url) as peer:
                await peer.initialize()
                token = state / "admin-token"
                assert await run(peer, READ, token) == f"{token} Permission denied\n"
                assert (await run(peer, ASK, "straight", path, "POST", "/v1/servers", ADD)).startswith("403 ")
                assert await names(daemon) == ["in"]


async def test_a_view_that_shows_the_token_is_told(tmp_path):
    needs_landlock()
    state = tmp_path.resolve() / "state"
    config = intruder(read_write_paths=[str(tmp_path)])
    async with controlled(config, state_dir=str(state)) as (daemon, _), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        line = f"backend=in event=not_enforced its sandbox can read or replace {state}, where mcpd keeps"
        assert daemon.stderr.count(line) == 1, daemon.stderr
        assert await run(peer, READ, state / "admin-token") == f"{state / 'admin-token'} was read\n"


async def test_a_server_with_a_view_does_not_signal_mcpd():
    needs_landlock()
    async with controlled(intruder()) as (daemon, _), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        said = await run(peer, KILL, daemon.process.pid, 0, signal.SIGHUP)
        if "sent" in said:
            pytest.skip("the kernel is older than 6.12, where Landlock learnt about signals")
        assert said == "Operation not permitted\n" * 2
