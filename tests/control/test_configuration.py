from __future__ import annotations

import pytest

from mcpd.control.configuration import reload
from mcpd.control.refusal import Refusal
from mcpd.errors import ConfigError
from tests.control.parts import ask, operations


async def test_a_reload_gives_its_outcome(tmp_path):
    ops = operations(tmp_path)
    assert await reload(ops, ask()) == {"plan": {}}
    assert await reload(ops, ask(query={"dry_run": "1"})) == {"plan": {}}
    assert ops.runner.asked == [False, True]
    ops.runner.error = ConfigError("it is wrong", file="f", line=2)
    with pytest.raises(Refusal) as caught:
        await reload(ops, ask())
    assert (caught.value.status, caught.value.code) == (422, "invalid_configuration")
