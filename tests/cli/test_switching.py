from __future__ import annotations

import pytest

from tests.cli.test_main import mcpctl
from tests.control.parts import controlled


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
async def test_the_state_that_was_reached_is_said(verb, tmp_path, capsys):
    async with controlled(tmp_path) as (path, ops):
        assert await mcpctl(path, verb, "b") == 0
        assert capsys.readouterr().out == "b is ready\n"
        assert ops.switch.asked == [(verb, "b")]
        assert await mcpctl(path, verb, "c") == 1
        assert "no server 'c'" in capsys.readouterr().err
