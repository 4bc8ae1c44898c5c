from __future__ import annotations

from mcpd.cli.show import lines
from tests.cli.test_main import mcpctl
from tests.control.parts import controlled


async def test_a_server_is_shown_and_another_one_is_not(tmp_path, capsys):
    async with controlled(tmp_path) as (path, _):
        assert await mcpctl(path, "show", "b") == 0
        assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["name", "b"], ["state", "ready"]]
        assert await mcpctl(path, "show", "x/../b") == 1
        assert "no server 'x/../b'" in capsys.readouterr().err


def test_what_is_within_is_told_with_where_it_is():
    about = {
        "name": "b",
        "pid": None,
        "asleep": True,
        "failure": {"kind": "k", "remedy": "r", "reason": ""},
        "command": ["npx", "x"],
        "none": [],
        "starts": [{"at": 1, "why": "w"}],
    }
    assert lines(about) == [
        ("name", "b"),
        ("asleep", "yes"),
        ("failure kind", "k"),
        ("failure remedy", "r"),
        ("command", "npx"),
        ("", "x"),
        ("starts", "1 w"),
    ]
