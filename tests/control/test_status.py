from __future__ import annotations

import os
from http import HTTPStatus

import pytest

from mcpd import __version__
from mcpd.control.operations import Operations
from mcpd.control.refusal import Refusal
from mcpd.control.status import status, upgrade
from mcpd.supervisor.states import State
from tests.control.parts import ask, operations


async def test_status_is_in_words_and_numbers(tmp_path):
    found = await status(operations(tmp_path), ask())
    assert (found["version"], found["pid"]) == (__version__, os.getpid())
    assert (found["status"], found["states"]) == ("1 ready", {"ready": 1})
    assert found["configuration"] == "/etc/x.yaml"
    assert found["uptime"] >= 0
    assert (found["sessions"], found["calls_in_flight"]) == (0, 0)
    assert found["draining"] == []


async def test_who_sleeps_is_told_from_who_is_stopped(tmp_path):
    ops = operations(tmp_path)
    [backend] = ops.gateway.backends
    backend.state, backend.asleep = State.STOPPED, True
    found = await status(ops, ask())
    assert (found["status"], found["states"]) == ("1 asleep: b", {"asleep": 1})


async def test_an_upgrade_is_somebody_elses_work(tmp_path):
    ops = operations(tmp_path)

    async def refuse():
        raise Refusal(HTTPStatus.CONFLICT, "upgrade_refused", "not now")

    able = Operations(ops.gateway, ops.runner, ops.switch, upgrade=refuse, key=b"")
    with pytest.raises(Refusal, match="not now"):
        await upgrade(able, ask())
