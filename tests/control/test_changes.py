from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from mcpd.config.overlay import ChangeRefused
from mcpd.control.ask import Who
from mcpd.control.changes import add_servers, disable_server, enable_server, remove_server
from mcpd.control.configuration import STATUSES
from mcpd.control.refusal import Refusal
from mcpd.errors import ConfigError
from tests.control.parts import ask, controlled, operations
from tests.control.test_server import ask as send
from tests.control.test_server import request

TABLES = {"n": {"command": "x"}}
WHO = Who(token="admin token", peer="127.0.0.1")
BY = "admin token from 127.0.0.1"


async def test_what_is_asked_for_goes_on_with_who_and_how(tmp_path):
    ops = operations(tmp_path)
    assert await add_servers(ops, ask(who=WHO, body={"mcpServers": TABLES})) == {"plan": {}}
    await add_servers(ops, ask(who=WHO, body={"servers": TABLES}, query={"replace": "1"}))
    for work in (remove_server, enable_server, disable_server):
        assert await work(ops, ask(who=WHO, path={"name": "n"})) == {"plan": {}}
    assert ops.runner.changes == [
        ("add", TABLES, BY, "HTTP", False),
        ("add", TABLES, BY, "HTTP", True),
        ("remove", "n", BY, "HTTP"),
        ("enable", "n", BY, "HTTP"),
        ("disable", "n", BY, "HTTP"),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "expected at least one server, under either 'mcpServers' or 'servers', got a map"),
        ({"servers": {}}, "expected a map of servers"),
        (
            {"servers": TABLES, "mcpServers": TABLES},
            "expected at least one server, under either 'mcpServers' or 'servers'",
        ),
        ({"servers": {"n": 1}}, "expected a map, got 1"),
        ({"servers": TABLES, "listen": {}}, "unknown key"),
    ],
)
async def test_nothing_or_twice_is_no_change(tmp_path, body, message):
    kind = "Content-Type: application/json"
    async with controlled(tmp_path) as (path, ops):
        status, _, answer = await send(path, request("POST", "/v1/servers", kind, body=json.dumps(body)))
        assert (status, answer["code"]) == (400, "invalid_body")
        assert [error["message"] for error in answer["errors"]] == [message]
        assert ops.runner.changes == []


@pytest.mark.parametrize("code", STATUSES)
async def test_a_refused_change_has_its_status_and_remedy(tmp_path, code):
    ops = operations(tmp_path)
    ops.runner.error = ChangeRefused(code, "it cannot be", "do something")
    with pytest.raises(Refusal) as caught:
        await disable_server(ops, ask(path={"name": "n"}))
    refused = caught.value
    assert (refused.code, refused.message, refused.remedy) == (code, "it cannot be", "do something")
    assert refused.status == STATUSES[code] >= HTTPStatus.BAD_REQUEST


async def test_a_fault_is_told_with_its_path(tmp_path):
    ops = operations(tmp_path)
    ops.runner.error = ConfigError("it is wrong", path="mcpServers.n")
    with pytest.raises(Refusal) as caught:
        await add_servers(ops, ask(body={"servers": TABLES}))
    assert json.loads(caught.value.encode())["errors"][0]["path"] == "mcpServers.n"


async def test_nothing_is_done_where_the_condition_does_not_hold_any_more(tmp_path):
    ops = operations(tmp_path)

    def changed() -> None:
        raise Refusal(HTTPStatus.PRECONDITION_FAILED, "changed_meanwhile", "it was changed")

    with pytest.raises(Refusal):
        await remove_server(ops, ask(path={"name": "b"}, require_unchanged=changed))
    assert ops.runner.changes == []


async def test_the_program_says_its_name(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        for name in ("mcpctl/1", "x" * 200):
            text = request("POST", "/v1/servers/b/enable", f"User-Agent: {name}")
            assert (await send(path, text))[0] == HTTPStatus.OK
    (_, name, who, how), (_, _, _, long) = ops.runner.changes
    assert (name, how) == ("b", "mcpctl/1")
    assert who.startswith("uid=")
    assert len(long) == 80
