from __future__ import annotations

from pathlib import Path

import pytest

import mcpd.cli
from mcpd.cli.verbs import GROUPS, VERBS, asked_for, load

AROUND = {
    *("main", "verbs", "statuses", "table", "listing", "switching", "changing", "planned", "following"),
    *("mcp", "typed", "form", "asking", "content", "terminal"),
}
"""Modules of the folder that are no verbs."""


def test_every_module_is_a_verb_or_said_to_be_none():
    modules = {path.stem for path in Path(mcpd.cli.__file__).parent.glob("[!_]*.py")}
    assert modules == set(VERBS.values()) | AROUND


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_what_it_takes(name):
    verb = load(name)
    assert verb.SUMMARY
    assert verb.SUMMARY[0].islower()
    assert not verb.SUMMARY.endswith(".")
    assert callable(verb.arguments)
    assert hasattr(verb, "run") != (hasattr(verb, "ask") and hasattr(verb, "show"))


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (["status"], "status"),
        (["--json", "status", "servers"], "status"),
        (["--socket", "servers", "status"], "status"),
        (["--socket=x", "reload", "--dry-run"], "reload"),
        (["status", "--help"], "status"),
        (["--help", "status"], None),
        (["nonsense", "status"], None),
        (["--socket"], None),
        ([], None),
    ],
)
def test_which_verb_a_command_line_asks_for(arguments, verb):
    assert asked_for(arguments) == verb


def test_every_verb_is_in_one_group():
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(set(grouped)) == len(grouped)
    assert set(VERBS) <= set(grouped)
