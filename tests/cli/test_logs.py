from __future__ import annotations

import json
from argparse import ArgumentParser

import pytest

from mcpd.cli import logs
from mcpd.control.client import Streamed

LINES = [
    {"at": 1.0, "server": "a", "kind": "note", "pid": 7, "text": "started"},
    {"at": 2.0, "server": "a", "kind": "line", "pid": 7, "text": "hello"},
    {"at": 3.0, "server": None, "kind": "gap", "pid": None, "text": "mcpd was started anew"},
]


class Client:
    def get(self, path, query):
        self.asked = (path, query)
        return {"lines": LINES, "cursor": "run.3"}

    def stream(self, path, query):
        self.asked = (path, query)
        yield Streamed("run.0", "", {})
        for number, line in enumerate(LINES):
            yield Streamed(f"run.{number}", "line", line)
        raise KeyboardInterrupt


def run(*arguments, as_json=False):
    parser = ArgumentParser()
    logs.arguments(parser)
    options = parser.parse_args(arguments)
    options.json = as_json
    client = Client()
    return client, logs.run(client, options)


def test_lines_for_people(capsys):
    client, status = run("a", "b", "-n", "5")
    assert status == 0
    assert client.asked == ("/v1/logs", {"server": "a,b", "lines": "5"})
    assert [line[16:] for line in capsys.readouterr().out.splitlines()] == [
        "a[7] -- started --",
        "a[7]: hello",
        "mcpd -- mcpd was started anew --",
    ]


def test_the_answer_for_scripts(capsys):
    run(as_json=True)
    assert json.loads(capsys.readouterr().out)["cursor"] == "run.3"


def test_following(capsys):
    with pytest.raises(KeyboardInterrupt):
        run("-f", as_json=True)
    assert [json.loads(line)["cursor"] for line in capsys.readouterr().out.splitlines()] == ["run.0", "run.1", "run.2"]
    with pytest.raises(KeyboardInterrupt):
        run("-f")
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_no_server_can_steer_the_terminal():
    assert "\x1b" not in logs.shown({**LINES[1], "text": "\x1b[31m", "server": "\x1b"})
