"""Envelopes: what is refused and how, and that everything else passes byte for byte."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from mcpd.errors import INVALID_REQUEST, PARSE_ERROR, ProtocolError
from mcpd.protocol import jsonrpc
from mcpd.protocol.jsonrpc import (
    BATCH_MAX,
    ID_MAX,
    LOOK_TWICE,
    MEMBERS_MAX,
    METHOD_MAX,
    decode,
    decode_from_client,
    decode_many,
    encode_members,
    is_array,
    is_compact,
    members_of,
    refuse_duplicate,
    refuse_escaped,
)
from mcpd.protocol.methods import METHODS

BOTH = [decode, decode_from_client]
MIB = 1024 * 1024


def refusal(function, *arguments):
    """Code and message of the ProtocolError that the function raises."""
    with pytest.raises(ProtocolError) as caught:
        function(*arguments)
    assert caught.value.http_status == 400
    return caught.value.code, caught.value.message


def code_of(function, *arguments):
    return refusal(function, *arguments)[0]


# ---- what a message is -------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", BOTH)
def test_kinds(read):
    request = read(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}')
    assert (request.method, request.id, request.is_request, request.is_response) == (
        "tools/call",
        b"7",
        True,
        False,
    )
    assert bytes(request.params) == b'{"name":"x"}'
    notification = read(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert (notification.id, notification.is_request, notification.is_response) == (None, False, False)
    assert notification.params is None
    result = read(b'{"jsonrpc":"2.0","id":7,"result":{}}')
    assert (result.method, result.id, result.is_request, result.is_response) == (None, b"7", False, True)
    error = read(b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}')
    assert (error.method, error.id, error.is_response) == (None, b"null", True)
    assert repr(request) == "<tools/call id=b'7'>"
    assert repr(error) == "<response id=b'null'>"


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize("space", [b"", b" ", b"\r\n\t "])
def test_whitespace_between_tokens(read, space):
    tokens = [
        token.encode()
        for token in [
            "{",
            '"jsonrpc"',
            ":",
            '"2.0"',
            ",",
            '"id"',
            ":",
            "1",
            ",",
            '"method"',
            ":",
            '"ping"',
            "}",
        ]
    ]
    message = read(space.join((b"", *tokens, b"")))
    assert (message.method, message.id) == ("ping", b"1")


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize("method", [method.name for method in METHODS])
def test_every_method_by_either_road(read, method):
    plain = read(b'{"jsonrpc":"2.0","method":"%b"}' % method.encode())
    escaped = read(b'{"jsonrpc":"2.0","method":"%b"}' % method.replace("/", "\\/").encode())
    assert plain.method == escaped.method == method


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", PARSE_ERROR),
        (b" \n", PARSE_ERROR),
        (b"hello", PARSE_ERROR),
        (b"nul", PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x"', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x"}}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x",}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x"}{"jsonrpc":"2.0","method":"x"}', PARSE_ERROR),
        (b"{'jsonrpc':'2.0'}", PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x",/* no */"id":1}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x\ny"}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x","params":{"a":NaN}}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x","params":{"a":-Infinity}}', PARSE_ERROR),
        (rb'{"jsonrpc":"2.0","method":"x","params":{"a":NaN,"b":"\ud83d"}}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x","params":{"a":01}}', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","method":"x","params":{"a":+1}}', PARSE_ERROR),
        (b'\xef\xbb\xbf{"jsonrpc":"2.0","method":"x"}', PARSE_ERROR),
        (b"\x00", PARSE_ERROR),  # and above, a byte order mark, which is the framing's affair
        (b"null", INVALID_REQUEST),
        (b"true", INVALID_REQUEST),
        (b"1", INVALID_REQUEST),
        (b'"x"', INVALID_REQUEST),
        (b"[]", INVALID_REQUEST),
        (b"{}", INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":null}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":1}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":{}}', INVALID_REQUEST),
        (rb'{"jsonrpc":"2.0","id":1,"method":"\ud83d"}', INVALID_REQUEST),
    ],
)
def test_refused_by_both(read, text, code):
    assert code_of(read, text) == code


@pytest.mark.parametrize(
    "version", [b"", b'"jsonrpc":"1.0",', b'"jsonrpc":2.0,', b'"jsonrpc":null,', b'"jsonrpc":"2",']
)
def test_another_json_rpc(version):
    text = b'{%b"id":1,"method":"ping"}' % version
    assert refusal(decode_from_client, text) == (INVALID_REQUEST, 'a message has "jsonrpc": "2.0"')
    assert decode(text).method == "ping"  # a backend may be sloppy about what it need not say


# ---- ids ---------------------------------------------------------------------------------------------------

IDS = [
    b"0",
    b"-0",
    b"1",
    b"1.0",
    b"-7",
    b"1e3",
    b"0.5",
    b"9007199254740993",
    b"123456789012345678901234567890",
    b"1E+400",
    b'""',
    b'"1"',
    b'"a b"',
    b'"\\u0031"',
    b'"\\"\\\\\\/"',
    rb'"\ud83d"',
    '"é😀"'.encode(),
    b'"%b"' % (b"x" * (ID_MAX - 2)),
]


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize("id", IDS, ids=lambda id: id[:20].decode("latin-1"))
def test_ids_keep_their_spelling(read, id):
    request = read(b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % id)
    assert request.id == id
    answer = b"".join(jsonrpc.result(request.id, b"{}"))
    assert answer == b'{"jsonrpc":"2.0","id":%b,"result":{}}' % id
    assert read(answer).id == id


def test_spellings_are_different_ids():
    assert len({decode(b'{"id":%b,"method":"ping"}' % id).id for id in IDS}) == len(IDS)


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize(
    "id", [b"null", b"true", b"false", b"{}", b"[1]", b'"%b"' % (b"x" * (ID_MAX - 1)), b"1" * (ID_MAX + 1)]
)
def test_not_an_id(read, id):
    assert code_of(read, b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % id) == INVALID_REQUEST


@pytest.mark.parametrize("id", [b"null", b"true", b'"server-error"', b"{}"])
def test_odd_ids_of_responses_are_read(id):
    """Whose they are is decided by who looks them up: servers send `null` and "server-error"."""
    assert decode(b'{"jsonrpc":"2.0","id":%b,"error":{}}' % id).id == id


# ---- null members, and both of two -------------------------------------------------------------------------


@pytest.mark.parametrize("read", BOTH)
def test_null_members_are_absent(read):
    request = read(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":null,"result":null,"error":null}')
    assert (request.method, request.params, list(request.members)) == (
        "ping",
        None,
        ["jsonrpc", "id", "method"],
    )
    response = read(b'{"jsonrpc":"2.0","id":1,"method":null,"result":{"a":1},"error":null}')
    assert (response.method, list(response.members)) == (None, ["jsonrpc", "id", "result"])
    failure = read(b'{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1}}')
    assert list(failure.members) == ["jsonrpc", "id", "error"]


@pytest.mark.parametrize("read", BOTH)
def test_null_result_alone_is_a_result(read):
    """Some servers answer logging/setLevel so."""
    assert bytes(read(b'{"jsonrpc":"2.0","id":1,"result":null}').members["result"]) == b"null"


@pytest.mark.parametrize("read", BOTH)
def test_result_and_error(read):
    both = read(b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1}}')
    assert list(both.members) == ["jsonrpc", "id", "error"]


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize("extra", [b'"result":{}', b'"error":{}', b'"result":0'])
def test_request_and_response_in_one(read, extra):
    assert code_of(read, b'{"jsonrpc":"2.0","id":1,"method":"ping",%b}' % extra) == INVALID_REQUEST


# ---- two parsers must not disagree -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":"id","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"id":"id","method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{"method":1}}',
        b'{"jsonrpc":"2.0" , "method" : "a" , "method" : "b"}',
        rb'{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/call"}',
        rb'{"jsonrpc":"2.0","id":1,"\u006Dethod":"ping"}',
        rb'{"jsonrpc":"2.0","\u0069d":1,"method":"ping"}',
        rb'{"jsonrpc":"2.0","id":1,"method":"ping","para\u006ds":{}}',
    ],
)
@pytest.mark.parametrize("padding", [0, 2 * LOOK_TWICE])
def test_ambiguous_members_are_refused(text, padding):
    text = text[:-1] + b',"padding":"%b"}' % (b"x" * padding)
    assert code_of(decode_from_client, text) == INVALID_REQUEST
    assert decode(text).members["jsonrpc"] == Raw(b'"2.0"')  # a backend is not routed by what it says


@pytest.mark.parametrize(
    "params",
    [
        b'{"id":1,"method":"x","params":{}}',
        b'{"name":"a","arguments":{"name":"b","id":2,"method":"c","params":3}}',
        b'{"x":[{"id":1},{"id":2},"\\"id\\":","method","method"]}',
        rb'{"\u006dethod":"x","\u0069\u0064":[1,"\u0061"]}',
        b'["method","id","params"]',
        b'"method"',
    ],
)
@pytest.mark.parametrize("padding", [0, 2 * LOOK_TWICE])
@pytest.mark.parametrize("space", [b"", b" "])
def test_the_same_words_inside_values_are_not(params, padding, space):
    text = b'{"jsonrpc":"2.0",%b"id":1,"method":"x","padding":"%b","params":%b}' % (
        space,
        b"x" * padding,
        params,
    )
    assert bytes(decode_from_client(text).params) == params


def test_a_value_that_spells_a_routing_member():
    message = decode_from_client(b'{"jsonrpc":"2.0","id":"id","method":"method","params":"params"}')
    assert (message.id, message.method) == (b'"id"', "method")


@pytest.mark.parametrize(
    ("params", "fine"),
    [
        (b'{"name":"a","arguments":{"name":"b"}}', True),
        (b'{"arguments":{"name":"b","x":[{"name":1},{"name":2}]},"name":"a"}', True),
        (b'{"name":"name"}', True),
        (b'{"arguments":{"name":"b"}}', True),
        (b'{"name":"a","name":"b"}', False),
        (b'{"name":"a","arguments":{},"name":"a"}', False),
        (b'{"name":"name","name":"b"}', False),
    ],
)
def test_refuse_duplicate(params, fine):
    for text in (params, Raw(params)):
        if fine:
            refuse_duplicate(text, members_of(text), b'"name"')
        else:
            assert code_of(refuse_duplicate, text, members_of(text), b'"name"') == INVALID_REQUEST


def test_refuse_escaped():
    for params in (b'{"name":"\\u006e"}', b'{"na":1,"x":{"n\\u0061me":2}}', b'{"caf\\u00e9":1}', b"{}"):
        refuse_escaped(params, members_of(params))
    assert code_of(refuse_escaped, Raw(rb'{"n\u0061me":1}'), members_of(rb'{"n\u0061me":1}')) == INVALID_REQUEST


NAMES = st.sampled_from(["id", "method", "params", "jsonrpc", "", "a", 'a"id"', "é", "\ud83d", "x\\u0069", "\n"])
SPELLINGS = st.sampled_from(
    [
        lambda name: json.dumps(name),
        lambda name: json.dumps(name, ensure_ascii=False).encode("utf-8", "replace").decode(),
        lambda name: '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"',
        lambda name: '"' + "".join(f"\\u{ord(letter):04X}" for letter in name[:1]) + json.dumps(name[1:])[1:],
    ]
)
MEMBERS = st.lists(
    st.tuples(NAMES, SPELLINGS, st.sampled_from(['"id"', "1", '{"method":"id"}', '"x"']) | NAMES.map(json.dumps))
)


@pytest.mark.slow
@given(MEMBERS, st.sampled_from(["", " "]))
@settings(max_examples=400, derandomize=True, database=None, deadline=None)
def test_no_second_spelling_gets_through(members, space):
    """An object as short as its members allow holds no second spelling; one with a second spelling is
    refused."""
    text = "{" + ",".join(f"{space}{spell(name)}:{value}" for name, spell, value in members) + "}"
    data = text.encode()
    names = [json.loads(spell(name)) for name, spell, _value in members]
    found = members_of_or_none(data)
    if found is None:
        return
    repeated = {name for name in names if names.count(name) > 1}
    if is_compact(data, found):
        assert not repeated
        assert "\\u0069" not in "".join(spell(name) for name, spell, _value in members if name == "id")
    for name in ("id", "method", "params"):
        if name in repeated:
            try:
                refuse_duplicate(data, found, b'"%b"' % name.encode())
            except ProtocolError:
                continue
            assert code_of(refuse_escaped, data, found) == INVALID_REQUEST


def members_of_or_none(data):
    try:
        return members_of(data)
    except ProtocolError:
        return None


# ---- text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [b'"params":{"a":"%b"}', b'"%b":1', b'"params":{"%b":1}'])
@pytest.mark.parametrize("junk", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_invalid_utf_8(place, junk):
    text = b'{"jsonrpc":"2.0","id":1,"method":"ping",%b}' % (place % junk)
    code, words = refusal(decode_from_client, text)
    assert code == PARSE_ERROR
    assert "not valid UTF-8 at byte" in words
    message = decode(text)
    assert message.id == b"1"
    passed = encode_members(message.members).decode()  # clean, however strictly the client reads
    assert "\ufffd" in passed


def test_invalid_utf_8_costs_a_backend_nothing_but_the_bytes():
    message = decode(Raw(b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"caf\xe9"}],"n":1.0}}'))
    assert bytes(message.members["result"]).decode() == '{"content":[{"type":"text","text":"caf\ufffd"}],"n":1.0}'


@pytest.mark.parametrize("read", BOTH)
def test_lone_surrogates_pass(read):
    params = rb'{"text":"ab\ud83d","\udc00":["\uD800",1.0,{"x":"\ud83d\ude00"}]}'
    message = read(rb'{"jsonrpc":"2.0","id":"\ud83d","method":"ping","params":' + params + rb',"\udfff":1}')
    assert bytes(message.params) == params
    assert message.id == rb'"\ud83d"'
    assert encode_members(message.members).endswith(rb'"\udfff":1}')
    inner = members_of(message.params)
    assert list(inner) == ["text", "\udc00"]
    assert encode_members(inner) == params


@pytest.mark.parametrize("read", BOTH)
def test_surrogates_do_not_hide_duplicates(read):
    text = rb'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping","params":{"a":"\ud83d"}}'
    assert code_of(read, text) in (PARSE_ERROR, INVALID_REQUEST)


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize(
    "text",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":' + b"[" * 10 * MIB,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        rb'{"x":"\ud83d","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["closed", "open", "objects", "slow road"],
)
def test_deep_nesting(read, text):
    assert refusal(read, text) == (PARSE_ERROR, "not valid JSON: nested too deeply")


def test_nesting_that_people_use():
    params = b'{"a":' * 200 + b"[" * 200 + b"]" * 200 + b"}" * 200
    assert bytes(decode_from_client(b'{"jsonrpc":"2.0","id":1,"method":"x","params":%b}' % params).params) == params


# ---- bounds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", BOTH)
def test_long_method(read):
    fits = b"x" * METHOD_MAX
    assert read(b'{"jsonrpc":"2.0","method":"%b"}' % fits).method == fits.decode()
    assert code_of(read, b'{"jsonrpc":"2.0","method":"%bx"}' % fits) == INVALID_REQUEST


def test_many_members():
    def text(count):
        return b'{"jsonrpc":"2.0","method":"x"%b}' % b"".join(b',"%d":1' % number for number in range(count - 2))

    assert len(decode_from_client(text(MEMBERS_MAX)).members) == MEMBERS_MAX
    assert code_of(decode_from_client, text(MEMBERS_MAX + 1)) == INVALID_REQUEST
    assert len(decode(text(MEMBERS_MAX + 1)).members) == MEMBERS_MAX + 1


# ---- batches -----------------------------------------------------------------------------------------------

PING = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}'


def test_batch():
    found = decode_many(
        b' [ %b ,7, {}, [%b], %b, {"jsonrpc":"2.0","id":1,"id":2,"method":"x"}, "x" ]\n'
        % (PING % 1, PING % 2, PING % 3)
    )
    assert [message.id if isinstance(message, jsonrpc.Message) else message.code for message in found] == [
        b"1",
        INVALID_REQUEST,
        INVALID_REQUEST,
        INVALID_REQUEST,
        b"3",
        INVALID_REQUEST,
        INVALID_REQUEST,
    ]


def test_batch_by_another_reader():
    sloppy = b'[{"id":1,"result":{"text":"\xff"}},{"id":2,"result":{}}]'
    assert [type(message) for message in decode_many(sloppy)] == [ProtocolError, ProtocolError]
    assert [message.id for message in decode_many(sloppy, decode)] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"[]", INVALID_REQUEST),
        (b" [ ] ", INVALID_REQUEST),
        (b"{}", INVALID_REQUEST),
        (b"[", PARSE_ERROR),
        (b"[%b" % (PING % 1), PARSE_ERROR),
        (b"[%b,]" % (PING % 1), PARSE_ERROR),
        (b"[NaN]", PARSE_ERROR),
        (b"[" * 100_000, PARSE_ERROR),
        (rb'["\ud83d"' + b',"x"]]', PARSE_ERROR),
        (rb'["\ud83d",' + b"1," * BATCH_MAX + b"1]", PARSE_ERROR),
    ],
)
def test_bad_arrays(text, code):
    assert code_of(decode_many, text) == code


def test_longest_batch():
    assert len(decode_many(b"[%b]" % b",".join(PING % number for number in range(BATCH_MAX)))) == BATCH_MAX
    code, words = refusal(decode_many, b"[%b]" % b",".join(PING % number for number in range(BATCH_MAX + 1)))
    assert (code, str(BATCH_MAX) in words) == (INVALID_REQUEST, True)


def test_an_endless_batch_costs_nothing():
    text = b"[" + b"1," * MIB + b"1]"
    tracemalloc.start()
    assert code_of(decode_many, text) == INVALID_REQUEST
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB


def test_a_cut_emoji_in_a_batch():
    """One message with it does not spoil the others."""
    other = rb'{"jsonrpc":"2.0","id":2,"method":"ping","params":{"a":"\ud83d"}}'
    assert [message.id for message in decode_many(b"[%b,%b]" % (PING % 1, other))] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[", True),
        (b" \t\r\n[1]", True),
        (b" " * 1000 + b"[]", True),
        (b"{}", False),
        (b"", False),
        (b" " * 1000, False),
        (b"\x0b[", False),
        (b'"["', False),
        (b"x[", False),
    ],
)
def test_is_array(text, expected):
    assert is_array(text) is expected


# ---- objects inside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"null", INVALID_REQUEST),
        (b"[]", INVALID_REQUEST),
        (b'"x"', INVALID_REQUEST),
        (b"{", PARSE_ERROR),
        (b'{"\xff":1}', PARSE_ERROR),
        (b'{"a":' * 5000, PARSE_ERROR),
    ],
)
def test_no_members(text, code):
    assert code_of(members_of, text) == code
    assert code_of(members_of, Raw(text)) == code


def test_members_keep_order_and_spelling():
    text = b'{"z":1.0,"name":"\\u0041","a":{ "b":1, "a":2, "b":3 },"":1e999,"_meta":{}}'
    assert encode_members(members_of(text)) == text
    assert encode_members({}) == b"{}"
    assert encode_members({"a": b"1", 'q"\n': Raw(b"2")}) == b'{"a":1,"q\\"\\n":2}'


# ---- pass-through ------------------------------------------------------------------------------------------

SPACE = st.sampled_from(["", "", " ", "\n", "\t", "\r\n  "])
NUMBERS = st.sampled_from(
    ["0", "-0", "1.0", "1e5", "1E-400", "1e+999", "123456789012345678901234567890.5", "0.10", "-1.50e+007"]
)
LETTERS = st.sampled_from(
    [
        *("a", " ", "/", "é", "😀", "\u2028", r"\u0061", r"\/", r"\n", r"\u000a", r"\u00e9"),
        *(r"\ud83d\ude00", r"\uD83D", r"\"", r"\\", r"\b"),
    ]
)
TEXTS = st.lists(LETTERS, max_size=6).map(lambda letters: '"' + "".join(letters) + '"')
SCALARS = NUMBERS | TEXTS | st.sampled_from(["null", "true", "false", "[]", "{}", '"id"', '"method"'])


def spaced(parts, gaps):
    return "".join(part + gaps[at % len(gaps)] for at, part in enumerate(parts))


def compound(inner):
    """Arrays and objects of odd spelling, with members that come twice and whitespace wherever it may be."""
    gaps = st.lists(SPACE, min_size=1, max_size=5)
    arrays = st.builds(
        lambda items, gaps: spaced(["[", *separated(items), "]"], gaps), st.lists(inner, max_size=4), gaps
    )
    keys = TEXTS | st.sampled_from(['"id"', '"method"', '"params"', '"name"'])
    objects = st.builds(
        lambda items, gaps: spaced(["{", *separated(f"{key}:{value}" for key, value in items), "}"], gaps),
        st.lists(st.tuples(keys, inner), max_size=4),
        gaps,
    )
    return arrays | objects


def separated(items):
    out = []
    for item in items:
        out += [",", item] if out else [item]
    return out


ODD_JSON = st.recursive(SCALARS, compound, max_leaves=12)


@pytest.mark.slow
@given(ODD_JSON, ODD_JSON, SPACE)
@settings(max_examples=300, derandomize=True, database=None, deadline=None)
def test_requests_pass_byte_for_byte(params, extra, space):
    """What a client says reaches the backend as it was spelled, under the id that mcpd chose."""
    params, extra = params.strip(), extra.strip()
    rest = f'"x-trace":{extra},"params":{space}{params}{space}'
    text = f'{{"jsonrpc":"2.0",{space}"id":1,"method":"tools/call",{rest}}}'
    message = decode_from_client(text.encode())
    sent = b"".join(jsonrpc.request(7, b"tools/call", message.params))
    if params == "null":
        assert sent == b'{"jsonrpc":"2.0","id":7,"method":"tools/call"}'
    else:
        assert sent == b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":%b}' % params.encode()
    assert bytes(message.members["x-trace"]) == extra.encode()
    b"".join(jsonrpc.notification(b"notifications/x", message.params))


@pytest.mark.slow
@given(ODD_JSON, ODD_JSON, SPACE)
@settings(max_examples=300, derandomize=True, database=None, deadline=None)
def test_answers_pass_byte_for_byte(result, extra, space):
    result, extra = result.strip(), extra.strip()
    message = decode(f'{{"x-trace":{extra}, "result":{space}{result}{space},"id":7,"jsonrpc":"2.0"}}'.encode())
    sent = b"".join(jsonrpc.result(b'"mine"', message.members["result"], message.extra()))
    assert sent == f'{{"jsonrpc":"2.0","id":"mine","result":{result},"x-trace":{extra}}}'.encode()
    error = b"".join(jsonrpc.error(b"1", message.members["result"]))
    assert error == f'{{"jsonrpc":"2.0","id":1,"error":{result}}}'.encode()


@pytest.mark.slow
@given(st.lists(st.tuples(st.text(max_size=4), ODD_JSON.map(str.strip)), max_size=6))
@settings(max_examples=200, derandomize=True, database=None, deadline=None)
def test_members_pass_in_their_order(items):
    members = dict(items)
    text = "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members.items()) + "}"
    found = members_of(text.encode())
    assert {name: bytes(raw).decode() for name, raw in found.items()} == members
    assert list(members_of(encode_members(found))) == list(members)


@pytest.mark.parametrize(
    "blob",
    [
        b'"' + b"x" * 10 * MIB + b'"',
        b'"' + "é".encode() * 5 * MIB + b'"',
        b'"' + b"\\u0041" * (10 * MIB // 6) + b'"',
        b"[" + b'"id",' * MIB + b"1e999]",
        b'{"a":[' + b'{"method":"x","id":1.0},' * 300_000 + b"{}]}",
    ],
    ids=["ascii", "utf-8", "escapes", "names", "objects"],
)
@pytest.mark.parametrize("space", [b"", b" "], ids=["compact", "spaced"])
def test_ten_mebibytes(blob, space):
    params = b'{"name":"x","arguments":%b}' % blob
    message = decode_from_client(b'{"jsonrpc":"2.0",%b"id":1,"method":"tools/call","params":%b}' % (space, params))
    sent = b"".join(jsonrpc.request(1, b"tools/call", message.params))
    assert sent == b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
    answer = decode(b'{"jsonrpc":"2.0",%b"id":1,"result":%b}' % (space, params))
    assert bytes(answer.members["result"]) == params
    assert encode_members(members_of(params)) == params


# ---- writing -----------------------------------------------------------------------------------------------


def test_written_messages():
    join = b"".join
    assert join(jsonrpc.request(3, b"ping", None)) == b'{"jsonrpc":"2.0","id":3,"method":"ping"}'
    assert (
        join(jsonrpc.request(b'"a"', b"ping", Raw(b"{}"))) == b'{"jsonrpc":"2.0","id":"a","method":"ping","params":{}}'
    )
    assert join(jsonrpc.notification(b"x")) == b'{"jsonrpc":"2.0","method":"x"}'
    assert join(jsonrpc.notification(b"x", b"{}")) == b'{"jsonrpc":"2.0","method":"x","params":{}}'
    assert join(jsonrpc.result(b"1", b"{}")) == b'{"jsonrpc":"2.0","id":1,"result":{}}'
    assert join(jsonrpc.result(b"1", b"{}", {})) == b'{"jsonrpc":"2.0","id":1,"result":{}}'
    assert join(jsonrpc.error(None, b"{}")) == b'{"jsonrpc":"2.0","id":null,"error":{}}'
    assert join(jsonrpc.error(b"1", b"{}")) == b'{"jsonrpc":"2.0","id":1,"error":{}}'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', None),
        (b'{"id":1,"result":{}}', None),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"error":null}', None),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"_x":1,"y":2}', ["_x", "y"]),
        (b'{"id":1,"result":{},"_x":1}', ["_x"]),
    ],
)
def test_extra(text, names):
    extra = decode(text).extra()
    assert (list(extra) if extra else extra) == names
