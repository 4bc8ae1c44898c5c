from __future__ import annotations

import pytest

from mcpd.config.overlay import ChangeRefused
from mcpd.control.configuration import check_configuration, compare_configuration, reload, show_configuration
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


async def test_what_is_in_effect_is_shown_with_where_it_is_from(tmp_path):
    shown = await show_configuration(operations(tmp_path), ask())
    assert shown["sources"] == ["/etc/x.yaml"]
    assert list(shown["servers"]) == ["b"]


async def test_a_comparison_names_faults_instead_of_failing(tmp_path):
    ops = operations(tmp_path)
    ops.runner.answer = {"added": [], "marked": []}
    assert await compare_configuration(ops, ask()) == {"errors": [], "added": [], "marked": []}
    ops.runner.error = ConfigError("it is wrong", file="f", line=2)
    (error,) = (await compare_configuration(ops, ask()))["errors"]
    assert (error["file"], error["line"], error["message"]) == ("f", 2, "it is wrong")


async def test_a_check_looks_at_the_files_or_at_what_is_given(tmp_path):
    ops = operations(tmp_path)
    tables = {"n": {"command": "x"}}
    assert await check_configuration(ops, ask()) == {"plan": {}}
    assert ops.runner.asked == [True], "a dry run"
    assert await check_configuration(ops, ask(body={"servers": tables})) == {"plan": {}}
    assert ops.runner.changes == [("try_out", tables)]
    for error, status in ((ConfigError("it is wrong"), 422), (ChangeRefused("in_file", "a file has it", "x"), 409)):
        ops.runner.error = error
        for body in (None, {"servers": tables}):
            with pytest.raises(Refusal) as caught:
                await check_configuration(ops, ask(body=body))
            assert caught.value.status == status
