"""Tasks of the extension: whose they are by their id, and what clients and backends see of that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcpd.errors import INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CAPABILITY, RpcError
from mcpd.gateway import tasks
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Call, Caller
from mcpd.protocol.capabilities import NOTHING, ServerCapabilities
from mcpd.protocol.versions import LATEST_HANDSHAKE, MODERN
from mcpd.types import SessionKey
from tests.gateway.fakes import FakeBackend, hello

DECLARED = b'{"io.modelcontextprotocol/tasks":{}}'


def backend(name: str, *extensions: str, version: Any = MODERN) -> FakeBackend:
    made = FakeBackend(name)
    made.hello = hello(ServerCapabilities(tools=True, extensions=extensions), version)
    return made


def calling(params: object, extensions: bytes | None = DECLARED) -> Call:
    text = json.dumps(params).encode()
    caller = Caller(SessionKey("m1"), "", MODERN, NOTHING, extensions=extensions)

    def nothing(*_: Any) -> Any:
        raise AssertionError

    return Call(caller, "tasks/get", text, jsonrpc.members_of(text), nothing, nothing, nothing)


JOBS = backend("jobs", tasks.EXTENSION)
OTHER = backend("other", tasks.EXTENSION)
PLAIN = backend("plain", "vendor.example/thing")
OLD = backend("old", tasks.EXTENSION, version=LATEST_HANDSHAKE)
ALL: Any = (PLAIN, JOBS, OTHER, OLD)


def test_an_id_leads_back_to_the_backend_that_made_it():
    shown = tasks.exposed(b'{"resultType":"task","taskId":"a:b/1","status":"working"}', JOBS)
    assert json.loads(bytes(shown)) == {"resultType": "task", "taskId": "jobs:a:b/1", "status": "working"}
    call = calling({"taskId": "jobs:a:b/1", "x": 1})
    assert tasks.route(ALL, call) is JOBS
    assert json.loads(jsonrpc.encode_members(call.members)) == {"taskId": "a:b/1", "x": 1}


@pytest.mark.parametrize(
    "id", ["", "jobs", "nobody:1", "plain:1", "old:1", ":1", "jobs:" + "x" * tasks.ID_MAX], ids=lambda id: id[:10]
)
def test_an_id_that_cannot_exist_is_unknown(id):
    with pytest.raises(RpcError, match="Unknown task") as caught:
        tasks.route(ALL, calling({"taskId": id}))
    assert caught.value.code == INVALID_PARAMS


@pytest.mark.parametrize("backends", [(), (PLAIN,), (PLAIN, OLD)])
def test_where_nobody_makes_tasks_there_is_no_such_method(backends):
    with pytest.raises(RpcError) as caught:
        tasks.route(backends, calling({"taskId": "plain:1"}))
    assert caught.value.code == METHOD_NOT_FOUND


def test_a_backend_that_was_not_reached_yet_might_make_tasks():
    new = FakeBackend("new")
    new.hello = None
    with pytest.raises(RpcError, match="Unknown task"):
        tasks.route((PLAIN, new), calling({"taskId": "new:1"}))


@pytest.mark.parametrize("params", [{}, {"taskId": 7}, {"taskId": None}])
def test_an_id_that_is_no_string_is_unknown_too(params):
    with pytest.raises(RpcError, match="Unknown task"):
        tasks.route(ALL, calling(params))


@pytest.mark.parametrize(
    "extensions", [None, b'{"vendor.example/thing":{}}', b'{"a/b":{"x":"io.modelcontextprotocol/tasks"}}']
)
def test_who_did_not_declare_tasks_is_told_what_it_takes(extensions):
    with pytest.raises(RpcError) as caught:
        tasks.route(ALL, calling({"taskId": "jobs:1"}, extensions))
    assert caught.value.code == MISSING_CAPABILITY
    data = json.loads(caught.value.data or b"")
    assert data == {"requiredCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}}


def test_it_is_known_whether_there_can_be_tasks():
    assert tasks.known((PLAIN, JOBS))
    assert tasks.known((FakeBackend("new", takes=1.0),))
    assert not tasks.known((PLAIN, OLD))


def test_an_id_as_clients_know_it():
    assert tasks.shown("a:b", JOBS) == "jobs:a:b"
    assert tasks.owner(ALL, tasks.shown("a:b", JOBS)) == (JOBS, "a:b")


@pytest.mark.parametrize(
    "content", [b'{"content":[]}', b'{"content":[{"taskId":"x"}]}', b'{"taskId":7}', b'{"x":"\\"taskId\\""}']
)
def test_what_names_no_task_stays_as_it_is(content):
    assert tasks.exposed(content, JOBS) is content


def test_only_a_modern_backend_has_extensions():
    assert tasks.extensions_of(JOBS) == (tasks.EXTENSION,)
    assert tasks.extensions_of(OLD) == ()
    away = FakeBackend("away", takes=float("inf"))
    assert tasks.extensions_of(away) == ()
