"""`server/discover`: mcpd's own answer, backends' answers, and what errors say of an era."""

from __future__ import annotations

import json

import pytest

from mcpd.errors import ProtocolError, RpcError
from mcpd.protocol.capabilities import ServerCapabilities, encode_gateway_capabilities
from mcpd.protocol.discover import Verdict, discover_result, judge_error, read_discover
from mcpd.protocol.handshake import ServerHello
from mcpd.protocol.jsonrpc import decode
from mcpd.protocol.outcome import result_of
from mcpd.protocol.versions import MODERN

SAMPLE = (
    b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":'
    b'{"listChanged":true},"extensions":{"io.modelcontextprotocol/tasks":{}}},"instructions":"Ask.","ttlMs":60000,'
    b'"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}}'
)
"""As the specification shows it."""

TASKS = "io.modelcontextprotocol/tasks"


def test_the_sample():
    result = decode(SAMPLE).members["result"]
    assert read_discover(result) == ServerHello(
        version=MODERN,
        capabilities=ServerCapabilities(tools=True, tools_list_changed=True, extensions=(TASKS,)),
        server_info=b'{"name":"s","version":"1"}',
        instructions="Ask.",
    )
    assert discover_result(
        capabilities=b'{"tools":{"listChanged":true},"extensions":{"io.modelcontextprotocol/tasks":{}}}',
        server_info=b'{"name":"s","version":"1"}',
        instructions="Ask.",
        ttl_ms=60000,
        scope="public",
    ) == bytes(result)


def answer(**members: object) -> bytes:
    base: dict[str, object] = {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {},
        "ttlMs": 0,
        "cacheScope": "private",
    }
    return json.dumps({name: value for name, value in {**base, **members}.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("members", "info", "instructions"),
    [
        ({}, b"{}", ""),
        ({"resultType": ..., "ttlMs": ..., "cacheScope": ...}, b"{}", ""),
        ({"supportedVersions": ["2027-01-01", "2026-07-28", "2025-11-25"]}, b"{}", ""),
        ({"instructions": None, "_meta": None}, b"{}", ""),
        ({"instructions": 1, "_meta": {"io.modelcontextprotocol/serverInfo": "s"}}, b"{}", ""),
        ({"instructions": "a\nb", "_meta": {"io.modelcontextprotocol/serverInfo": {}}}, b"{}", "a\nb"),
        ({"serverInfo": {"name": "not here"}, "x": 1}, b"{}", ""),
    ],
)
def test_answers_that_can_be_used(members, info, instructions):
    found = read_discover(answer(**members))
    assert found == ServerHello(MODERN, ServerCapabilities(), info, instructions)


@pytest.mark.parametrize("versions", [[], ["2027-01-01"], ["2025-11-25", "2024-11-05"], ["2026-07-28 "], [""]])
def test_no_version_in_common(versions):
    assert read_discover(answer(supportedVersions=versions)) is None


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"null",
        b'"2026-07-28"',
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"tools":[]}',
        # An answer to another question.
        b'{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}',
        answer(supportedVersions=...),
        answer(supportedVersions=None),
        answer(supportedVersions="2026-07-28"),
        answer(supportedVersions={"2026-07-28": 1}),
        answer(supportedVersions=["2026-07-28", 1]),
        answer(capabilities=...),
        answer(capabilities=None),
        answer(capabilities=[]),
        answer(resultType="input_required"),
        answer(resultType="task"),
        answer(resultType=1),
    ],
)
def test_what_is_no_answer(text):
    with pytest.raises(ProtocolError):
        read_discover(text)


def test_what_mcpd_says_is_what_it_reads():
    text = discover_result(
        capabilities=encode_gateway_capabilities(MODERN, b'{"a.b/c":{}}'),
        server_info=b'{"name":"mcpd","version":"1"}',
        instructions="",
        ttl_ms=0,
        scope="private",
    )
    assert "instructions" not in json.loads(text)
    found = read_discover(text)
    assert found is not None
    assert found.capabilities == ServerCapabilities(
        **{**dict.fromkeys(ServerCapabilities.__struct_fields__, True), "extensions": ("a.b/c",)}
    )
    assert (found.server_info, found.instructions) == (b'{"name":"mcpd","version":"1"}', "")


# ---- errors


def refused(raw: bytes) -> RpcError:
    with pytest.raises(RpcError) as raised:
        result_of(decode(b'{"jsonrpc":"2.0","id":1,"error":%b}' % raw))
    return raised.value


@pytest.mark.parametrize(
    ("supported", "verdict"),
    [
        (b'["2026-07-28"]', Verdict.RESEND),
        (b'["2027-01-01","2026-07-28"]', Verdict.RESEND),
        (b'["2025-11-25","2026-07-28"]', Verdict.RESEND),
        (b'["2025-11-25"]', Verdict.LEGACY),
        (b'["2027-01-01","2024-11-05"]', Verdict.LEGACY),
        (b'["2027-01-01"]', Verdict.HOPELESS),
        (b'["2027-01-01","2028-01-01"]', Verdict.HOPELESS),
        (b'["x"]', Verdict.HOPELESS),
        # It says nothing that could be relied on.
        (b"[]", Verdict.LEGACY),
        (b"null", Verdict.LEGACY),
        (b'"2026-07-28"', Verdict.LEGACY),
        (b'["2027-01-01",1]', Verdict.LEGACY),
        (b"[[]]", Verdict.LEGACY),
        (b"{}", Verdict.LEGACY),
    ],
)
def test_what_the_server_says_it_supports(supported, verdict):
    raw = b'{"code":-32022,"message":"m","data":{"supported":%b,"requested":"2026-07-28"}}' % supported
    assert judge_error(refused(raw)) is verdict
    own = RpcError(-32022, "m", data=b'{"supported":%b}' % supported)
    assert judge_error(own) is verdict


@pytest.mark.parametrize(
    "raw",
    [
        b'{"code":-32022,"message":"m"}',
        b'{"code":-32022,"message":"m","data":null}',
        b'{"code":-32022,"message":"m","data":["2026-07-28"]}',
        b'{"code":-32022,"message":"m","data":"2026-07-28"}',
        # The words of servers that do not know the question.
        b'{"code":-32600,"message":"Bad Request: Missing session ID"}',
        b'{"code":-32600,"message":"Unsupported protocol version: 2026-07-28. Supported versions: 2025-11-25"}',
        b'{"code":-32602,"message":"Invalid request parameters","data":""}',
        b'{"code":-32602,"message":"m","data":{"supported":["2026-07-28"],"requested":"2026-07-28"}}',
        b'{"code":-32000,"message":"Bad Request: Server not initialized"}',
        b'{"code":-32601,"message":"Method not found"}',
        b'{"code":-32001,"message":"Session not found"}',
        b'{"code":-32020,"message":"m"}',
        b'{"code":-32021,"message":"m","data":{"requiredCapabilities":{}}}',
        b"{}",
        b'"no"',
        b"null",
    ],
)
def test_any_other_error_is_worth_an_initialize(raw):
    assert judge_error(refused(raw)) is Verdict.LEGACY
