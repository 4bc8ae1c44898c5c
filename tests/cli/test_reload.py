from __future__ import annotations

from argparse import Namespace

import msgspec

from mcpd.cli.reload import ask, show
from mcpd.config.diff import Plan
from mcpd.reload import Outcome


class Client:
    def __init__(self):
        self.asked = []

    def post(self, path, query=None):
        self.asked.append((path, query))
        return {}


def test_it_asks_for_a_reload_or_a_dry_run():
    client = Client()
    ask(client, Namespace(dry_run=False))
    ask(client, Namespace(dry_run=True))
    assert client.asked == [("/v1/reload", None), ("/v1/reload", {"dry_run": "1"})]


def test_everything_that_differs_has_a_line(capsys):
    outcome = Outcome(
        dry_run=False,
        plan=Plan(
            added=("a",),
            changed={"b": ("args", "env")},
            adjusted={"c": ("prefix",)},
            removed=("d",),
            unchanged=("e", "f"),
            reordered=True,
            settings=("limits.calls",),
            needs_restart=("listen.port",),
        ),
        servers={"a": {"state": "ready"}, "b": {"state": "backing-off", "error": "no such file"}},
        draining=("d",),
    )
    show(msgspec.to_builtins(outcome), Namespace())
    assert capsys.readouterr().out.splitlines() == [
        "added     a: ready",
        "changed   b (args, env): backing-off, no such file",
        "adjusted  c (prefix)",
        "removed   d",
        "reordered servers that stay",
        "applied   limits.calls",
        "restart   listen.port differs, which applies when mcpd is restarted",
        "unchanged 2",
        "draining  d finishes its calls",
    ]


def test_a_dry_run_knows_no_states(capsys):
    show(msgspec.to_builtins(Outcome(dry_run=True, plan=Plan(added=("a",)))), Namespace())
    assert capsys.readouterr().out.splitlines() == ["added     a", "unchanged 0"]
