from __future__ import annotations

import json

from mcpd.cli.check import lines
from tests.cli.test_main import mcpctl
from tests.control.parts import controlled


async def test_what_came_of_it_is_said_and_is_the_status(tmp_path, capsys):
    async with controlled(tmp_path) as (path, ops):
        assert await mcpctl(path, "check", "b") == 0
        assert capsys.readouterr().out.startswith("b came up after 0.50 s")
        assert await mcpctl(path, "check", "b", "--json") == 0
        assert json.loads(capsys.readouterr().out)["ok"] is True
        assert ops.switch.asked == [("check", "b")] * 2
        ops.switch.error = KeyError("c")
        assert await mcpctl(path, "check", "c") == 1
        assert "no server 'c'" in capsys.readouterr().err


def test_everything_that_happened_is_in_it():
    up = {
        "name": "a",
        "ok": True,
        "seconds": 0.1234,
        "transport": "stdio",
        "protocol_version": "2025-11-25",
        "server": {"name": "clock", "version": "1"},
        "tools": 3,
        "resources": 0,
        "resource_templates": 0,
        "prompts": 1,
        "stderr": ["hello"],
    }
    assert lines(up) == [
        "a came up after 0.12 s, over stdio",
        "it is clock 1, and speaks 2025-11-25",
        "it has 3 tools, 0 resources, 0 resource templates, 1 prompts",
        "it wrote to stderr:",
        "  hello",
    ]
    down = {"name": "a", "ok": False, "seconds": 1.0, "transport": "stdio", "server": None, "stderr": []}
    failure = {"kind": "exited", "reason": "exited with status 3", "remedy": "look"}
    assert lines({**down, "error": "x", "failure": failure})[1:] == ["exited: exited with status 3", "remedy: look"]
    assert lines({**down, "error": "could not be listed: tools"})[1:] == ["could not be listed: tools"]
