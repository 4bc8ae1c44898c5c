from __future__ import annotations

import json
import tomllib
from argparse import Namespace
from pathlib import Path

import pytest

from mcpd.cli import connect, imports
from mcpd.cli.clients.places import TITLES, Surroundings, main_file
from mcpd.cli.connect import ask, show
from mcpd.control.client import Refused, Unreachable
from tests.cli.clients.homes import furnish
from tests.cli.test_imports import Daemon as Importer
from tests.cli.test_imports import options as importing


class Daemon:
    def __init__(self, listen=("http://0.0.0.0:8080",)):
        self.listen = list(listen)

    def get(self, path):
        assert path == "/v1/status"
        return {"listen": self.listen, "configuration": "/etc/mcpd/mcpd.yaml"}


class Away:
    def get(self, path):
        raise Unreachable(Path("/s"), "not running")


@pytest.fixture
def around(tmp_path, monkeypatch):
    around = Surroundings({}, tmp_path / "home", tmp_path / "project")
    for module in (connect, imports):
        monkeypatch.setattr(module, "surroundings", lambda: around)
    return around


def options(client=None, **members) -> Namespace:
    return Namespace(**{"client": client, "write": None, "url": False, "stdio": False, **members})


def test_all_clients_are_told(around, capsys):
    answer = ask(Daemon(), options())
    entries = {each["client"]: each["entry"] for each in answer["clients"]}
    url = "http://127.0.0.1:8080/mcp"
    assert entries["cursor"] == entries["codex"] == {"url": url}
    assert entries["vscode"] == entries["claude-code"] == {"type": "http", "url": url}
    assert entries["claude-desktop"]["args"][-2:] == ["--connect", url], "the running one, too"
    show(answer, options())
    parts = capsys.readouterr().out.split("\n\n")
    assert [part.splitlines()[0].split(":")[0] for part in parts] == [f"# {title}" for title in TITLES.values()]
    bodies = [part.split("\n", 1)[1] for part in parts]
    assert json.loads(bodies[2]) == {"servers": {"mcpd": entries["vscode"]}}
    assert tomllib.loads(bodies[4]) == {"mcp_servers": {"mcpd": {"url": url}}}


@pytest.mark.parametrize("client", TITLES)
def test_what_is_written_is_nothing_new_for_an_import(around, client, capsys):
    furnish(around.home, around.here)
    before = Importer()
    imports.ask(before, importing(client, fill=False))
    file = main_file(client, around)
    answer = ask(Daemon(), options(client, write=""))
    show(answer, options())
    out = capsys.readouterr().out
    assert f"reaches mcpd now by {file}" in out
    assert answer["clients"][0]["kept"] in out
    again = Importer(servers=list(before.sent[0]))
    found = imports.ask(again, importing(client))
    assert (found["imported"], again.sent) == ([], [])
    assert [each["reason"] for each in found["skipped"] if each["name"] == "mcpd"] == ["it is mcpd itself"]
    show(ask(Daemon(), options(client, write="")), options())
    assert capsys.readouterr().out == f"nothing to do: it is in {file} already\n"


def test_another_file_can_be_written(around, tmp_path):
    file = tmp_path / "x.json"
    answer = ask(Daemon(["http://127.0.0.1:1"]), options("cursor", write=str(file)))
    assert json.loads(file.read_text()) == {"mcpServers": {"mcpd": {"url": "http://127.0.0.1:1/mcp"}}}
    assert answer["clients"][0]["kept"] is None


def test_a_client_can_start_an_mcpd_of_its_own(around):
    [cursor] = ask(Daemon(), options("cursor", stdio=True))["clients"]
    assert cursor["entry"]["args"][-4:] == ["--transport", "stdio", "--config", "/etc/mcpd/mcpd.yaml"]
    [away] = ask(Away(), options("cursor", stdio=True))["clients"]
    assert away["entry"]["args"][-2:] == ["--transport", "stdio"]
    with pytest.raises(Unreachable):
        ask(Away(), options("cursor"))


@pytest.mark.parametrize(
    ("daemon", "given", "expected"),
    [
        (Daemon(), {}, ["--connect", "http://127.0.0.1:8080/mcp"]),
        (Daemon(), {"stdio": True}, ["--transport", "stdio", "--config", "/etc/mcpd/mcpd.yaml"]),
        (Daemon([]), {}, ["--transport", "stdio", "--config", "/etc/mcpd/mcpd.yaml"]),
        (Away(), {}, ["--transport", "stdio"]),
    ],
)
def test_a_client_that_knows_programs_alone(around, daemon, given, expected):
    [desktop] = ask(daemon, options("claude-desktop", **given))["clients"]
    assert desktop["entry"]["args"][-len(expected) :] == expected


@pytest.mark.parametrize(
    ("daemon", "given", "why"),
    [
        (Daemon(), options(write=""), "which client"),
        (Daemon(), options("claude-desktop", url=True), "reads no addresses"),
        (Daemon([]), options("cursor"), "no clients over HTTP"),
    ],
)
def test_what_cannot_be_is_said(around, daemon, given, why):
    with pytest.raises(Refused, match=why) as caught:
        ask(daemon, given)
    assert caught.value.remedy


def test_a_file_that_is_not_understood_is_left_alone(around):
    file = main_file("cursor", around)
    file.parent.mkdir(parents=True)
    file.write_text("{")
    with pytest.raises(Refused, match="left as it was") as caught:
        ask(Daemon(), options("cursor", write=""))
    assert "mcpctl connect cursor" in caught.value.remedy
    assert file.read_text() == "{"
    with pytest.raises(Unreachable):
        ask(Away(), options("cursor"))
