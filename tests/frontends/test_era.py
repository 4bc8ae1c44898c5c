from __future__ import annotations

import json

import pytest

from mcpd.errors import INVALID_PARAMS, INVALID_REQUEST, ProtocolError
from mcpd.frontends.era import caller_of, open_envelope, refuse_mixed
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import ClientCapability
from mcpd.protocol.envelope import read
from mcpd.protocol.versions import MODERN
from tests.frontends.rig import META, envelope, modern_request

LEGACY = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t"}}


def message(value: object) -> jsonrpc.Message:
    return jsonrpc.decode_from_client(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("array", "mixed"),
    [
        ([LEGACY, LEGACY], False),
        ([LEGACY, modern_request(2)], True),
        ([modern_request(2, meta=envelope("v999"))], True),
        ([LEGACY, {"jsonrpc": "2.0", "method": "n", "params": {"_meta": {META + "protocolVersion": 1}}}], True),
        # The words alone make nothing modern.
        ([{**LEGACY, "params": {"name": META + "protocolVersion"}}], False),
        ([{**LEGACY, "params": {"arguments": {"_meta": envelope()}}}], False),
        ([{**LEGACY, "params": {"_meta": {META + "related-task": {}}}}, 7], False),
        ([{"jsonrpc": "2.0", "id": 1, "result": {"_meta": envelope()}}], False),
    ],
)
def test_an_array_with_a_modern_element_is_refused_whole(array, mixed):
    data = json.dumps(array).encode()
    messages = jsonrpc.decode_many(data)
    if not mixed:
        refuse_mixed(data, messages)
        return
    with pytest.raises(ProtocolError) as caught:
        refuse_mixed(data, messages)
    assert caught.value.code == INVALID_REQUEST


@pytest.mark.parametrize("params", ["text", [], 7, True])
def test_params_that_are_no_object(params):
    with pytest.raises(ProtocolError) as caught:
        open_envelope(message({**LEGACY, "params": params}))
    assert (caught.value.code, caught.value.http_status) == (INVALID_PARAMS, 400)


@pytest.mark.parametrize("body", [{"jsonrpc": "2.0", "id": 1, "method": "m"}, {**LEGACY, "params": {}}, LEGACY])
def test_what_is_missing_is_named(body):
    with pytest.raises(ProtocolError) as caught:
        open_envelope(message(body))
    assert caught.value.code == INVALID_PARAMS
    assert "protocolVersion" in caught.value.message
    assert "clientCapabilities" in caught.value.message


@pytest.mark.parametrize("second", ["_meta", "_m\\u0065ta"])
@pytest.mark.parametrize("padding", [0, 20_000])
def test_an_envelope_comes_once(second, padding):
    meta = json.dumps(envelope())
    params = f'{{"name":"t","_meta":{{"x":"{"x" * padding}"}},"{second}":{meta}}}'
    twice = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'
    with pytest.raises(ProtocolError) as caught:
        open_envelope(jsonrpc.decode_from_client(twice.encode()))
    assert (caught.value.code, caught.value.http_status) == (INVALID_REQUEST, 400)
    # One that is an argument is another matter.
    open_envelope(message(modern_request(1, name="t", arguments={"_meta": {}, "x": {"_meta": 1}})))


def test_a_caller_has_the_facts_of_its_request_alone():
    meta = {
        "clientCapabilities": {"sampling": {}, "extensions": {"a/b": {}}},
        "clientInfo": {"name": "c", "version": "1"},
        "logLevel": "error",
    }
    members, said = open_envelope(message(modern_request(1, meta=envelope(**meta), name="t")))
    assert bytes(members["name"]) == b'"t"'
    caller = caller_of(said, "me", b'{"a/b":{}}')
    assert (caller.principal, caller.version, caller.stateless) == ("me", MODERN, True)
    assert caller.capabilities == ClientCapability.SAMPLING
    assert caller.log_level == 4
    assert caller.extensions == b'{"a/b":{}}'
    assert json.loads(caller.client_info) == {"name": "c", "version": "1"}


def test_what_was_not_said_is_not_assumed():
    said = read(jsonrpc.members_of(json.dumps(modern_request(1)["params"]).encode()))
    one, two = caller_of(said, ""), caller_of(said, "")
    assert (one.log_level, one.extensions, one.client_info) == (None, None, None)
    assert one.key != two.key
