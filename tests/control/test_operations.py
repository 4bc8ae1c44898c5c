from __future__ import annotations

import os
from http import HTTPStatus

import pytest

from mcpd import __version__
from mcpd.control.operations import TABLE, Operations, find, flag
from mcpd.control.refusal import Refusal
from mcpd.errors import ConfigError
from mcpd.supervisor.states import State
from tests.control.parts import operations


async def test_status_is_in_words_and_numbers(tmp_path):
    status = await operations(tmp_path).status({})
    assert (status["version"], status["pid"]) == (__version__, os.getpid())
    assert (status["status"], status["states"]) == ("1 ready", {"ready": 1})
    assert status["configuration"] == "/etc/x.yaml"
    assert status["uptime"] >= 0
    assert (status["sessions"], status["calls_in_flight"]) == (0, 0)
    assert status["draining"] == []


async def test_who_sleeps_is_told_from_who_is_stopped(tmp_path):
    ops = operations(tmp_path)
    [backend] = ops.gateway.backends
    backend.state, backend.asleep = State.STOPPED, True
    status = await ops.status({})
    assert (status["status"], status["states"]) == ("1 asleep: b", {"asleep": 1})


async def test_servers_are_those_of_the_configuration(tmp_path):
    assert await operations(tmp_path).servers({}) == {"servers": [{"name": "b"}]}


async def test_a_reload_gives_its_outcome(tmp_path):
    ops = operations(tmp_path)
    assert await ops.reload({}) == {"plan": {}}
    assert await ops.reload({"dry_run": "1"}) == {"plan": {}}
    assert ops.runner.asked == [False, True]
    ops.runner.error = ConfigError("it is wrong", file="f", line=2)
    with pytest.raises(Refusal) as caught:
        await ops.reload({})
    assert (caught.value.status, caught.value.code) == (422, "invalid_configuration")


async def test_an_upgrade_is_somebody_elses_work(tmp_path):
    ops = operations(tmp_path)

    async def refuse():
        raise Refusal(HTTPStatus.CONFLICT, "upgrade_refused", "not now")

    able = Operations(ops.gateway, ops.runner, upgrade=refuse)
    with pytest.raises(Refusal, match="not now"):
        await able.upgrade({})


def test_the_table_is_found_by_method_and_path():
    for each in TABLE:
        assert find(each.method, each.path) is each
        assert each.changes is (each.method != "GET"), "who looks changes nothing"
        assert each.path.startswith("/v1/")
    assert find("HEAD", "/v1/status") is find("GET", "/v1/status")


def test_what_is_not_in_the_table_is_refused():
    with pytest.raises(Refusal) as caught:
        find("GET", "/v1/nothing")
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert "/v1/status" in caught.value.remedy
    with pytest.raises(Refusal) as caught:
        find("GET", "/v1/reload")
    assert (caught.value.status, caught.value.headers) == (405, b"Allow: POST\r\n")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("YES", True), ("0", False), ("no", False)])
def test_a_flag_is_yes_or_no(text, value):
    assert flag({"f": text}, "f") is value
    assert flag({}, "f") is False


def test_anything_else_is_no_flag():
    with pytest.raises(Refusal, match="1 or 0"):
        flag({"f": "maybe"}, "f")
