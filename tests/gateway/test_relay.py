"""That every way in which a call can end is recorded, and recorded once. What is answered is tested in test_gateway."""

from __future__ import annotations

import json

import pytest
import trio

from mcpd.config.model import Config, Limits
from mcpd.errors import BackendUnavailable, RpcError
from tests.gateway.fakes import FakeBackend, FakeTurn, catalogue, exchange, join, make_gateway, serve

OFFER = {"tools": ["add"], "prompts": ["greet"], "resources": ["x:1"]}


def offering(**spec):
    return FakeBackend("b", catalogue(**OFFER), **spec)


def recorded(gateway):
    return [event.describe() for event in gateway.events.read("0", ["call"]).events]


CALLS = (
    ("tools/call", {"name": "b_add"}, {"tool": "b_add", "name": "add"}),
    ("prompts/get", {"name": "b_greet"}, {"prompt": "b_greet", "name": "greet"}),
    ("resources/read", {"uri": "x:1"}, {"resource": "x:1"}),
)


@pytest.mark.parametrize(("method", "params", "about"), CALLS, ids=[call[0] for call in CALLS])
async def test_what_was_answered(method, params, about, tmp_path):
    backend = offering()
    backend.result = b'{"x":1}'
    gateway = make_gateway(tmp_path, backend)
    await serve(gateway, join(gateway.sessions, principal="alice"), method, params)
    [found] = recorded(gateway)
    assert found.items() >= {**about, "method": method, "server": "b", "outcome": "ok", "bytes_out": 7}.items()
    assert (found["principal"], found["client"], found["protocol"]) == ("alice", "test", "2025-11-25")


@pytest.mark.parametrize(("method", "params", "about"), CALLS, ids=[call[0] for call in CALLS])
async def test_what_the_server_did_not_answer(method, params, about, tmp_path):
    backend = offering()
    backend.error = BackendUnavailable("b", "it is gone", kind="gone")
    gateway = make_gateway(tmp_path, backend)
    with pytest.raises(RpcError):
        await serve(gateway, join(gateway.sessions), method, params)
    [found] = recorded(gateway)
    assert found.items() >= {**about, "server": "b", "outcome": "failed", "why": "gone"}.items()


@pytest.mark.parametrize(
    ("method", "params", "kind", "named"),
    [
        ("tools/call", {"name": "nobodys"}, "tool", "nobodys"),
        ("tools/call", {}, "tool", "?"),
        ("tools/call", {"name": 7}, "tool", "?"),
        ("prompts/get", {"name": "nobodys"}, "prompt", "nobodys"),
        ("resources/read", {}, "resource", "?"),
    ],
)
async def test_what_nobody_has_is_recorded_too(method, params, kind, named, tmp_path):
    gateway = make_gateway(tmp_path, offering())
    with pytest.raises(RpcError):
        await serve(gateway, join(gateway.sessions), method, params)
    [found] = recorded(gateway)
    assert (found[kind], found["server"], found["outcome"]) == (named, None, "refused")


async def test_one_call_too_many(tmp_path):
    gateway = make_gateway(tmp_path, offering(), config=Config(limits=Limits(calls=0)))
    for method, params, _ in CALLS:
        with pytest.raises(RpcError):
            await serve(gateway, join(gateway.sessions), method, params)
    assert [(each["method"], each["outcome"]) for each in recorded(gateway)] == [
        (method, "refused") for method, _, _ in CALLS
    ]


async def test_wrong_arguments(tmp_path):
    backend = offering(validate="arguments")
    [tool] = backend.catalogue.tools
    schema = {"type": "object", "required": ["a"]}
    raw = json.dumps({"name": "add", "inputSchema": schema}).encode()
    backend.catalogue = backend.catalogue.with_kind("tools", (type(tool)("add", raw),))
    gateway = make_gateway(tmp_path, backend)
    await serve(gateway, join(gateway.sessions), "tools/call", {"name": "b_add", "arguments": {}})
    [found] = recorded(gateway)
    assert (found["server"], found["outcome"]) == ("b", "refused")


async def test_a_call_that_is_cancelled(tmp_path, autojump_clock):
    backend = offering()
    backend.gate = trio.Event()
    gateway = make_gateway(tmp_path, backend)
    for method, params, _ in CALLS:
        with trio.move_on_after(1):
            await serve(gateway, join(gateway.sessions), method, params)
    assert [each["outcome"] for each in recorded(gateway)] == ["cancelled"] * 3


async def test_calls_of_modern_clients(tmp_path):
    backend = offering()
    backend.result = b'{"resultType":"complete","isError":true}'
    gateway = make_gateway(tmp_path, backend)
    await exchange(gateway, FakeTurn(), "tools/call", {"name": "b_add"})
    await exchange(gateway, FakeTurn(), "tools/call", {"name": "nobodys"})
    await exchange(gateway, FakeTurn(), "tools/call", {"name": "b_add", "requestState": "unknown"})
    assert [(each["protocol"], each["outcome"]) for each in recorded(gateway)] == [
        ("2026-07-28", "error"),
        ("2026-07-28", "refused"),
        ("2026-07-28", "refused"),
    ]
