"""Results and errors as a modern client is told them, and a modern backend's errors for a legacy one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from mcpd.errors import (
    BackendUnavailable,
    MissingCapability,
    ProtocolError,
    RpcError,
    UnknownName,
)
from mcpd.protocol.envelope import UnsupportedVersion
from mcpd.protocol.jsonrpc import decode, members_of
from mcpd.protocol.mirror import HeaderMismatch
from mcpd.protocol.modern import (
    RESERVED,
    SERVER_INFO,
    STATUS,
    complete,
    data_of,
    error_for_legacy,
    error_for_modern,
    own_server_info,
    status_of,
)
from mcpd.protocol.outcome import result_of
from mcpd.types import IMPLEMENTATION

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)

ME = b'{"name":"mcpd","version":"1"}'
INFO = b'"io.modelcontextprotocol/serverInfo":' + ME
DONE = b'"resultType":"complete","_meta":{%b}' % INFO
CALL = "tools/call"


def relayed(raw: bytes) -> RpcError:
    """An error as a backend's response brings it."""
    with pytest.raises(RpcError) as raised:
        result_of(decode(b'{"jsonrpc":"2.0","id":1,"error":%b}' % raw))
    return raised.value


def error(code: int, data: bytes | None = None) -> RpcError:
    return relayed(b'{"code":%d,"message":"m"%b}' % (code, b"" if data is None else b',"data":%b' % data))


# ---- results of legacy backends


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"{}", b"{%b}" % DONE),
        (b" { } ", b"{%b}" % DONE),
        (b"null", b"{%b}" % DONE),
        (b'{"content":[]}', b'{%b,"content":[]}' % DONE),
        (
            b'{"content":[{"type":"text","text":"ok"}],"isError":false,"n":1.50}',
            b'{%b,"content":[{"type":"text","text":"ok"}],"isError":false,"n":1.50}' % DONE,
        ),
        (b'{ "a" : 1 }', b'{%b, "a" : 1 }' % DONE),
        (b'\n{"a":1}', b'{%b,"a":1}' % DONE),
        # Inside the payload the words mean nothing.
        (
            b'{"content":[{"resultType":"x","_meta":{"a":1}}],"t":"\\"ttlMs\\""}',
            b'{%b,"content":[{"resultType":"x","_meta":{"a":1}}],"t":"\\"ttlMs\\""}' % DONE,
        ),
        (rb'{"a":"\ud83d"}', rb'{%b,"a":"\ud83d"}' % DONE),
        (rb'{"\ud83d":1}', rb'{%b,"\ud83d":1}' % DONE),
        # What it says of itself in the words of another version does not count.
        (b'{"resultType":"task","a":1}', b'{%b,"a":1}' % DONE),
        (b'{"a":1,"ttlMs":5,"cacheScope":"public"}', b'{%b,"a":1}' % DONE),
        (rb'{"a":1,"result\u0054ype":"input_required"}', b'{%b,"a":1}' % DONE),
        (b'{"_meta":null,"a":1}', b'{%b,"a":1}' % DONE),
        (b'{"_meta":"x"}', b"{%b}" % DONE),
        (b'{"_meta":{}}', b"{%b}" % DONE),
        (
            b'{"a":1,"_meta":{"com.x/y": {"z":1e2},"io.modelcontextprotocol/related-task":{"taskId":"T"},'
            b'"io.modelcontextprotocol/serverInfo":{"name":"theirs"},"io.modelcontextprotocol/subscriptionId":1,"t":2}}',
            b'{"resultType":"complete","_meta":{%b,"com.x/y":{"z":1e2},"t":2},"a":1}' % INFO,
        ),
        (
            rb'{"\u005fmeta":{"io.modelcontextprotocol\/serverInfo":{},"k":1}}',
            b'{"resultType":"complete","_meta":{%b,"k":1}}' % INFO,
        ),
    ],
)
def test_complete(text, expected):
    assert complete(text, ME, method=CALL) == expected
    raw = members_of(b'{"result":%b}' % text)["result"]
    assert complete(raw, ME, method=CALL) == expected


@pytest.mark.parametrize(
    ("method", "cacheable"),
    [("resources/read", True), (CALL, False), ("prompts/get", False), ("completion/complete", False)],
)
def test_what_was_read_is_never_cached(method, cacheable):
    found = json.loads(complete(b'{"contents":[],"ttlMs":9,"cacheScope":"public"}', ME, method=method))
    assert found.pop("resultType") == "complete"
    assert found.pop("_meta") == {SERVER_INFO: json.loads(ME)}
    assert found == {"contents": [], **({"ttlMs": 0, "cacheScope": "private"} if cacheable else {})}
    assert json.loads(complete(b"null", ME, method=method)).get("ttlMs") == (0 if cacheable else None)


def test_mcpd_says_its_own_name():
    assert json.loads(complete(b"{}", method=CALL))["_meta"] == {SERVER_INFO: json.loads(IMPLEMENTATION)}
    assert json.loads(own_server_info(b"{}"))["_meta"] == {SERVER_INFO: json.loads(IMPLEMENTATION)}


@pytest.mark.parametrize("text", [b"[]", b"1", b'"x"', b"true", b"{", b"", b"nul", b"\xff", b"[" * 100_000])
def test_what_is_no_result(text):
    with pytest.raises(ProtocolError):
        complete(text, ME, method=CALL)
    with pytest.raises(ProtocolError):
        own_server_info(text, ME)


JSON = st.sampled_from((None, True, 0, -1.5, "", "é", [], [{}], {}, {"a": "b"}, {"resultType": 1, "_meta": {"x": []}}))
NAMES = st.one_of(st.sampled_from(("_meta", "resultType", "ttlMs", "cacheScope", "content")), st.text(max_size=6))


@SETTINGS
@given(st.dictionaries(NAMES, JSON, max_size=5), st.sampled_from((CALL, "resources/read")), st.booleans())
def test_the_payload_survives(result, method, spaced):
    text = json.dumps(result, separators=None if spaced else (",", ":")).encode()
    found = json.loads(complete(text, ME, method=method))
    own = json.loads(own_server_info(text, ME))
    ours = {"_meta", "resultType", "ttlMs", "cacheScope"}
    payload = {name: value for name, value in result.items() if name not in ours}
    assert {name: value for name, value in found.items() if name not in ours} == payload
    assert (found["resultType"], found["_meta"][SERVER_INFO]) == ("complete", json.loads(ME))
    assert ("ttlMs" in found) is (method == "resources/read")
    kept = {name: value for name, value in result.items() if name != "_meta"}
    if kept.get("resultType") is None:
        kept["resultType"] = "complete"
    assert {name: value for name, value in own.items() if name != "_meta"} == kept
    assert own["_meta"][SERVER_INFO] == json.loads(ME)
    theirs = result.get("_meta")
    if isinstance(theirs, dict):
        assert {**found["_meta"], **theirs} == found["_meta"]
        assert {**own["_meta"], **theirs} == own["_meta"]


# ---- results of modern backends

OK = (
    b'{"resultType":"complete","content":[{"type":"text","text":"ok"}],"isError":false,'
    b'"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}'
)
"""As the specification shows it."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            OK,
            b'{"_meta":{%b},"resultType":"complete","content":[{"type":"text","text":"ok"}],"isError":false}' % INFO,
        ),
        (b'{"resultType":"complete"}', b'{"_meta":{%b},"resultType":"complete"}' % INFO),
        (b'{"resultType":"task","_meta":{}}', b'{"_meta":{%b},"resultType":"task"}' % INFO),
        (b'{"_meta":null,"resultType":"x"}', b'{"_meta":{%b},"resultType":"x"}' % INFO),
        (b' {"resultType":"x"}', b'{"_meta":{%b},"resultType":"x"}' % INFO),
        (
            b'{ "resultType" : "complete", "a":1.50}',
            b'{"_meta":{%b}, "resultType" : "complete", "a":1.50}' % INFO,
        ),
        # The same version: what mcpd does not know is the client's business.
        (
            b'{"resultType":"x","_meta":{"io.modelcontextprotocol/new":1,"x":2},"ttlMs":-5,"cacheScope":1}',
            b'{"_meta":{%b,"io.modelcontextprotocol/new":1,"x":2},"resultType":"x","ttlMs":-5,"cacheScope":1}' % INFO,
        ),
        (
            rb'{"resultType":"x","_meta":{"io.modelcontextprotocol\/serverInfo":{"name":"s"},"h":"\ud83d"}}',
            rb'{"_meta":{%b,"h":"\ud83d"},"resultType":"x"}' % INFO,
        ),
        (
            b'{"resultType":"input_required","requestState":"s"}',
            b'{"_meta":{%b},"resultType":"input_required","requestState":"s"}' % INFO,
        ),
        # Clients take a result without a type for a complete one, but it has to have one.
        (b"{}", b'{"_meta":{%b},"resultType":"complete"}' % INFO),
        (b'{"a":1,"_meta":{"k":2}}', b'{"_meta":{%b,"k":2},"a":1,"resultType":"complete"}' % INFO),
        (b'{"resultType":null,"a":1}', b'{"_meta":{%b},"resultType":"complete","a":1}' % INFO),
    ],
)
def test_own_server_info(text, expected):
    assert own_server_info(text, ME) == expected
    assert own_server_info(Raw(text), ME) == expected


CACHE = b'"ttlMs":0,"cacheScope":"private"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'"ttlMs":5,"cacheScope":"public"', b'"ttlMs":5,"cacheScope":"public"'),
        (b'"ttlMs":0,"cacheScope":"private"', b'"ttlMs":0,"cacheScope":"private"'),
        (b'"a":1', b'"a":1,' + CACHE),
        (b'"ttlMs":-1,"cacheScope":"public"', b'"ttlMs":0,"cacheScope":"public"'),
        (b'"ttlMs":"5","cacheScope":"everybody"', CACHE),
        (b'"ttlMs":null,"cacheScope":null', CACHE),
        (b'"ttlMs":1e3', b'"ttlMs":0,"cacheScope":"private"'),
    ],
)
def test_what_was_read_says_how_long_it_is_good(text, expected):
    """Nothing said is the same as 0 and private, and so is what cannot be meant."""
    result = b'{"resultType":"complete",%b}' % text
    assert own_server_info(result, ME, method="resources/read") == (
        b'{"_meta":{%b},"resultType":"complete",%b}' % (INFO, expected)
    )
    assert own_server_info(result, ME, method=CALL) == b'{"_meta":{%b},"resultType":"complete",%b}' % (INFO, text)


@pytest.mark.parametrize("kind", [b'"input_required"', b'"task"'])
def test_what_is_not_complete_is_not_cached(kind):
    result = b'{"resultType":%b}' % kind
    assert own_server_info(result, ME, method="resources/read") == b'{"_meta":{%b},"resultType":%b}' % (INFO, kind)


def test_what_was_read_and_says_nothing():
    assert json.loads(own_server_info(b"{}", ME, method="resources/read")) == {
        "_meta": {SERVER_INFO: json.loads(ME)},
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    }


# ---- errors for modern clients


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (-32700, 400),
        (-32600, 400),
        (-32602, 400),
        (-32020, 400),
        (-32021, 400),
        (-32022, 400),
        (-32601, 404),
        (-32603, 200),
        (-32000, 200),
        (-1, 200),
        (7, 200),
    ],
)
def test_status(code, status):
    assert STATUS.get(code, 200) == status
    assert status_of(RpcError(code, "m")) == status


def test_an_error_with_a_status_of_its_own():
    assert status_of(RpcError(-32603, "overloaded", http_status=503)) == 503
    assert status_of(RpcError(-32602, "bad", http_status=503)) == 400, "the code decides"


@pytest.mark.parametrize("code", [-32603, -32000, -32800, -1, 0, 7, -32019, -32100, -32768])
def test_errors_that_pass_to_modern_clients(code):
    failure = error(code, b'{"x": 1.50}')
    assert error_for_modern(failure, CALL) is failure
    assert failure.encode() == b'{"code":%d,"message":"m","data":{"x": 1.50}}' % code


@pytest.mark.parametrize(("code", "status"), [(-32602, 400), (-32600, 400), (-32700, 400), (-32601, 404)])
def test_errors_that_get_their_status(code, status):
    failure = relayed(b'{"message":"m","code":%d,"x":1.0}' % code)
    found = error_for_modern(failure, CALL)
    assert (found.code, found.message, found.http_status) == (code, "m", status)
    assert found.encode() == b'{"message":"m","code":%d,"x":1.0}' % code
    assert failure.http_status == 200, "an error may be shared"


@pytest.mark.parametrize("method", ["resources/read", CALL, "prompts/get"])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, b'{"code":-32602,"message":"m"}'),
        (b'{"uri":"file:///x","n": 1}', b'{"code":-32602,"message":"m","data":{"uri":"file:///x","n": 1}}'),
        (b'"x"', b'{"code":-32602,"message":"m","data":"x"}'),
    ],
)
def test_a_resource_that_was_not_found(method, data, expected):
    for failure in (error(-32002, data), RpcError(-32002, "m", data=data)):
        found = error_for_modern(failure, method)
        assert (found.encode(), found.http_status) == (expected, 400)


@pytest.mark.parametrize("code", [-32020, -32022, -32023, -32042, -32099])
def test_reserved_codes_of_a_backend_are_replaced(code):
    raw = b'{"code":%d,"message":"m","data":{"n": 1.50},"x":1}' % code
    found = error_for_modern(relayed(raw), CALL)
    assert (found.code, found.http_status) == (-32603, 200)
    assert found.message == f"the server failed tools/call with code {code}: m"
    assert found.data == b'{"error":%b}' % raw


def test_the_reserved_codes_are_all_there():
    assert (min(RESERVED), max(RESERVED), len(RESERVED)) == (-32099, -32020, 80)
    for code in RESERVED:
        assert error_for_modern(error(code), CALL).code == -32603
        named = error_for_modern(error(code, b'{"requiredCapabilities":{}}'), CALL)
        assert named.code == (code if code == -32021 else -32603)


def test_a_missing_capability_passes():
    raw = (
        b'{"code":-32021,"message":"Missing required client capability",'
        b'"data":{"requiredCapabilities":{"sampling":{}}}}'
    )
    found = error_for_modern(relayed(raw), CALL)
    assert (found.code, found.http_status, found.encode()) == (-32021, 400, raw)


@pytest.mark.parametrize("data", [None, b"{}", b"[]", b'{"requiredCapabilities":[]}', b'{"requiredCapabilities":null}'])
def test_a_missing_capability_that_is_not_named_is_a_reserved_code_like_others(data):
    assert error_for_modern(error(-32021, data), CALL).code == -32603


@pytest.mark.parametrize(
    "failure",
    [
        HeaderMismatch("Mcp-Name header does not match the request body"),
        UnsupportedVersion("2027-01-01"),
        MissingCapability(b'{"elicitation":{"url":{}}}'),
        ProtocolError(-32602, "bad"),
        BackendUnavailable("b", "gone"),
        RpcError(-32603, "overloaded", http_status=503),
    ],
)
def test_own_errors_pass(failure):
    assert error_for_modern(failure, CALL) is failure


def test_own_refusal_as_the_specification_shows_it():
    failure = MissingCapability(b'{"sampling":{}}')
    assert (failure.encode(), failure.http_status) == (
        b'{"code":-32021,"message":"Missing required client capability",'
        b'"data":{"requiredCapabilities":{"sampling":{}}}}',
        400,
    )


def test_an_unknown_name_is_400():
    found = error_for_modern(UnknownName(-32602, "unknown tool 'x'"), CALL)
    assert (found.code, found.message, found.http_status) == (-32602, "unknown tool 'x'", 400)


# ---- errors for legacy clients


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("resources/read", b'{"uri":"file:///x"}', b'{"code":-32002,"message":"m","data":{"uri":"file:///x"}}'),
        ("resources/read", b'{"ur\\u0069":null}', b'{"code":-32002,"message":"m","data":{"ur\\u0069":null}}'),
        ("resources/read", None, b'{"code":-32602,"message":"m"}'),
        ("resources/read", b'"uri"', b'{"code":-32602,"message":"m","data":"uri"}'),
        ("resources/read", b'{"name":"x"}', b'{"code":-32602,"message":"m","data":{"name":"x"}}'),
        (CALL, b'{"uri":"file:///x"}', b'{"code":-32602,"message":"m","data":{"uri":"file:///x"}}'),
    ],
)
def test_not_found_for_legacy_clients(method, data, expected):
    failure = error(-32602, data)
    found = error_for_legacy(failure, method)
    assert (found.encode(), found.http_status) == (expected, 200)
    assert (found is failure) is (found.code == -32602)


@pytest.mark.parametrize(
    ("required", "words"),
    [
        (b'{"sampling":{}}', "sampling"),
        (b'{"elicitation":{"url":{}}}', "elicitation.url"),
        (b'{"sampling":{"tools":{},"context":{}},"roots":{}}', "sampling.tools, sampling.context, roots"),
        (b'{"extensions":{"io.modelcontextprotocol/tasks":{}}}', "extensions.io.modelcontextprotocol/tasks"),
        (b"{}", "m"),
        (b"[]", "m"),
    ],
)
def test_a_legacy_client_reads_what_it_lacks(required, words):
    raw = b'{"code":-32021,"message":"m","data":{"requiredCapabilities":%b}}' % required
    found = error_for_legacy(relayed(raw), CALL)
    assert (found.code, found.http_status) == (-32603, 200)
    assert found.message == f"tools/call needs what the client did not declare: {words}"
    assert found.data == b'{"error":%b}' % raw


@pytest.mark.parametrize("data", [None, b"1", b'{"supported":["2027-01-01"]}'])
@pytest.mark.parametrize("code", [-32020, -32022])
def test_what_is_between_mcpd_and_the_server(code, data):
    failure = error(code, data)
    found = error_for_legacy(failure, "prompts/get")
    assert (found.code, found.http_status) == (-32603, 200)
    assert found.message == f"the server refused how mcpd sent prompts/get (code {code}): m"
    assert found.data == b'{"error":%b}' % failure.encode()


@pytest.mark.parametrize("code", [-32603, -32601, -32600, -32002, -32042, -32000, -32050, 7])
def test_errors_that_pass_to_legacy_clients(code):
    failure = error(code, b'{"uri":"x"}')
    assert error_for_legacy(failure, "resources/read") is failure


# ---- data


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (RpcError(1, "m"), None),
        (RpcError(1, "m", data=b"[1]"), b"[1]"),
        (RpcError(1, "m", raw=b'{"code":1,"data": [ 1 ] }'), b"[ 1 ]"),
        (RpcError(1, "m", raw=b'{"code":1}', data=b"2"), None),
        (RpcError(1, "m", raw=rb'{"code":1,"message":"\ud83d","data":"\ud83d"}'), rb'"\ud83d"'),
        (RpcError(1, "m", raw=b"[]"), None),
    ],
)
def test_data_of(failure, expected):
    assert data_of(failure) == expected
