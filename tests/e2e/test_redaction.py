"""Secrets are planted wherever a configuration, a server or a client can have one; then everything that comes out of a
running mcpd is searched for them: its log in every form, all that its control socket answers, mcpctl, the pages of the
HTTP port, what the service manager is told, and the errors that clients get.

What is asked for is read from the tables, so that an operation or a verb that is added is asked too.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio

from mcpd.cli.main import parser
from mcpd.cli.verbs import VERBS
from mcpd.control.operations import TABLE
from tests.e2e.backends import mini
from tests.e2e.background import ENVIRONMENT, everything, mcpd, until
from tests.fixtures.peer import ROOT, HttpPeer, ModernHttpPeer, PeerError, start_daemon
from tests.fixtures.peer_wire import open_request, read_reply

LIMIT = 20.0
"""Seconds for one command or one request, which may be one that never ends."""

SILENT = 1.0
"""Seconds of a stream that are listened to."""

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.cGxhbnRlZC1zaWduYXR1cmU"

PLANTS = {
    "argument of a server, after an option": "plant-argv-7f3a91",
    "argument of a server, with its option": "plant-option-5c22e0",
    "env, as it stands": "plant-env-19bd44",
    "env, with characters that are escaped": 'plant-"odd\\-e77a12',
    "${VARIABLE}": "plant-variable-ab03c8",
    "inherit_env": "plant-inherited-d81f6e",
    "${file:}": "plant-file-3e9a77",
    "${credential:}": "plant-credential-f00d42",
    "header": "plant-header-6b1c9d",
    "query of a url": "plant-query-e4a210",
    "Authorization of a client": "plant-client-90c1fe",
    "cookie of a client": "plant-cookie-2ad7b3",
    "argument of a call": "plant-called-47d0aa",
    "query of a resource": "plant-uri-c05b1f",
    "OAuth token that a server was given by others": "plant-oauth-Zk81-77xQ",
    "JWT that a server prints": JWT,
    "admin token": "plant-admin-81e6f0b25c",
}

LEAKY = """
import json, os, sys
def tell():
    print("LEAKY", sys.argv, dict(os.environ), file=sys.stderr)
    print("POST /token 200", json.dumps({"access_token": os.environ["OAUTH"], "token_type": "Bearer"}), file=sys.stderr)
    print("Authorization: Bearer", os.environ["OAUTH"], file=sys.stderr)
    print("using", os.environ["JWT"], file=sys.stderr)
    print(open(sys.argv[-1]).read().strip(), "is what I found", file=sys.stderr, flush=True)
tell()
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    if message["method"] == "initialize":
        about = {"name": "x", "version": "1"}
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": about}
    elif message["method"] == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("die", "hold")]}
    elif message["method"] == "tools/call":
        tell()
        sys.exit(3)
    else:
        error = {"code": -32601, "message": "no"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
"""Tells its argv, environment, tokens and what is in a file on stderr, at its start and before it dies of a call."""

AS_SERVICE = """
import os, socket, sys, threading
import mcpd.journal
path, *_python = sys.argv[1:5]
del sys.argv[1:5]
journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journald.bind(path)
def read():
    while True:
        os.write(2, journald.recv(1 << 20) + b"\\n")
threading.Thread(target=read, daemon=True).start()
mcpd.journal.Journal.__init__.__defaults__ = (path,)
found = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
from mcpd.__main__ import main
sys.argv[0] = "mcpd"
main()
"""
"""mcpd whose stderr is the journal, with a journald that writes what it gets to where stderr led before."""


def plant(name):
    return PLANTS[name]


class Catch:
    """Everything that came out, by where."""

    def __init__(self):
        self.found: dict[str, str] = {}

    def add(self, where, *what):
        texts = [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in what]
        self.found[where] = self.found.get(where, "") + "\n".join(texts)

    def leaks(self):
        """(what, where) of every plant that is there, as it is or as JSON or Python write it."""
        return [
            (name, where)
            for where, text in self.found.items()
            for name, secret in PLANTS.items()
            if any(form in text for form in {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]})
        ]


def configuration(directory, dead_port, **sections):
    secret = directory / "secret"
    secret.write_text(plant("${file:}") + "\n")
    state = directory / "state"
    state.mkdir(mode=0o700)
    (state / "admin-token").touch(0o600)
    (state / "admin-token").write_text(plant("admin token") + "\n")
    script = directory / "leaky.py"
    script.write_text(LEAKY)
    leaky = {
        "command": sys.executable,
        "args": [
            str(script),
            "--api-key",
            plant("argument of a server, after an option"),
            f"--token={plant('argument of a server, with its option')}",
            "${PLANTED}",
            str(directory / "state" / "admin-token"),
        ],
        "env": {
            "SERVICE_KEY": plant("env, as it stands"),
            "ODD": plant("env, with characters that are escaped"),
            "FROM_FILE": f"${{file:{secret}}}",
            "FROM_CREDENTIAL": "${credential:planted}",
        },
        "inherit_env": ["INHERITED", "OAUTH", "JWT"],
        "restart": {"initial": 0.05, "cap": 0.2},
    }
    headers = {"Authorization": f"Bearer {plant('header')}"}
    url = f"http://127.0.0.1:{dead_port}/mcp?api_key={plant('query of a url')}"
    servers = {
        "leaky": leaky,
        "remote": {"url": url, "headers": headers, "transport": "streamable-http"},
        "all": everything(),
        "mini": mini(),
    }
    return {"mcpServers": servers, **sections}


def environment(directory, service):
    credentials = directory / "credentials"
    credentials.mkdir()
    (credentials / "planted").write_text(plant("${credential:}"))
    return {
        "PLANTED": plant("${VARIABLE}"),
        "INHERITED": plant("inherit_env"),
        # Neither is a secret that the configuration could know: they stand for what comes from elsewhere.
        "OAUTH": plant("OAuth token that a server was given by others"),
        "JWT": JWT,
        "CREDENTIALS_DIRECTORY": str(credentials),
        "NOTIFY_SOCKET": service,
    }


@asynccontextmanager
async def planted(tmp_path, form):
    """A daemon, its control socket, and what the service manager is told."""
    sections = {"log": {"format": "json"}} if form == "json" else {}
    through = (sys.executable, "-c", AS_SERVICE, str(tmp_path / "j")) if form == "journal" else ()
    with (
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager,
        closing(socket.socket()) as nobody,
        tempfile.TemporaryDirectory(prefix="mcpd-") as short,
    ):
        manager.bind(str(Path(short, "n")))
        manager.setblocking(False)
        nobody.bind(("127.0.0.1", 0))
        config = configuration(tmp_path, nobody.getsockname()[1], **sections)
        path = Path(short, "c")
        extra = ("--log-level", "debug", "--control-socket", str(path))
        env = environment(tmp_path, str(Path(short, "n")))
        async with start_daemon(
            config, extra=extra, through=through, env=env, state_dir=str(tmp_path / "state")
        ) as daemon:
            yield daemon, path, manager


async def ask_everything(path, catch):
    """Every operation of the tables; those that change something, too."""
    later = ("upgrade", "DELETE")
    rows = sorted(TABLE, key=lambda row: any(each in row.method + row.path for each in later))
    for row in rows:
        if row.path.endswith("/upgrade"):
            continue
        for name in ("leaky", "remote") if "{" in row.path else ("leaky",):
            target = re.sub(r"\{\w+\}", name, row.path)
            await ask(path, row, target, catch)
            if any(each.name == "follow" for each in row.query):
                await ask(path, row, target + "?follow=1&lines=1000", catch)
            if any(each.name == "after" for each in row.query):
                await ask(path, row, target + "?after=0", catch)


async def ask(path, row, target, catch):
    body = b""
    head = f"{row.method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if row.body is not None:
        body = json.dumps({"added": {"command": "true", "env": {"KEY": plant("env, as it stands")}}}).encode()
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    elif row.method == "POST":
        head += "Content-Length: 0\r\n"
    data = b""
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(head.encode() + b"\r\n" + body)
        with trio.move_on_after(SILENT if row.stream or "follow" in target else LIMIT):
            async for piece in stream:
                data += piece
    assert data.startswith(b"HTTP/1.1 "), target
    catch.add(f"{row.method} {target}", data)


async def run_every_verb(path, catch, home):
    """Each with a server's name where it takes something, as people and as scripts have it."""
    subparsers = next(action.choices for action in parser()._actions if action.dest == "verb")
    for verb in VERBS:
        if verb == "upgrade":
            continue
        words = [
            "leaky"
            for action in subparsers[verb]._actions
            if not action.option_strings and action.nargs not in ("?", "*")
        ]
        if verb == "events":
            words = ["--after", "0", "--count", "20"]
        for form in ((), ("--json",)):
            argv = [sys.executable, "-m", "mcpd.cli.main", "--socket", str(path), *form, verb, *words]
            with trio.move_on_after(LIMIT):
                done = await trio.run_process(
                    argv,
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    stdin=subprocess.DEVNULL,
                    env={**ENVIRONMENT, "HOME": str(home)},
                )
                assert b"Traceback" not in done.stderr, done.stderr.decode()
                catch.add(f"mcpctl {' '.join([*form, verb, *words])}", done.stdout, done.stderr)


async def call_what_fails(daemon, catch):
    """The errors that clients of either era get, and what their calls leave in the log."""
    headers = {
        "Authorization": f"Bearer {plant('Authorization of a client')}",
        "Cookie": f"sid={plant('cookie of a client')}",
    }
    async with HttpPeer(daemon.url, headers=headers) as peer, ModernHttpPeer(daemon.url, headers=headers) as modern:
        await peer.initialize()
        for tool in ("leaky_die", "leaky_die", "remote_x", "nobody"):
            with pytest.raises(PeerError) as caught:
                await peer.call(tool, {"password": plant("argument of a call")})
            catch.add(f"error of {tool}", caught.value)
        for uri in ("test://static-text", f"https://x.example/?token={plant('query of a resource')}"):
            try:
                await peer.request("resources/read", {"uri": uri})
            except PeerError as error:
                # That a client gets its own URI back is no leak.
                catch.add("error of a resource", str(error).replace(uri, ""))
        outcome = await modern.exchange("tools/call", {"name": "leaky_die", "arguments": {}})
        catch.add("error of a modern client", vars(outcome) if hasattr(outcome, "__dict__") else outcome)
        for page in ("/health", "/healthz", "/readyz", "/servers", "/tools", "/metrics"):
            catch.add(page, (await peer.raw("GET", url=daemon.base + page)).body)
        return peer.session_headers()


async def administer(daemon, catch):
    """What is changed over the HTTP port, by who has the admin token and by who sends it where it is of no use."""
    secret = plant("admin token")
    right = {"Content-Type": "application/json", "Authorization": f"Bearer {secret}"}
    added = json.dumps({"mcpServers": {"added": {"command": "true", "args": [secret], "restart": {"policy": "never"}}}})
    faulty = json.dumps({"mcpServers": {"faulty": {"command": ["true", secret]}}})
    for method, path, body, changed, status in (
        ("POST", "/servers", added, {}, 200),
        ("POST", "/servers", added, {}, 409),
        ("POST", "/servers", faulty, {}, 422),
        ("POST", "/servers", added, {"Authorization": f"Basic {secret}"}, 401),
        ("POST", "/servers", added, {"Authorization": f"Bearer {secret}x"}, 401),
        ("POST", "/servers", added, {"Origin": f"https://{secret}.example"}, 403),
        ("DELETE", "/servers/added", "", {"Host": f"{secret}.example"}, 421),
        ("DELETE", "/servers/added", "", {}, 200),
        ("DELETE", f"/servers/{secret}", "", {}, 404),
        ("DELETE", f"/servers/{secret}", "", {"Authorization": "Bearer x"}, 401),
        ("POST", "/mcp", "{}", {}, 400),
    ):
        async with open_request(method, daemon.base + path, {**right, **changed}, body.encode()) as exchange:
            reply = await read_reply(exchange)
        assert exchange.status == status, reply
        if secret not in path and not {"Origin", "Host"} & changed.keys():
            # That a client gets its own words back is no leak.
            catch.add(f"{method} {path} {status}", reply.body)


@pytest.mark.parametrize("form", ["text", "json", "journal"])
async def test_no_secret_comes_out_anywhere(form, tmp_path):
    catch = Catch()
    async with planted(tmp_path, form) as (daemon, path, manager):
        await until(lambda: "LEAKY" in daemon.stderr)
        session = await call_what_fails(daemon, catch)
        await until(lambda: daemon.stderr.count("LEAKY") >= 2)
        await administer(daemon, catch)
        await run_every_verb(path, catch, tmp_path)
        await ask_everything(path, catch)
        await until(lambda: "event=call" in daemon.stderr or '"event":"call"' in daemon.stderr)
        told = []
        while True:
            try:
                told.append(manager.recv(65536))
            except BlockingIOError:
                break
        catch.add("the service manager", *told)
    catch.add("the log", daemon.stderr, bytes(daemon.output))
    assert catch.leaks() == []
    # What was searched is what there is to be searched.
    assert "***" in catch.found["the log"]
    assert "by='admin token'" in catch.found["the log"] or '"admin token"' in catch.found["the log"]
    assert "*** is what I found" in catch.found["the log"]
    assert "*** is what I found" in catch.found["mcpctl logs"]
    assert "LEAKY" in catch.found["mcpctl logs"]
    assert "LEAKY" in catch.found["GET /v1/logs?follow=1&lines=1000"]
    assert '"call"' in catch.found["GET /v1/events?after=0"]
    assert catch.found["the service manager"].count("STATUS=")
    for error in ("error of leaky_die", "error of a modern client"):
        assert "Authorization: Bearer ***" in catch.found[error]
    for id in session.values():
        if len(id) > 30:
            assert id not in "".join(catch.found.values()), "who has a session's id has the session"


def test_a_url_with_a_password_is_refused_without_being_repeated(tmp_path):
    secret = "plant-userinfo-1b7d20"
    file = tmp_path / "mcpd.json"
    file.write_text(json.dumps({"mcpServers": {"x": {"url": f"https://bob:{secret}@x.example/mcp"}}}))
    done = subprocess.run(
        mcpd("--config", str(file), "--check"), capture_output=True, text=True, check=False, cwd=ROOT, env=ENVIRONMENT
    )
    assert done.returncode == 78
    assert "user or password" in done.stderr
    assert secret not in done.stderr + done.stdout
