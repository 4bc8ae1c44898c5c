from __future__ import annotations

import json

import msgspec

from mcpd.cli import statuses
from mcpd.config.diff import Plan
from mcpd.errors import ConfigError
from mcpd.reload import Outcome
from tests.cli.test_main import mcpctl
from tests.control.parts import controlled

WHO = {"at": "2026-11-28T10:00:00Z", "by": "uid=0 (root) pid=7", "how": "mcpctl"}


async def test_a_check_says_what_a_reload_would_do(tmp_path, capsys):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.answer = msgspec.to_builtins(Outcome(dry_run=True, plan=Plan(added=("a",))))
        assert await mcpctl(path, "config", "check") == statuses.OK
        assert capsys.readouterr().out.splitlines() == [
            "no faults; a reload would do this:",
            "added     a",
            "unchanged 0",
        ]
        ops.runner.error = ConfigError("it is wrong", file="f.yaml", line=2)
        assert await mcpctl(path, "config", "check") == statuses.INVALID
        assert "f.yaml:2: it is wrong" in capsys.readouterr().err


async def test_a_difference_names_what_was_changed_and_what_has_no_effect(tmp_path, capsys):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.answer = {
            "plan": msgspec.to_builtins(Plan(removed=("x",))),
            "added": [{"name": "n", "in_effect": True, **WHO}, {"name": "a", "in_effect": False, **WHO}],
            "marked": [{"name": "b", "enabled": False, **WHO}],
            "conflicts": [{"name": "a", "file": "/etc/m.yaml", "line": 3, "added": WHO}],
            "problems": ["overlay.json.broken was set aside"],
        }
        assert await mcpctl(path, "config", "diff") == statuses.OK
        assert capsys.readouterr().out.splitlines() == [
            "removed   x",
            "unchanged 0",
            "overlay   n: added 2026-11-28T10:00:00Z by uid=0 (root) pid=7 with mcpctl",
            "overlay   a: added 2026-11-28T10:00:00Z by uid=0 (root) pid=7 with mcpctl, no effect",
            "overlay   b: disabled 2026-11-28T10:00:00Z by uid=0 (root) pid=7 with mcpctl",
            "conflict  a: /etc/m.yaml:3 defines it, so what was added has no effect (mcpctl remove-server a)",
            "problem   overlay.json.broken was set aside",
        ]


async def test_a_difference_that_cannot_be_told_says_the_faults(tmp_path, capsys):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.error = ConfigError("it is wrong", file="f.yaml", line=2, path="a.b", remedy="mend it")
        assert await mcpctl(path, "config", "diff") == statuses.INVALID
        assert capsys.readouterr().out.splitlines() == [
            "fault     f.yaml:2: a.b: it is wrong (mend it)",
            "A reload would change nothing.",
        ]
        assert await mcpctl(path, "config", "diff", "--json") == statuses.INVALID
        assert json.loads(capsys.readouterr().out)["errors"][0]["line"] == 2


async def test_what_is_in_effect_is_shown(tmp_path, capsys):
    async with controlled(tmp_path) as (path, _):
        assert await mcpctl(path, "config", "show") == statuses.OK
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "# /etc/x.yaml"
        assert "limits.calls: 2048" in lines
        assert lines[-2].split()[:2] == ["SERVER", "ENABLED"]
        assert lines[-1].split()[:2] == ["b", "yes"]
        assert await mcpctl(path, "config", "show", "--json") == statuses.OK
        assert "b" in json.loads(capsys.readouterr().out)["servers"]
