from __future__ import annotations

import io
import json
from argparse import Namespace
from pathlib import Path

import pytest

from mcpd.cli import imports
from mcpd.cli.clients.places import Surroundings
from mcpd.cli.imports import ask, hidden, show
from mcpd.control.client import Refused, Unreachable
from tests.cli.clients.homes import SECRET, furnish


class Daemon:
    """Answers as mcpd would, and keeps what it was sent."""

    def __init__(self, servers=(), refusals=()):
        self.servers = servers
        self.refusals = list(refusals)
        self.sent = []

    def get(self, path):
        return {
            "/v1/status": {"listen": ["http://127.0.0.1:8080"]},
            "/v1/servers": {"servers": [{"name": name} for name in self.servers]},
        }[path]

    def post(self, path, query=None, body=None):
        assert path == "/v1/servers"
        self.sent.append(body["mcpServers"])
        if self.refusals:
            raise self.refusals.pop(0)
        return {"servers": {name: {"state": "ready"} for name in body["mcpServers"]}}


class Away(Daemon):
    def get(self, path):
        raise Unreachable(Path("/s"), "not running")


@pytest.fixture
def home(tmp_path, monkeypatch):
    home, project = tmp_path / "home", tmp_path / "project"
    furnish(home, project)
    monkeypatch.setattr(imports, "surroundings", lambda: Surroundings({}, home, project))
    return home


def options(source=None, **members) -> Namespace:
    return Namespace(**{"source": source, "only": [], "dry_run": False, "fill": False, "ask": False, **members})


def test_every_client_at_once(home, capsys):
    daemon = Daemon()
    answer = ask(daemon, options())
    [sent] = daemon.sent
    assert list(sent) == [each["name"] for each in answer["imported"]]
    assert {"filesystem", "GitHub-Tools", "sentry", "docs", "playwright", "old", "linear", "figma"} <= set(sent)
    skipped = {each["name"]: each["reason"] for each in answer["skipped"]}
    assert "made by a program" in skipped["vault"]
    assert "asks for 'GitHub token'" in skipped["github"]
    assert "another one of that name" in skipped["db"]
    show(answer, options())
    out = capsys.readouterr().out
    assert SECRET not in out
    assert f"imported linear from {home}/.cursor/mcp.json: ready" in out
    assert "needs in mcpd's environment: LINEAR_KEY (or use --fill)" in out
    assert "(answer it with --ask)" in out


def test_what_is_there_already_is_nothing_new(home, capsys):
    first = Daemon()
    ask(first, options("cursor"))
    second = Daemon(servers=list(first.sent[0]))
    answer = ask(second, options("cursor"))
    assert (answer["imported"], second.sent) == ([], [])
    assert {each["reason"] for each in answer["skipped"]} == {"mcpd has a server of that name"}
    show(answer, options())
    assert capsys.readouterr().out.endswith("nothing new\n")


def test_a_dry_run_shows_no_secret_and_sends_nothing(home, capsys):
    for daemon in (Daemon(), Away()):
        answer = ask(daemon, options(dry_run=True, ask=False))
        show(answer, options())
        told = capsys.readouterr().out + json.dumps(answer)
        assert SECRET not in told
        assert "--password=***" in told
        assert "Bearer ${LINEAR_KEY}" in told or "${LINEAR_KEY}" in told
        assert "https://mcp.q.example/mcp?***" in told
        assert daemon.sent == []
    with pytest.raises(Unreachable):
        ask(Away(), options())


def test_only_some(home):
    daemon = Daemon()
    answer = ask(daemon, options("cursor", only=["pg", "none"]))
    assert list(daemon.sent[0]) == ["pg"]
    assert daemon.sent[0]["pg"]["args"][2] == f"--password={SECRET}"
    assert [(each["name"], each["reason"]) for each in answer["skipped"]] == [
        ("none", "no such server is configured there")
    ]


def test_one_that_mcpd_refuses_keeps_no_other_out(home):
    errors = [
        {
            "path": "mcpServers.linear.headers.Authorization",
            "message": "the environment variable X is not set",
            "remedy": "r",
        },
        {"path": "mcpServers.q", "message": "wrong"},
    ]
    daemon = Daemon(refusals=[Refused(422, {"code": "invalid_configuration", "message": "2 faults", "errors": errors})])
    answer = ask(daemon, options("cursor"))
    assert [set(sent) for sent in daemon.sent] == [{"linear", "pg", "q", "sso"}, {"pg", "sso"}]
    assert {each["name"]: (each["reason"], each["remedy"]) for each in answer["skipped"]} == {
        "linear": (
            "headers.Authorization: the environment variable X is not set",
            "set it for mcpd, or have its value from here put in with --fill",
        ),
        "q": ("wrong", ""),
    }


def test_a_refusal_of_everything_is_one(home):
    daemon = Daemon(refusals=[Refused(403, {"code": "not_permitted", "message": "no"})])
    with pytest.raises(Refused, match="no"):
        ask(daemon, options("cursor"))


def test_mcpd_itself_is_left_out(home):
    file = home / "x.json"
    file.write_text('{"mcpServers": {"gate": {"url": "http://localhost:8080/mcp"}, "a": {"command": "x"}}}')
    daemon = Daemon()
    answer = ask(daemon, options(str(file)))
    assert list(daemon.sent[0]) == ["a"]
    assert answer["skipped"][0]["reason"] == "it is mcpd itself"


def test_a_person_is_asked(home, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "typed")
    daemon = Daemon()
    ask(daemon, options("vscode", ask=True, only=["github"]))
    assert daemon.sent[0]["github"]["headers"] == {"Authorization": "Bearer typed"}
    assert asked == ["github: GitHub token: "]
    file = home / ".config" / "Code" / "User" / "mcp.json"
    file.write_text('{"servers": {"a": {"command": "${input:x}"}}}')
    monkeypatch.setattr("sys.stdin", io.StringIO("run\n"))
    ask(daemon, options("vscode", ask=True, only=["a"]))
    assert daemon.sent[1]["a"]["command"] == "run"
    assert capsys.readouterr().err == "a: x: "


@pytest.mark.parametrize(
    ("source", "why"), [("/none.json", "there is no file"), ("codex", "no configuration of Codex")]
)
def test_where_there_is_nothing(home, source, why):
    (home / ".codex" / "config.toml").unlink()
    with pytest.raises(Refused, match=why):
        ask(Daemon(), options(source))


def test_a_file_with_a_fault_keeps_no_other_out(home):
    file = home / ".cursor" / "mcp.json"
    file.write_text("{")
    answer = ask(Daemon(), options())
    assert f"{file} is not well-formed" in next(
        each["reason"] for each in answer["skipped"] if each["place"] == str(file)
    )
    with pytest.raises(Refused, match="not well-formed"):
        ask(Daemon(), options(str(file)))


def test_what_may_be_a_secret_is_hidden():
    table = {
        "command": "x",
        "args": ["--token", "t", "--key=k", "-H", "X-A: b", "--header", "plain", "--verbose", "word"],
        "env": {"A": "a", "B": "x${B}y"},
        "url": "http://h/p?a=b",
    }
    assert hidden(table) == {
        "command": "x",
        "args": ["--token", "***", "--key=***", "-H", "X-A: ***", "--header", "plain", "--verbose", "word"],
        "env": {"A": "***", "B": "${B}"},
        "url": "http://h/p?***",
    }
