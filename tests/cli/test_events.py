from __future__ import annotations

import json
from argparse import ArgumentParser

import pytest

from mcpd.cli import events
from mcpd.control.client import Streamed
from mcpd.events import GAP, KINDS

CALL = {"kind": "call", "at": 1.0, "server": "b", "tool": "b_add", "outcome": "failed", "code": -1, "ms": 2.5}


class Client:
    def stream(self, path, query):
        self.asked = (path, query)
        yield Streamed("run.0", "", {})
        for number in range(9):
            yield Streamed(f"run.{number}", "mcpd", {"at": 1.0, "kind": "mcpd", "what": "ready", "n": number})


def run(*arguments, as_json=False):
    parser = ArgumentParser()
    events.arguments(parser)
    options = parser.parse_args(arguments)
    options.json = as_json
    client = Client()
    assert events.run(client, options) == 0
    return client


def test_some_events_and_no_more(capsys):
    client = run("--kind", "state", "--kind", "call", "--server", "a", "--after", "0", "--count", "2", as_json=True)
    assert client.asked == ("/v1/events", {"kind": "state,call", "server": "a", "after": "0"})
    assert [json.loads(line)["n"] for line in capsys.readouterr().out.splitlines()] == [0, 1]
    run("--count", "0")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"kind": "state", "server": "a", "from": "starting", "to": "ready"}, "a: starting → ready"),
        ({"kind": "restart", "server": "a", "reason": "it died", "retry_in": 2.5}, "a: it died; tried again in 2.5 s"),
        ({"kind": "restart", "server": "a", "reason": "it died", "retry_in": None}, "a: it died; not tried again"),
        (CALL, "b: b_add failed -1, 2.5 ms, by a client"),
        ({"kind": "list_changed", "lists": ["tools", "prompts"]}, "tools, prompts"),
        (
            {"kind": "session", "what": "opened", "client": "c/1", "protocol": "2025-06-18"},
            "opened, c/1 (2025-06-18)",
        ),
        ({"kind": "reload", "ok": True, "added": ["x"], "changed": [], "removed": ["y"]}, "added x; removed y"),
        ({"kind": "reload", "ok": True}, "nothing differs"),
        ({"kind": "reload", "ok": False, "errors": ["a: wrong"]}, "failed: a: wrong"),
        (
            {"kind": "operation", "by": "uid=0", "method": "POST", "path": "/v1/reload", "refused": "no"},
            "POST /v1/reload by uid=0, refused: no",
        ),
        ({"kind": "mcpd", "what": "ready", "cursor": "x"}, "what=ready"),
        ({"kind": "gap", "reason": "too slow"}, "-- too slow --"),
    ],
)
def test_every_kind_for_people(event, words):
    assert events.shown({"at": 1.0, **event})[16:].split(maxsplit=1) == [event["kind"], words]


def test_what_has_words_is_a_kind():
    assert events.WORDS.keys() <= {*KINDS, GAP}


def test_nobody_can_steer_the_terminal():
    assert "\x1b" not in events.shown({"kind": "state", "server": "\x1b", "from": "\x1b[2J", "to": "\n"})
