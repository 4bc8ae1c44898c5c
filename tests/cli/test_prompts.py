from __future__ import annotations

from tests.cli.test_main import mcpctl
from tests.control.parts import controlled


async def test_prompts_of_one_server_or_of_all(tmp_path, capsys):
    async with controlled(tmp_path) as (path, _):
        for arguments in (["prompts"], ["prompts", "--server", "b"]):
            assert await mcpctl(path, *arguments) == 0
            assert "no prompts" in capsys.readouterr().out
        assert await mcpctl(path, "prompts", "--server", "c") == 1
        assert "no server 'c'" in capsys.readouterr().err
