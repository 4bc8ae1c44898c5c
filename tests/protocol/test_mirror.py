"""Headers that repeat the body: how values are spelled, what is sent, what is refused."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcpd.errors import INVALID_PARAMS, INVALID_REQUEST, ProtocolError
from mcpd.protocol.jsonrpc import members_of
from mcpd.protocol.marks import MARKS_MAX
from mcpd.protocol.methods import METHODS
from mcpd.protocol.mirror import (
    NAMED,
    NO_PARAMETERS,
    VALUE_MAX,
    HeaderMismatch,
    Parameters,
    check,
    check_parameters,
    decode_value,
    encode_value,
    name_for,
    request_headers,
)
from mcpd.protocol.versions import MODERN

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)

NONE: frozenset[bytes] = frozenset()
WEATHER = b'{"name":"get_weather","arguments":{"region":"us-west1"},"_meta":{}}'
"""Params as the specification shows them."""

SCHEMA = (
    b'{"type":"object","properties":{'
    b'"region":{"type":"string","x-mcp-header":"Region"},'
    b'"count":{"type":"integer","x-mcp-header":"X-Count"},'
    b'"dry":{"type":"boolean","x-mcp-header":"dry"},'
    b'"deep":{"type":"object","properties":{"er":{"type":"string","x-mcp-header":"Deeper"}}},'
    b'"plain":{"type":"string"}}}'
)
PARAMETERS = Parameters.read(SCHEMA)
REGION = Parameters.read(b'{"properties":{"region":{"type":"string","x-mcp-header":"Region"}}}')
COUNT = Parameters.read(b'{"properties":{"count":{"type":"integer","x-mcp-header":"Count"}}}')


# ---- values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("us-west1", "us-west1"),
        ("a b", "a b"),
        ("~!@#$%^&*()_+{}|:\"<>?`-=[]\\;',./", "~!@#$%^&*()_+{}|:\"<>?`-=[]\\;',./"),
        ("=?utf-8?b?YQ==?=", "=?utf-8?b?YQ==?="),
        ("=?BASE64?YQ==?=", "=?BASE64?YQ==?="),
        ("=?base64?", "=?base64?"),
        ("x=?base64?YQ==?=", "x=?base64?YQ==?="),
        # What a header cannot carry.
        ("", "=?base64??="),
        (" a", "=?base64?IGE=?="),
        ("a ", "=?base64?YSA=?="),
        (" ", "=?base64?IA==?="),
        ("a\tb", "=?base64?YQli?="),
        ("a\r\nMcp-Name: b", "=?base64?YQ0KTWNwLU5hbWU6IGI=?="),
        ("\x00", "=?base64?AA==?="),
        ("\x7f", "=?base64?fw==?="),
        ("é", "=?base64?w6k=?="),
        ("日本", "=?base64?5pel5pys?="),
        ("\N{NO-BREAK SPACE}a", "=?base64?wqBh?="),
        # What would be taken for one.
        ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ("=?base64??=", "=?base64?PT9iYXNlNjQ/Pz0=?="),
        ("=?base64?=", "=?base64?PT9iYXNlNjQ/PQ==?="),
    ],
)
def test_spelling(text, value):
    assert encode_value(text) == value
    assert decode_value(value.encode()) == text


def test_half_a_surrogate_pair_is_replaced():
    assert decode_value(encode_value("a\ud83db").encode()) == "a\N{REPLACEMENT CHARACTER}b"
    assert decode_value(encode_value("\N{GRINNING FACE}").encode()) == "\N{GRINNING FACE}"


@SETTINGS
@given(st.text())
@example("=?base64?")
@example("=?base64?YQ==?=")
def test_values_there_and_back(text):
    value = encode_value(text)
    assert re.fullmatch("[!-~]([ -~]*[!-~])?", value), "it is a header"
    assert decode_value(value.encode("ascii")) == text


@pytest.mark.parametrize(
    "value",
    [
        b"=?base64?YQ?=",
        b"=?base64?YQ=?=",
        b"=?base64?YR==?=",
        b"=?base64?YQ===?=",
        b"=?base64?Y Q==?=",
        b"=?base64? YQ==?=",
        b"=?base64?YQ==\n?=",
        b"=?base64?YQ==YQ==?=",
        b"=?base64?-_==?=",
        b"=?base64?w6?=",
        b"=?base64?/w==?=",
        b"=?base64?7aC9?=",
        b"=?base64?\xff?=",
        b"\xe9",
        "é".encode(),
    ],
)
def test_values_that_stand_for_nothing(value):
    with pytest.raises(ValueError, match=r"."):
        decode_value(value)


@SETTINGS
@given(st.binary())
@example(b"=?base64?AB?=")
def test_a_value_is_decoded_one_way_or_not_at_all(value):
    try:
        text = decode_value(value)
    except ValueError:
        return
    if value.startswith(b"=?base64?") and value.endswith(b"?=") and len(value) >= 11:
        # Sentinels need not have been necessary, but what is in one is canonical.
        assert encode_value(text) == value.decode() or decode_value(encode_value(text).encode()) == text
    else:
        assert text.encode() == value


# ---- names


def test_methods_with_a_name():
    assert NAMED == {
        "tools/call": "name",
        "prompts/get": "name",
        "resources/read": "uri",
        "tasks/get": "taskId",
        "tasks/update": "taskId",
        "tasks/cancel": "taskId",
    }


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/call", WEATHER, "get_weather"),
        ("tools/call", rb'{"name":"\u0061\/\n"}', "a/\n"),
        ("tools/call", rb'{"name":"\ud83d\ude00"}', "\N{GRINNING FACE}"),
        ("tools/call", rb'{"name":"\ud83d"}', "\ud83d"),
        ("tools/call", b'{"name":""}', ""),
        ("tools/call", b"{}", None),
        ("tools/call", b'{"name":null}', None),
        ("tools/call", b'{"name":["x"]}', None),
        ("tools/call", b'{"name":1}', None),
        ("tools/call", b'{"uri":"x"}', None),
        ("resources/read", b'{"uri":"file:///a","name":"x"}', "file:///a"),
        ("prompts/get", b'{"name":"p"}', "p"),
        ("tasks/cancel", b'{"taskId":"T"}', "T"),
        ("tools/list", b'{"name":"x"}', None),
        ("completion/complete", b'{"ref":{"type":"ref/prompt","name":"p"}}', None),
        ("resources/subscribe", b'{"uri":"x"}', None),
        ("unknown/method", b'{"name":"x"}', None),
    ],
)
def test_name_for(method, params, name):
    assert name_for(method, members_of(params)) == name


# ---- what is sent


@pytest.mark.parametrize(
    ("method", "params", "lines"),
    [
        ("tools/call", WEATHER, b"Mcp-Method: tools/call\r\nMcp-Name: get_weather\r\n"),
        ("tools/list", b"{}", b"Mcp-Method: tools/list\r\n"),
        ("server/discover", b'{"name":"x"}', b"Mcp-Method: server/discover\r\n"),
        ("resources/read", b'{"uri":"file:///a b"}', b"Mcp-Method: resources/read\r\nMcp-Name: file:///a b\r\n"),
        (
            "prompts/get",
            rb'{"name":"a\r\nMcp-Name: b"}',
            b"Mcp-Method: prompts/get\r\nMcp-Name: =?base64?YQ0KTWNwLU5hbWU6IGI=?=\r\n",
        ),
        ("tools/call", rb'{"name":"\ud83d"}', b"Mcp-Method: tools/call\r\nMcp-Name: =?base64?77+9?=\r\n"),
        ("tools/call", b"{}", b"Mcp-Method: tools/call\r\n"),
        ("tasks/get", b'{"taskId":"T"}', b"Mcp-Method: tasks/get\r\nMcp-Name: T\r\n"),
        ("vendor.x/do", b"{}", b"Mcp-Method: vendor.x/do\r\n"),
    ],
)
def test_request_headers(method, params, lines):
    assert request_headers(method, members_of(params), NO_PARAMETERS) == lines


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        (b'{"region":"us-west1"}', ["Region: us-west1"]),
        (b'{"plain":"x","region":"\\u00e9"}', ["Region: =?base64?w6k=?="]),
        (b'{"region":""}', ["Region: =?base64??="]),
        (b'{"region":null}', []),
        (b'{"region":{}}', []),
        (b'{"region":["a"]}', []),
        (b'{"count":42}', ["X-Count: 42"]),
        (b'{"count":42.0}', ["X-Count: 42"]),
        (b'{"count":4.2e1}', ["X-Count: 42"]),
        (b'{"count":-7}', ["X-Count: -7"]),
        (b'{"count":-0}', ["X-Count: 0"]),
        (b'{"count":0}', ["X-Count: 0"]),
        (b'{"count":9007199254740991}', ["X-Count: 9007199254740991"]),
        (b'{"count":-9007199254740993}', ["X-Count: -9007199254740993"]),
        (b'{"count":123456789012345678901234567890}', ["X-Count: 123456789012345678901234567890"]),
        # None of these is an integer; the server may say so.
        (b'{"count":1.50}', ["X-Count: 1.5"]),
        (b'{"count":1e999}', []),
        (b'{"count":"42"}', ["X-Count: 42"]),
        (b'{"count":true}', ["X-Count: true"]),
        (b'{"dry":true}', ["dry: true"]),
        (b'{"dry":false}', ["dry: false"]),
        (b'{"deep":{"er":"x"}}', ["Deeper: x"]),
        (b'{"deep":{"er":null}}', []),
        (b'{"deep":{}}', []),
        (b'{"deep":null}', []),
        (b'{"deep":["er"]}', []),
        (b'{"er":"x"}', []),
        (
            b'{"deep":{"er":"d"},"dry":true,"count":1,"region":"r"}',
            ["Region: r", "X-Count: 1", "dry: true", "Deeper: d"],
        ),
        (rb'{"plain":"\ud83d","region":"r"}', ["Region: r"]),
        (b"{}", []),
        (b"null", []),
        (b"[]", []),
        (b'"region"', []),
    ],
)
def test_argument_headers(arguments, headers):
    found = PARAMETERS.headers(arguments)
    assert [f"{name}: {value}" for name, value in found] == [f"Mcp-Param-{header}" for header in headers]
    lines = request_headers("tools/call", members_of(b'{"name":"t","arguments":%b}' % arguments), PARAMETERS)
    expected = "".join(f"Mcp-Param-{header}\r\n" for header in headers)
    assert lines == b"Mcp-Method: tools/call\r\nMcp-Name: t\r\n" + expected.encode()


def test_no_arguments_no_headers():
    assert PARAMETERS.headers(None) == []
    assert NO_PARAMETERS.headers(b'{"region":"x"}') == []
    assert request_headers("tools/call", members_of(b'{"name":"t"}'), PARAMETERS) == (
        b"Mcp-Method: tools/call\r\nMcp-Name: t\r\n"
    )


def test_only_a_call_has_argument_headers():
    params = members_of(b'{"name":"t","arguments":{"region":"x"}}')
    assert request_headers("prompts/get", params, PARAMETERS) == b"Mcp-Method: prompts/get\r\nMcp-Name: t\r\n"


@pytest.mark.parametrize("method", ["", "a b", "a\r\nb", "é", "\x7f", "\ud83d"])
def test_a_method_that_no_header_can_name(method):
    with pytest.raises(ProtocolError) as raised:
        request_headers(method, {}, NO_PARAMETERS)
    assert raised.value.code == INVALID_REQUEST


def test_a_value_that_no_server_would_take():
    fits = b"x" * VALUE_MAX
    params = b'{"name":"t","uri":"%b","arguments":{"region":"%b"}}'
    assert len(request_headers("tools/call", members_of(params % (b"", fits)), REGION)) > VALUE_MAX
    assert len(request_headers("resources/read", members_of(params % (fits, b"")), REGION)) > VALUE_MAX
    for method, text in (("tools/call", params % (b"", fits + b"x")), ("resources/read", params % (fits + b"x", b""))):
        with pytest.raises(ProtocolError, match=f"{VALUE_MAX + 1} bytes as Mcp-") as raised:
            request_headers(method, members_of(text), REGION)
        assert raised.value.code == INVALID_PARAMS
        assert "xxx" not in raised.value.message


# ---- what is refused

HEADERS = {b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"tools/call", b"mcp-name": b"get_weather"}


def mismatch(
    headers: dict[bytes, bytes | None],
    *,
    repeated: frozenset[bytes] = NONE,
    method: str = "tools/call",
    params: bytes = WEATHER,
    version: str = "2026-07-28",
) -> str | None:
    """What `check` has against the sample's headers with these instead, None for nothing."""
    found = {name: value for name, value in {**HEADERS, **headers}.items() if value is not None}
    try:
        check(found, repeated, method=method, members=members_of(params), version=version)
    except HeaderMismatch as error:
        return error.message
    return None


def test_headers_that_fit():
    assert mismatch({}) is None
    assert mismatch({b"host": b"x", b"mcp-session-id": b"y"}, repeated=frozenset((b"accept", b"x"))) is None
    assert mismatch({b"mcp-param-region": b"anything"}) is None


def test_the_mismatch_as_the_specification_shows_it():
    with pytest.raises(HeaderMismatch) as raised:
        check(
            {**HEADERS, b"mcp-name": b"x"}, NONE, method="tools/call", members=members_of(WEATHER), version=MODERN.text
        )
    assert raised.value.encode() == (b'{"code":-32020,"message":"Mcp-Name header does not match the request body"}')


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({b"mcp-protocol-version": None}, "MCP-Protocol-Version header is missing"),
        ({b"mcp-protocol-version": b""}, "MCP-Protocol-Version header does not match"),
        ({b"mcp-protocol-version": b"2025-11-25"}, "MCP-Protocol-Version header does not match"),
        ({b"mcp-method": None}, "Mcp-Method header is missing"),
        ({b"mcp-method": b"Tools/Call"}, "Mcp-Method header does not match"),
        ({b"mcp-method": b"tools/list"}, "Mcp-Method header does not match"),
        ({b"mcp-method": b"=?base64?dG9vbHMvY2FsbA==?="}, "Mcp-Method header does not match"),
        ({b"mcp-name": None}, "Mcp-Name header is missing"),
        ({b"mcp-name": b""}, "Mcp-Name header does not match"),
        ({b"mcp-name": b"Get_weather"}, "Mcp-Name header does not match"),
        ({b"mcp-name": b'"get_weather"'}, "Mcp-Name header does not match"),
        ({b"mcp-name": b"=?base64?Z2V0X3dlYXRoZXI?="}, "Mcp-Name header does not match"),
        ({b"mcp-name": b"get_weather\xff"}, "Mcp-Name header does not match"),
        # The first one counts.
        ({b"mcp-protocol-version": None, b"mcp-method": None, b"mcp-name": None}, "MCP-Protocol-Version"),
        ({b"mcp-method": None, b"mcp-name": None}, "Mcp-Method"),
    ],
)
def test_headers_that_do_not_fit(headers, named):
    assert (mismatch(headers) or "").startswith(named)


def test_a_name_in_base64_is_the_name():
    assert mismatch({b"mcp-name": b"=?base64?Z2V0X3dlYXRoZXI=?="}) is None
    spelled = {b"mcp-method": b"resources/read", b"mcp-name": b"=?base64?ZmlsZTovLy/DqQ==?="}
    assert mismatch(spelled, method="resources/read", params='{"uri":"file:///é"}'.encode()) is None
    assert mismatch(spelled, method="resources/read", params=rb'{"uri":"file:\/\/\/\u00e9"}') is None


@pytest.mark.parametrize("name", [b"mcp-protocol-version", b"mcp-method", b"mcp-name"])
def test_headers_that_come_twice(name):
    message = mismatch({}, repeated=frozenset((name, b"accept")))
    assert message is not None
    assert message.lower() == f"{name.decode()} header comes more than once"


def test_other_versions_are_compared_as_they_are_said():
    assert mismatch({b"mcp-protocol-version": b"v999"}, version="v999") is None
    assert mismatch({b"mcp-protocol-version": "é".encode()}, version="é") is None
    assert mismatch({b"mcp-protocol-version": b"?"}, version="\ud83d") is not None
    assert mismatch({b"mcp-protocol-version": b"2026-07-28"}, version="v999") is not None


@pytest.mark.parametrize(
    "params", [b"{}", b'{"name":null}', b'{"name":1}', b'{"name":["get_weather"]}', b'{"uri":"x"}']
)
def test_a_name_that_the_body_does_not_have(params):
    assert mismatch({}, params=params) is not None
    assert mismatch({b"mcp-name": None}, params=params) is None, "that it is missing is for the method to say"


def test_methods_without_a_name_ignore_the_header():
    for method in METHODS:
        if method.client is not None and MODERN in method.client and method.name not in NAMED:
            assert mismatch({b"mcp-method": method.name.encode()}, method=method.name) is None
            assert mismatch({b"mcp-method": method.name.encode(), b"mcp-name": None}, method=method.name) is None


def against(
    parameters: Parameters, arguments: bytes | None, headers: dict[bytes, bytes], *repeated: bytes
) -> str | None:
    try:
        check_parameters(headers, frozenset(repeated), parameters, arguments)
    except HeaderMismatch as error:
        return error.message
    return None


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (b'{"region":"us-west1"}', b"us-west1"),
        (b'{"region":"us-west1"}', b"=?base64?dXMtd2VzdDE=?="),
        (rb'{"region":"\u0075s-west1"}', b"us-west1"),
        (b'{"region":""}', b""),
        (b'{"region":""}', b"=?base64??="),
        (b'{"region":42}', b"42"),
        (b'{"region":true}', b"true"),
        (b'{"region":null}', None),
        (b'{"region":{}}', None),
        (b"{}", None),
        (b"null", None),
        (b"[]", None),
        (None, None),
        (rb'{"x":"\ud83d","region":"r"}', b"r"),
    ],
)
def test_arguments_that_fit(arguments, value):
    headers = {} if value is None else {b"mcp-param-region": value}
    assert against(REGION, arguments, headers) is None


@pytest.mark.parametrize(
    ("arguments", "value", "why"),
    [
        (b'{"region":"us-west1"}', None, "is missing"),
        (b'{"region":""}', None, "is missing"),
        (b'{"region":"us-west1"}', b"us-east1", "does not match"),
        (b'{"region":"us-west1"}', b"US-WEST1", "does not match"),
        (b'{"region":"Hello"}', b"SGVsbG8=", "does not match"),
        (b'{"region":"Hello"}', b"=?base64?SGVsbG8?=", "does not match"),
        (b'{"region":"Hello"}', b"=?base64?SGVsbG9?=", "does not match"),
        (b'{"region":"\xc3\xa9"}', b"\xc3\xa9", "does not match"),
        (rb'{"region":"\ud83d"}', b"=?base64?77+9?=", "does not match"),
        (b'{"region":"42"}', b"42.0", "does not match"),
        (b'{"region":true}', b"True", "does not match"),
        (b'{"region":null}', b"x", "no argument"),
        (b'{"region":null}', b"null", "no argument"),
        (b'{"region":[]}', b"[]", "no argument"),
        (b"{}", b"", "no argument"),
        (b"null", b"x", "no argument"),
        (None, b"x", "no argument"),
    ],
)
def test_arguments_that_do_not_fit(arguments, value, why):
    message = against(REGION, arguments, {} if value is None else {b"mcp-param-region": value})
    assert message is not None
    assert message.startswith("Mcp-Param-Region header ")
    assert why in message


@pytest.mark.parametrize(
    ("number", "values"),
    [
        (b"42", [b"42", b"42.0", b"42.000", b"042", b"=?base64?NDI=?="]),
        (b"42.0", [b"42", b"42.0"]),
        (b"4.2e1", [b"42", b"42.0"]),
        (b"-7", [b"-7", b"-7.0"]),
        (b"0", [b"0", b"-0", b"0.0"]),
        (b"-0", [b"0", b"-0"]),
        (b"9007199254740993", [b"9007199254740993", b"9007199254740993.0"]),
        (b"1.5", [b"1.5", b"1.50"]),
    ],
)
def test_numbers_are_compared_as_numbers(number, values):
    for value in values:
        assert against(COUNT, b'{"count":%b}' % number, {b"mcp-param-count": value}) is None, value


@pytest.mark.parametrize(
    ("number", "values"),
    [
        (
            b"42",
            [
                b"43",
                b"42.1",
                b"",
                b"+42",
                b"4_2",
                b"0x2a",
                b"4.2e1",
                b" 42",
                b"42.",
                b".42",
                b"\xd9\xa4\xd9\xa2",
                b"nan",
            ],
        ),
        (b"9007199254740993", [b"9007199254740992", b"9007199254740994"]),
        (b"1", [b"true", b"1" * VALUE_MAX]),
        (b"1e-9999999999999999999999", [b"1"]),
        (b"9" * 5000, [b"9" * 4999]),
        (b"true", [b"1"]),
    ],
)
def test_numbers_that_differ(number, values):
    for value in values:
        assert against(COUNT, b'{"count":%b}' % number, {b"mcp-param-count": value}) is not None, value


@pytest.mark.parametrize("number", [b"9007199254740992", b"-9007199254740993", b"1" + b"0" * 400])
def test_integers_that_javascript_cannot_say_may_be_left_out(number):
    assert against(COUNT, b'{"count":%b}' % number, {}) is None
    assert against(COUNT, b'{"count":%b}' % number, {b"mcp-param-count": number}) is None
    assert against(COUNT, b'{"count":%b}' % number, {b"mcp-param-count": b"1"}) is not None


@pytest.mark.parametrize("number", [b"9007199254740991", b"-9007199254740991", b"1.5", b'"9007199254740992"', b"true"])
def test_others_may_not(number):
    assert against(COUNT, b'{"count":%b}' % number, {}) is not None


def test_numbers_that_nobody_can_count():
    assert against(COUNT, b'{"count":1e999}', {b"mcp-param-count": b"1"}) is not None
    assert against(COUNT, b'{"count":1e999}', {}) is None


def test_a_header_of_an_argument_that_comes_twice():
    headers = {b"mcp-param-region": b"r"}
    assert "more than once" in (against(REGION, b'{"region":"r"}', headers, b"mcp-param-region") or "")
    assert against(REGION, b'{"region":"r"}', headers, b"mcp-param-other", b"accept") is None


def test_headers_that_the_schema_does_not_know_are_ignored():
    assert against(REGION, b'{"region":"r"}', {b"mcp-param-region": b"r", b"mcp-param-other": b"x"}) is None
    assert against(NO_PARAMETERS, b'{"region":"r"}', {b"mcp-param-region": b"other"}) is None
    assert against(NO_PARAMETERS, None, {}) is None


ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "region": st.text(alphabet=st.characters(exclude_categories=("Cs",))),
        "count": st.integers(),
        "dry": st.booleans(),
    },
)


@SETTINGS
@given(ARGUMENTS)
def test_what_is_sent_is_accepted(arguments):
    text = json.dumps({"name": "t", "arguments": arguments}).encode()
    members = members_of(text)
    lines = request_headers("tools/call", members, PARAMETERS)
    pairs = [line.split(b": ", 1) for line in lines.removesuffix(b"\r\n").split(b"\r\n")]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs) == 2 + len(arguments)
    headers[b"mcp-protocol-version"] = b"2026-07-28"
    check(headers, NONE, method="tools/call", members=members, version="2026-07-28")
    check_parameters(headers, NONE, PARAMETERS, members["arguments"])


# ---- parameters


def test_no_parameters():
    assert not NO_PARAMETERS
    assert Parameters.read(None) is NO_PARAMETERS
    assert Parameters.read(b'{"type":"object"}') is NO_PARAMETERS
    assert Parameters.read(rb'{"description":"\u00e9"}') is NO_PARAMETERS


def test_parameters():
    assert PARAMETERS
    assert Parameters.read(SCHEMA) == PARAMETERS
    assert PARAMETERS != REGION
    assert hash(PARAMETERS) == hash(Parameters.read(SCHEMA))
    assert len({PARAMETERS, REGION, Parameters.read(SCHEMA)}) == 2
    assert repr(REGION) == "<Parameters Mcp-Param-Region>"
    assert repr(NO_PARAMETERS) == "<Parameters none>"


def test_a_schema_that_breaks_a_rule_says_why():
    with pytest.raises(ValueError, match="'region'"):
        Parameters.read(b'{"properties":{"region":{"type":"number","x-mcp-header":"Region"}}}')


def test_as_many_headers_as_a_head_takes():
    """h11 refuses a head of more than a hundred headers, so what a schema may ask for must leave room."""
    assert MARKS_MAX + 20 < 100
