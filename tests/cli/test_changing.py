"""What `add-server`, `remove-server`, `enable` and `disable` say, and ask for."""

from __future__ import annotations

import json

import pytest

from mcpd.cli import statuses
from mcpd.cli.changing import place, reached
from mcpd.config.overlay import ChangeRefused
from tests.cli.test_main import mcpctl
from tests.control.parts import controlled


def answer(name="n", about=None, draining=()):
    servers = {name: about} if about is not None else {}
    return {"names": [name], "servers": servers, "draining": list(draining), "plan": {}}


@pytest.mark.parametrize(
    ("about", "lines"),
    [
        ({"state": "ready"}, ["n is ready"]),
        ({"state": "disabled"}, ["n is disabled"]),
        ({"state": "starting"}, ["n is starting", "It is not up yet, and goes on trying: mcpctl show n"]),
        (
            {"state": "needs-operator", "error": "no such command\x1b (install it)"},
            [
                "n is needs-operator: no such command? (install it)",
                "It stays configured and is tried again. See mcpctl logs n; mend it, then mcpctl start n.",
            ],
        ),
        (None, []),
    ],
)
def test_the_state_that_was_reached_and_what_to_do(about, lines):
    assert reached(answer(about=about)) == lines


def test_a_name_may_have_any_character():
    assert place("a/b é", "enable") == "/v1/servers/a%2Fb%20%C3%A9/enable"


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["enable", "n"], ("enable", "n")),
        (["disable", "n"], ("disable", "n")),
        (["remove-server", "n"], ("remove", "n")),
        (["add-server", "n", "--", "x"], ("add", {"n": {"command": "x"}})),
    ],
)
async def test_who_asks_by_what_is_told_to_mcpd(tmp_path, capsys, arguments, asked):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.answer = answer(about={"state": "ready"})
        assert await mcpctl(path, *arguments) == statuses.OK
        (change,) = ops.runner.changes
        assert change[:2] == asked
        assert change[3] == "mcpctl"
        assert "n is ready" in capsys.readouterr().out
        assert await mcpctl(path, *arguments[:2], "--json", *arguments[2:]) == statuses.OK
        assert json.loads(capsys.readouterr().out) == ops.runner.answer
        ops.runner.error = ChangeRefused("in_file", "/etc/m.yaml:3 defines 'n'", "remove it there")
        assert await mcpctl(path, *arguments) == statuses.FAILED
        assert capsys.readouterr().err == "mcpctl: /etc/m.yaml:3 defines 'n' (remove it there)\n"


async def test_what_is_removed_is_gone_or_still_there_in_a_file(tmp_path, capsys):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.answer = answer(draining=["n"])
        assert await mcpctl(path, "remove-server", "n") == statuses.OK
        assert capsys.readouterr().out == "n is removed\nn finishes its calls\n"
        ops.runner.answer = answer(about={"state": "ready"})
        assert await mcpctl(path, "remove-server", "n") == statuses.OK
        assert capsys.readouterr().out == "n is removed from what was added; a file defines one too\nn is ready\n"
