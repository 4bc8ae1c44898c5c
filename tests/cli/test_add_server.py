"""Command lines and the tables that are made of them; what becomes of them: test_changing."""

from __future__ import annotations

import os

import pytest

from mcpd.cli import statuses
from mcpd.cli.main import run
from tests.cli.test_changing import answer
from tests.cli.test_main import mcpctl
from tests.control.parts import controlled


async def asked(directory, *arguments):
    """What mcpd is asked for by a command line."""
    async with controlled(directory) as (path, ops):
        ops.runner.answer = answer(about={"state": "ready"})
        assert await mcpctl(path, "add-server", *arguments) == statuses.OK
    ((verb, tables, _, _, replace),) = ops.runner.changes
    assert verb == "add"
    return tables, replace


@pytest.mark.parametrize(
    ("arguments", "table"),
    [
        (["n", "--", "npx", "-y", "thing"], {"command": "npx", "args": ["-y", "thing"]}),
        (
            ["n", "--", "npm", "exec", "--", "thing", "--json"],
            {"command": "npm", "args": ["exec", "--", "thing", "--json"]},
        ),
        (["n", "--", "x"], {"command": "x"}),
        (["n", "--url", "https://h/mcp"], {"url": "https://h/mcp"}),
        (
            ["--url", "wss://h", "--header", "Authorization=Bearer a=b", "--header", "X=", "n"],
            {"url": "wss://h", "headers": {"Authorization": "Bearer a=b", "X": ""}},
        ),
        (
            [
                "n",
                "--prefix",
                "",
                "--instances",
                "leased",
                "--start",
                "lazy",
                "--description",
                "d",
                "--disabled",
                "--",
                "x",
            ],
            {
                "command": "x",
                "prefix": "",
                "instances": "leased",
                "start": "lazy",
                "description": "d",
                "enabled": False,
            },
        ),
        (["n", "--transport=sse", "--url", "http://h"], {"url": "http://h", "transport": "sse"}),
        (["n", "--env", "A=${B}=c", "--env=HERE", "--", "x"], {"command": "x", "env": {"A": "${B}=c", "HERE": "$$1"}}),
    ],
)
async def test_a_table_is_what_a_file_would_have(tmp_path, monkeypatch, arguments, table):
    monkeypatch.setenv("HERE", "$1")
    assert await asked(tmp_path, *arguments) == ({"n": table}, False)


async def test_what_is_relative_is_so_to_whoever_types_it(tmp_path):
    tables, replace = await asked(tmp_path, "n", "--cwd", "x", "--replace", "--", "./server", "./data")
    here = os.getcwd()
    assert tables == {"n": {"command": f"{here}/server", "args": ["./data"], "cwd": f"{here}/x"}}
    assert replace


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["n"],
        ["n", "--"],
        ["n", "npx"],
        ["n", "--url", "http://h", "--", "x"],
        ["n", "--env", "NOT_THERE", "--", "x"],
        ["n", "--header", "X", "--url", "http://h"],
        ["n", "--nonsense", "--", "x"],
    ],
)
def test_a_wrong_command_line_asks_for_nothing(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        run(["--socket", str(tmp_path / "none"), "add-server", *arguments])
    assert caught.value.code == statuses.USAGE
    assert "mcpctl" in capsys.readouterr().err


async def test_other_verbs_know_nothing_of_commands(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        ops.runner.answer = answer(about={"state": "ready"})
        assert await mcpctl(path, "disable", "--", "n") == statuses.OK
        assert ops.runner.changes[0][1] == "n"
