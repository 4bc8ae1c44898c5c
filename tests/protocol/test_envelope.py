"""The envelope: told from other params, read with every fault named, written toward a backend."""

from __future__ import annotations

import json

import pytest

from mcpd.errors import INVALID_PARAMS, UNSUPPORTED_VERSION, ProtocolError
from mcpd.protocol import envelope
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import NOTHING, ClientCapability
from mcpd.protocol.convert import drop_modern
from mcpd.protocol.envelope import (
    CAPABILITIES,
    CLIENT_INFO,
    LOG_LEVEL,
    PREFIX,
    REMEMBERED_MAX,
    VERSION,
    VERSION_SHOWN,
    Envelope,
    UnsupportedVersion,
    is_modern,
    read,
    require_supported,
    stamp,
)
from mcpd.protocol.jsonrpc import decode_from_client, encode_members, members_of
from mcpd.protocol.scanner import PARTS_MAX

C = ClientCapability

SAMPLE = (
    b'{"jsonrpc":"2.0","id":"a1","method":"tools/call","params":{"name":"get_weather","arguments":{"region":"us-west1"},'
    b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":'
    b'{"elicitation":{}},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"progressToken":"p1"}}}'
)
"""A request as the specification shows it."""

V = b'"io.modelcontextprotocol/protocolVersion"'
CAPS = b'"io.modelcontextprotocol/clientCapabilities"'
INFO = b'"io.modelcontextprotocol/clientInfo"'
LEVEL = b'"io.modelcontextprotocol/logLevel"'
PAIR = V + b':"2026-07-28",' + CAPS + b":{}"


def params(meta: bytes):
    return members_of(b'{"name":"t","_meta":%b}' % meta)


def fault(meta: bytes) -> str:
    with pytest.raises(ProtocolError) as raised:
        read(params(meta))
    assert (raised.value.code, raised.value.http_status) == (INVALID_PARAMS, 400)
    return raised.value.message


# ---- is it one?


def test_the_sample():
    message = decode_from_client(SAMPLE)
    assert is_modern(message.params)
    found = read(members_of(message.params))
    assert found == Envelope(
        version_text="2026-07-28",
        capabilities=C.ELICITATION_FORM,
        extensions=None,
        client_info=b'{"name":"c","version":"1"}',
        log_level=None,
    )
    require_supported(found)


@pytest.mark.parametrize(
    "text",
    [
        b'{"_meta":{%b:"2026-07-28"}}' % V,
        b'{"_meta":{%b:"v999"}}' % V,
        b'{"_meta":{%b:null}}' % V,
        b'{"_meta":{%b:[]}}' % V,
        b' { "_meta" : { %b : 1 } } ' % V,
        # Other spellings of the same names.
        rb'{"_meta":{"io.modelcontextprotocol\/protocolVersion":"2026-07-28"}}',
        rb'{"_meta":{"io.modelcontextprotocol/\u0070rotocolVersion":"2026-07-28"}}',
        rb'{"\u005fmeta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}',
        # What msgspec does not scan.
        rb'{"x":"\ud83d","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}',
        rb'{"_meta":{"y":"\ud83d","io.modelcontextprotocol/protocolVersion":"2026-07-28"}}',
        # The last of two counts, as for every reader here.
        b'{"_meta":{},"_meta":{%b:1}}' % V,
    ],
)
def test_modern(text):
    assert is_modern(text)
    assert is_modern(members_of(b'{"params":%b}' % text)["params"])


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"{}",
        b"[]",
        b"null",
        b"1",
        b'"_meta"',
        b"{",
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"_meta":' + b"[" * 100_000,
        b'{"_meta":null}',
        b'{"_meta":[]}',
        b'{"_meta":"io.modelcontextprotocol/protocolVersion"}',
        b'{"_meta":{}}',
        b'{"_meta":{%b:{}}}' % CAPS,
        b'{"_meta":{"protocolVersion":"2026-07-28"}}',
        b'{"_meta":{"io.modelcontextprotocol/protocolversion":"2026-07-28"}}',
        # Elsewhere it means nothing.
        b'{%b:"2026-07-28"}' % V,
        b'{"arguments":{"_meta":{%b:"2026-07-28"}}}' % V,
        b'{"_meta":{"a":{%b:"2026-07-28"}}}' % V,
        b'{"_meta":{%b:1},"_meta":{}}' % V,
        b'{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}',
        rb'{"x":"\ud83d","_meta":{}}',
    ],
)
def test_not_modern(text):
    assert not is_modern(text)


# ---- reading


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (b"{}", NOTHING),
        (b'{"roots":{},"sampling":{"tools":{}}}', C.ROOTS | C.SAMPLING | C.SAMPLING_TOOLS),
        (b'{"elicitation":{"url":{}}}', C.ELICITATION_URL),
        (rb'{"sampling":{},"experimental":{"x":"\ud83d"}}', C.SAMPLING),
    ],
)
def test_capabilities(text, flags):
    found = read(params(b'{%b:"2026-07-28",%b:%b}' % (V, CAPS, text)))
    assert (found.capabilities, found.extensions) == (flags, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a.b/c":{"x": 1.50}}', b'{"a.b/c":{"x": 1.50}}'),
        (b"{}", None),
        (b"{ }", None),
        (b"null", None),
    ],
)
def test_extensions(text, expected):
    assert read(params(b'{%b:"2026-07-28",%b:{"extensions":%b}}' % (V, CAPS, text))).extensions == expected


@pytest.mark.parametrize("index", range(len(LOG_LEVELS)))
def test_log_level(index):
    text = b'{%b,%b:"%b"}' % (PAIR, LEVEL, LOG_LEVELS[index].encode())
    assert read(params(text)).log_level == index


def test_what_is_null_is_not_there():
    found = read(params(b"{%b,%b:null,%b:null}" % (PAIR, INFO, LEVEL)))
    assert (found.client_info, found.log_level) == (None, None)


def test_client_info_is_taken_as_it_is():
    assert read(params(b'{%b,%b:{ "x":1.0}}' % (PAIR, INFO))).client_info == b'{ "x":1.0}'


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25", "2027-01-01", "v999.0.0", "", "é"])
def test_any_version_is_read(version):
    text = b"{%b:%b,%b:{}}" % (V, json.dumps(version).encode(), CAPS)
    assert read(params(text)).version_text == version


@pytest.mark.parametrize(
    ("meta", "named"),
    [
        (b"{}", [VERSION, CAPABILITIES]),
        (b'{%b:"2026-07-28"}' % V, [CAPABILITIES]),
        (b"{%b:{}}" % CAPS, [VERSION]),
        (b"null", ["params._meta", "object"]),
        (b"[]", ["params._meta", "object"]),
        (b'"x"', ["params._meta", "object"]),
        (b"{%b:1,%b:{}}" % (V, CAPS), [VERSION, "string"]),
        (b"{%b:null,%b:{}}" % (V, CAPS), [VERSION, "string"]),
        (rb'{%b:"\ud83d",%b:{}}' % (V, CAPS), [VERSION, "string"]),
        (b'{%b:"2026-07-28",%b:null}' % (V, CAPS), [CAPABILITIES, "object"]),
        (b'{%b:"2026-07-28",%b:[]}' % (V, CAPS), [CAPABILITIES, "object"]),
        (b'{%b:"2026-07-28",%b:"{}"}' % (V, CAPS), [CAPABILITIES, "object"]),
        (b'{%b:"2026-07-28",%b:{"extensions":[]}}' % (V, CAPS), [CAPABILITIES, "extensions", "object"]),
        (b'{%b,%b:"me"}' % (PAIR, INFO), [CLIENT_INFO, "object"]),
        (b"{%b,%b:[]}" % (PAIR, INFO), [CLIENT_INFO, "object"]),
        (b'{%b,%b:"loud"}' % (PAIR, LEVEL), [LOG_LEVEL, "debug, info, notice"]),
        (b'{%b,%b:"INFO"}' % (PAIR, LEVEL), [LOG_LEVEL]),
        (b"{%b,%b:1}" % (PAIR, LEVEL), [LOG_LEVEL]),
        (b"{%b,%b:{}}" % (PAIR, LEVEL), [LOG_LEVEL]),
    ],
)
def test_what_is_wrong_is_named(meta, named):
    message = fault(meta)
    assert all(word in message for word in named), message
    others = {VERSION, CAPABILITIES, CLIENT_INFO, LOG_LEVEL} - set(named)
    assert not any(other in message for other in others), message


def test_no_meta_at_all():
    with pytest.raises(ProtocolError) as raised:
        read({})
    assert raised.value.message == f"params._meta has no {VERSION} and no {CAPABILITIES}"


@pytest.mark.parametrize(
    "extra",
    [
        V + b':"2026-07-28"',
        CAPS + b":{}",
        rb'"io.modelcontextprotocol\/clientCapabilities":{"sampling":{}}',
        rb'"io.modelcontextprotocol/clientCapabilitie\u0073":{}',
        rb'"\u0069o.modelcontextprotocol/protocolVersion":"2025-11-25"',
        INFO + b":{}," + INFO + b":{}",
        LEVEL + b':"info",' + LEVEL + b':"debug"',
    ],
)
def test_a_key_that_comes_twice_is_refused(extra):
    assert "twice" in fault(b"{%b,%b}" % (PAIR, extra))
    assert "twice" in fault(b"{%b,%b}" % (extra, PAIR))


@pytest.mark.parametrize(
    "extra",
    [
        b'"a":{%b:1,"b":[%b,%b]}' % (V, V, CAPS),
        b'"a":"%b"' % PREFIX.encode(),
        rb'"quote":"say \"io.modelcontextprotocol/protocolVersion\""',
        rb'"half":"\ud83d"',
        INFO + b':{"name":"io.modelcontextprotocol/clientInfo"}',
        b'"io.modelcontextprotocol/new":1',
    ],
)
def test_the_same_words_inside_values_harm_nobody(extra):
    assert read(params(b"{%b,%b}" % (PAIR, extra))).version_text == "2026-07-28"


def test_other_spellings_are_the_same_keys():
    text = (
        rb'{"io.modelcontextprotocol\/protocolVersion":"2026-07-28","io.modelcontextprotocol\/clientCapabilities":{}}'
    )
    assert read(params(text)) == read(params(b"{%b}" % PAIR))


def test_a_crowd_of_members_is_not_looked_through_one_by_one():
    crowd = b",".join(b'"%d":0' % number for number in range(PARTS_MAX))
    assert read(params(b"{%b,%b}" % (PAIR, crowd))).version_text == "2026-07-28"
    assert "told apart" in fault(rb'{%b,%b,"x":"\n"}' % (PAIR, crowd))


def test_an_envelope_is_remembered_by_its_text():
    text = b'{%b,"x":"remembered"}' % PAIR
    assert read(params(text)) is read(params(text))
    assert read(params(text)) == read(params(text + b" "))


def test_a_fault_is_not_remembered_as_something_else():
    assert fault(b"{%b:1}" % V) == fault(b"{%b:1}" % V)


def test_a_large_one_is_read_and_not_remembered():
    before = envelope._remembered.cache_info()
    text = b'{%b,"x":"%b"}' % (PAIR, b"x" * REMEMBERED_MAX)
    assert read(params(text)) == read(params(text))
    assert read(params(text)) is not read(params(text))
    text = b'{%b:"2026-07-28",%b:{"sampling":{},"x":"%b"}}' % (V, CAPS, b"x" * REMEMBERED_MAX)
    assert read(params(text)).capabilities == C.SAMPLING
    after = envelope._remembered.cache_info()
    assert (after.hits, after.misses) == (before.hits, before.misses)


def test_what_is_remembered_is_bounded():
    for number in range(envelope.REMEMBERED + 10):
        read(params(b'{%b:"2026-07-28",%b:{"x":%d}}' % (V, CAPS, number)))
    assert envelope._remembered.cache_info().currsize == envelope.REMEMBERED
    assert envelope._capabilities.cache_info().currsize == envelope.REMEMBERED


# ---- the version


@pytest.mark.parametrize("version", ["2027-01-01", "2025-11-25", "", "2026-07-28 ", "v999.0.0"])
def test_another_version_is_refused_by_name(version):
    found = Envelope(version_text=version, capabilities=NOTHING, extensions=None, client_info=None, log_level=None)
    with pytest.raises(UnsupportedVersion) as raised:
        require_supported(found)
    error = raised.value
    assert (error.code, error.http_status) == (UNSUPPORTED_VERSION, 400)
    assert json.loads(error.encode()) == {
        "code": -32022,
        "message": "Unsupported protocol version",
        "data": {"supported": ["2026-07-28"], "requested": version},
    }


def test_the_refusal_as_the_specification_shows_it():
    assert UnsupportedVersion("2027-01-01").encode() == (
        b'{"code":-32022,"message":"Unsupported protocol version",'
        b'"data":{"supported":["2026-07-28"],"requested":"2027-01-01"}}'
    )


def test_a_long_version_is_not_repeated_whole():
    assert json.loads(UnsupportedVersion("v" * 10_000).data or b"")["requested"] == "v" * VERSION_SHOWN


# ---- writing

ME = b'{"name":"mcpd","version":"1"}'


def stamped(text: bytes, log_level=None, token=None, capabilities=b"{}") -> bytes:
    members = members_of(text)
    before = encode_members(members)
    out = encode_members(stamp(members, capabilities=capabilities, client_info=ME, log_level=log_level, token=token))
    assert encode_members(members) == before, "params are somebody else's"
    return out


ENVELOPE = (
    b'"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},'
    b'"io.modelcontextprotocol/clientInfo":{"name":"mcpd","version":"1"}'
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"{}", b'{"_meta":{%b}}'),
        (b'{"name":"t"}', b'{"name":"t","_meta":{%b}}'),
        (b'{"_meta":{},"name":"t"}', b'{"_meta":{%b},"name":"t"}'),
        (b'{"_meta":null}', b'{"_meta":{%b}}'),
        (b'{"_meta":[1]}', b'{"_meta":{%b}}'),
        (b'{"_meta":{"progressToken":1}}', b'{"_meta":{%b}}'),
        (b'{"_meta":{"traceparent":"00-1","a.b/c": 1.50}}', b'{"_meta":{%b,"traceparent":"00-1","a.b/c":1.50}}'),
        (rb'{"_meta":{"x":"\ud83d"}}', rb'{"_meta":{%b,"x":"\ud83d"}}'),
        (rb'{"name":"\ud83d","n":1e2}', rb'{"name":"\ud83d","n":1e2,"_meta":{%b}}'),
    ],
)
def test_stamp(text, expected):
    assert stamped(text) == expected % ENVELOPE


def test_stamp_says_level_and_token():
    assert stamped(b'{"_meta":{"k":1}}', "warning", 7) == (
        b'{"_meta":{%b,"io.modelcontextprotocol/logLevel":"warning","progressToken":7,"k":1}}' % ENVELOPE
    )
    assert stamped(b"{}", token=0) == b'{"_meta":{%b,"progressToken":0}}' % ENVELOPE


def test_what_the_client_said_of_itself_does_not_cross():
    every = b",".join(
        b'"io.modelcontextprotocol/%b":"theirs"' % name
        for name in (
            b"protocolVersion",
            b"clientCapabilities",
            b"clientInfo",
            b"logLevel",
            b"serverInfo",
            b"subscriptionId",
            b"related-task",
        )
    )
    text = b'{"_meta":{%b,"progressToken":"p1","tracestate":"x"}}' % every
    assert stamped(text) == b'{"_meta":{%b,"tracestate":"x"}}' % ENVELOPE


def test_unknown_keys_of_the_protocol_cross_within_a_version_only():
    unknown = b'"io.modelcontextprotocol/new":1'
    assert stamped(b'{"_meta":{%b,%b}}' % (PAIR, unknown)) == b'{"_meta":{%b,%b}}' % (ENVELOPE, unknown)
    assert stamped(b'{"_meta":{%b,"a/b":2}}' % unknown) == b'{"_meta":{%b,"a/b":2}}' % ENVELOPE


def test_a_key_spelled_otherwise_does_not_smuggle():
    text = rb'{"_meta":{"io.modelcontextprotocol\/clientCapabilities":{"sampling":{}},"progressToke\u006e":1}}'
    assert stamped(text) == b'{"_meta":{%b}}' % ENVELOPE


@pytest.mark.parametrize("level", [None, *LOG_LEVELS])
def test_what_is_stamped_is_read(level):
    capabilities = b'{"sampling":{},"extensions":{"a.b/c":{}}}'
    text = stamped(b'{"name":"t","_meta":{"a/b":1}}', level, 3, capabilities)
    assert is_modern(text)
    found = read(members_of(text))
    assert found == Envelope(
        version_text="2026-07-28",
        capabilities=C.SAMPLING,
        extensions=b'{"a.b/c":{}}',
        client_info=ME,
        log_level=None if level is None else LOG_LEVELS.index(level),
    )
    require_supported(found)


@pytest.mark.parametrize("key", envelope.MODERN_META)
def test_meta_of_modern_only(key):
    assert drop_modern(b'{"_meta":{"%b":1,"a.example/b":2}}' % key.encode()) == b'{"_meta":{"a.example/b":2}}'
    assert drop_modern(b'{"x":1,"_meta":{"%b":1}}' % key.encode()) == b'{"x":1}'
    members = members_of(b'{"requestState":"s","_meta":{"%b":1}}' % key.encode())
    assert envelope.drop_envelope(members)
    assert list(members) == ["requestState"], "no more than the envelope"
    assert not envelope.drop_envelope(members)
