"""Multi-round-trip requests: results that ask, answers to them, and what a legacy question becomes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from mcpd.errors import INVALID_PARAMS, INVALID_REQUEST, ProtocolError, RpcError
from mcpd.protocol.inputs import (
    INPUTS_MAX,
    KEY_MAX,
    REFUSED,
    InputRequired,
    check_response,
    input_required,
    key_for,
    read_input_required,
    read_responses,
    refuse,
    result_type,
    retry,
    up_ask,
)
from mcpd.protocol.jsonrpc import decode, encode_members, members_of
from mcpd.protocol.methods import METHODS

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)

ELICIT, SAMPLE, ROOTS = "elicitation/create", "sampling/createMessage", "roots/list"

ASKED = (
    b'{"jsonrpc":"2.0","id":"a1","result":{"resultType":"input_required","inputRequests":{"user_name":{"method":'
    b'"elicitation/create","params":{"message":"Name?","requestedSchema":{"type":"object","properties":{"name":{"type":'
    b'"string"}},"required":["name"]}}},"cap":{"method":"sampling/createMessage","params":{"messages":[{"role":"user",'
    b'"content":{"type":"text","text":"Capital of France?"}}],"maxTokens":100}},"r":{"method":"roots/list"}},'
    b'"requestState":"v1.Zm9v"}}'
)
RETRIED = (
    b'{"jsonrpc":"2.0","id":"a2","method":"tools/call","params":{"name":"t","arguments":{},"inputResponses":{"user_name":'
    b'{"action":"accept","content":{"name":"bob"}},"cap":{"role":"assistant","content":{"type":"text","text":"Paris"},'
    b'"model":"m","stopReason":"endTurn"},"r":{"roots":[{"uri":"file:///w"}]}},"requestState":"v1.Zm9v"}}'
)
"""A round trip as the specification shows it."""

FORM = (
    b'{"message":"Name?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}},'
    b'"required":["name"]}}'
)
CHAT = b'{"messages":[{"role":"user","content":{"type":"text","text":"Capital of France?"}}],"maxTokens":100}'


def plain(found: InputRequired | None):
    assert found is not None
    return {key: (method, bytes(params)) for key, (method, params) in found.requests.items()}, found.state


# ---- results


def test_the_round_trip_of_the_specification():
    result = decode(ASKED).members["result"]
    found = read_input_required(result)
    assert plain(found) == (
        {"user_name": (ELICIT, FORM), "cap": (SAMPLE, CHAT), "r": (ROOTS, b"{}")},
        b'"v1.Zm9v"',
    )
    assert found is not None
    assert input_required(found.requests, "v1.Zm9v") == bytes(result)

    message = decode(RETRIED)
    assert message.params is not None
    params = members_of(message.params)
    answers = read_responses(params)
    assert list(answers) == ["user_name", "cap", "r"]
    for key, (method, _params) in found.requests.items():
        check_response(method, answers[key])
    original = members_of(b'{"name":"t","arguments":{}}')
    assert encode_members(retry(original, answers, found.state)) == bytes(message.params)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"{}", "complete"),
        (b'{"content":[]}', "complete"),
        (b'{"resultType":"complete"}', "complete"),
        (b'{"resultType":null}', "complete"),
        (b'{"resultType":""}', ""),
        (b'{"resultType":"input_required"}', "input_required"),
        (b'{"x":1.0,"resultType" : "task"}', "task"),
        (rb'{"result\u0054ype":"task"}', "task"),
        (rb'{"resultType":"t\u0061sk"}', "task"),
        (rb'{"x":"\ud83d","resultType":"task"}', "task"),
        (rb'{"x":"\ud83d"}', "complete"),
        (b'{"content":[{"resultType":"task"}]}', "complete"),
        (b'{"a":"\\"resultType\\":\\"task\\""}', "complete"),
        (b'{"resultType":"complete","resultType":"task"}', "task"),
    ],
)
def test_result_type(text, expected):
    assert result_type(text) == expected
    assert result_type(members_of(b'{"result":%b}' % text)["result"]) == expected


@pytest.mark.parametrize(
    "text",
    [
        b'{"resultType":1}',
        b'{"resultType":{}}',
        b'{"resultType":["complete"]}',
        rb'{"x":"\ud83d","resultType":true}',
        b"[]",
        b"null",
        b'"complete"',
        b"{",
        b"",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_what_has_no_type(text):
    with pytest.raises(ProtocolError):
        result_type(text)
    with pytest.raises(ProtocolError):
        read_input_required(text)


@pytest.mark.parametrize(
    "text",
    [b"{}", b'{"resultType":"complete","requestState":"s"}', b'{"resultType":"task"}', b'{"inputRequests":{}}'],
)
def test_other_results_ask_for_nothing(text):
    assert read_input_required(text) is None


@pytest.mark.parametrize(
    ("rest", "requests", "state"),
    [
        (b'"requestState":"s"', {}, b'"s"'),
        (b'"requestState":""', {}, b'""'),
        # Its spelling is kept, for it is compared with what was sealed.
        (rb'"requestState":"\u0073\/\ud83d"', {}, rb'"\u0073\/\ud83d"'),
        (b'"inputRequests":{},"requestState":"s"', {}, b'"s"'),
        (b'"inputRequests":null,"requestState":"s"', {}, b'"s"'),
        (b'"inputRequests":{"r":{"method":"roots/list"}}', {"r": (ROOTS, b"{}")}, None),
        (
            b'"inputRequests":{"r":{"method":"roots/list","params":null}},"requestState":null',
            {"r": (ROOTS, b"{}")},
            None,
        ),
        (
            b'"inputRequests":{"":{"params":{"_meta":{"a":1.0}},"method":"roots/list","x":1}}',
            {"": (ROOTS, b'{"_meta":{"a":1.0}}')},
            None,
        ),
        (
            rb'"inputRequests":{"k\n":{"method":"elicitation\/create","params":{"message":"\ud83d"}}}',
            {"k\n": (ELICIT, rb'{"message":"\ud83d"}')},
            None,
        ),
    ],
)
def test_read_input_required(rest, requests, state):
    assert plain(read_input_required(b'{"resultType":"input_required",%b}' % rest)) == (requests, state)


@pytest.mark.parametrize(
    "rest",
    [
        b'"x":1',
        b'"inputRequests":{}',
        b'"inputRequests":null,"requestState":null',
        b'"requestState":1',
        b'"requestState":{}',
        b'"requestState":["s"]',
        b'"inputRequests":[]',
        b'"inputRequests":"x","requestState":"s"',
        b'"inputRequests":{"k":null}',
        b'"inputRequests":{"k":[]}',
        b'"inputRequests":{"k":{}}',
        b'"inputRequests":{"k":{"method":1}}',
        b'"inputRequests":{"k":{"method":"tools/call","params":{}}}',
        b'"inputRequests":{"k":{"method":"ping"}}',
        b'"inputRequests":{"k":{"method":"Roots/List"}}',
        b'"inputRequests":{"k":{"method":"elicitation/create"}}',
        b'"inputRequests":{"k":{"method":"elicitation/create","params":null}}',
        b'"inputRequests":{"k":{"method":"sampling/createMessage","params":[]}}',
        b'"inputRequests":{"k":{"method":"roots/list","params":"x"}}',
        b'"inputRequests":{"good":{"method":"roots/list"},"bad":{"method":"x"}}',
    ],
)
def test_what_cannot_be_answered(rest):
    with pytest.raises(ProtocolError) as raised:
        read_input_required(b'{"resultType":"input_required",%b}' % rest)
    assert raised.value.code == INVALID_REQUEST
    assert raised.value.message.startswith("bad input_required: ")


def test_a_method_is_not_repeated_at_any_length():
    with pytest.raises(ProtocolError) as raised:
        read_input_required(b'{"resultType":"input_required","inputRequests":{"k":{"method":"%b"}}}' % (b"x" * 100_000))
    assert len(raised.value.message) < 400


def test_at_most_so_many():
    def asking(count: int) -> bytes:
        requests = b",".join(b'"%d":{"method":"roots/list"}' % number for number in range(count))
        return b'{"resultType":"input_required","inputRequests":{%b}}' % requests

    found = read_input_required(asking(INPUTS_MAX))
    assert found is not None
    assert len(found.requests) == INPUTS_MAX
    with pytest.raises(ProtocolError, match=f"more than {INPUTS_MAX}"):
        read_input_required(asking(INPUTS_MAX + 1))


@pytest.mark.parametrize(
    ("requests", "state", "expected"),
    [
        ({}, "s", b'{"resultType":"input_required","requestState":"s"}'),
        ({}, "", b'{"resultType":"input_required","requestState":""}'),
        (
            {"r": (ROOTS, b"{}")},
            None,
            b'{"resultType":"input_required","inputRequests":{"r":{"method":"roots/list"}}}',
        ),
        (
            {'a"b': (ROOTS, Raw(b'{"_meta":{"x": 1.0}}')), "e": (ELICIT, b"{}")},
            'q"',
            b'{"resultType":"input_required","inputRequests":{"a\\"b":{"method":"roots/list","params":'
            b'{"_meta":{"x": 1.0}}},"e":{"method":"elicitation/create","params":{}}},"requestState":"q\\""}',
        ),
    ],
)
def test_input_required(requests, state, expected):
    assert input_required(requests, state) == expected


def test_a_result_that_asks_for_nothing_is_not_made():
    with pytest.raises(ValueError, match="nothing"):
        input_required({}, None)


@SETTINGS
@given(
    st.dictionaries(
        st.text(max_size=20),
        st.tuples(st.sampled_from((ELICIT, SAMPLE, ROOTS)), st.sampled_from((b"{}", b'{"a":1e2}', b'{"m":{}}'))),
        max_size=5,
    ),
    st.one_of(st.none(), st.text(max_size=20)),
)
def test_what_is_asked_is_read(requests, state):
    if not requests and state is None:
        return
    found, raw = plain(read_input_required(input_required(requests, state)))
    assert found == requests
    assert (None if raw is None else json.loads(raw)) == state


# ---- keys


def form(*names: str, extra: str = "") -> bytes:
    fields = ",".join(f'{json.dumps(name)}:{{"type":"string"}}' for name in names)
    return f'{{"message":"?","requestedSchema":{{"type":"object","properties":{{{fields}}}}}{extra}}}'.encode()


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        (ELICIT, FORM, "user_name"),
        (ELICIT, form("name", extra=',"mode":"form"'), "user_name"),
        (ELICIT, form("first-name"), "user_first_name"),
        (ELICIT, form("Ünï"), "user__n_"),
        (ELICIT, form("a b\n"), "user_a_b_"),
        (ELICIT, form("名前"), "user_input"),
        (ELICIT, form(""), "user_input"),
        (ELICIT, form("_"), "user_input"),
        (ELICIT, form(), "user_input"),
        (ELICIT, form("a", "b"), "user_input"),
        (ELICIT, b'{"mode":"url","url":"https://x","message":"?"}', "user_input"),
        (ELICIT, b"{}", "user_input"),
        (ELICIT, b"null", "user_input"),
        (ELICIT, b'{"requestedSchema":[]}', "user_input"),
        (ELICIT, b'{"requestedSchema":{"properties":["a"]}}', "user_input"),
        (ELICIT, form("x" * 1000), "user_" + "x" * (KEY_MAX - 5)),
        (ELICIT, rb'{"requestedSchema":{"properties":{"\ud83d":{}}}}', "user_input"),
        (ELICIT, rb'{"requestedSchema":{"properties":{"a\ud83d":{}}}}', "user_a_"),
        (SAMPLE, CHAT, "model_message"),
        (SAMPLE, form("name"), "model_message"),
        (ROOTS, b"{}", "client_roots"),
    ],
)
def test_key_for(method, params, expected):
    assert key_for(method, params, ()) == expected


def test_keys_that_are_taken():
    taken: set[str] = set()
    for expected in ("user_name", "user_name_2", "user_name_3", "user_name_4"):
        key = key_for(ELICIT, FORM, taken)
        assert key == expected
        taken.add(key)
    long = key_for(ELICIT, form("x" * 100), ())
    assert key_for(ELICIT, form("x" * 100), {long}) == "user_" + "x" * (KEY_MAX - 7) + "_2"
    assert key_for(SAMPLE, CHAT, taken) == "model_message"
    assert key_for(SAMPLE, CHAT, {"model_message"}) == "model_message_2"
    assert key_for(ROOTS, b"{}", {"client_roots", "client_roots_2"}) == "client_roots_3"


@SETTINGS
@given(st.lists(st.text(max_size=80), max_size=12))
def test_keys_are_short_plain_and_different(names):
    taken: set[str] = set()
    for name in names:
        key = key_for(ELICIT, form(name), taken)
        assert key not in taken
        assert 0 < len(key) <= KEY_MAX
        assert key.isascii()
        assert key.replace("_", "a").isalnum()
        taken.add(key)


# ---- questions


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        (ELICIT, FORM, FORM),
        (
            ELICIT,
            b'{"_meta":{"progressToken":1},"mode":null,"task":{"ttl":1},"message":"?","elicitationId":"e","n":1.50}',
            b'{"message":"?","n":1.50}',
        ),
        (ELICIT, b'{"mode":"form","message":"?"}', b'{"mode":"form","message":"?"}'),
        (ELICIT, b'{"mode":"url","url":"u","elicitationId":"e"}', b'{"mode":"url","url":"u"}'),
        (SAMPLE, CHAT, CHAT),
        (
            SAMPLE,
            b'{"messages":[{"_meta":{"a":1}}],"_meta":{},"task":{},"mode":null}',
            b'{"messages":[{"_meta":{"a":1}}],"mode":null}',
        ),
        (ROOTS, b"{}", b"{}"),
        (ROOTS, b'{"_meta":{"x":1}}', b"{}"),
        (ROOTS, b"[]", b"[]"),
        (ELICIT, rb'{"_meta":{},"message":"\ud83d"}', rb'{"message":"\ud83d"}'),
    ],
)
def test_up_ask(method, params, expected):
    assert up_ask(method, params) == expected


def test_a_question_without_anything_to_drop_is_the_same_object():
    assert up_ask(ELICIT, FORM) is FORM


# ---- answers


@pytest.mark.parametrize(
    ("method", "value"),
    [
        (ELICIT, b'{"action":"accept","content":{"name":"bob"}}'),
        (ELICIT, b'{"action":"accept"}'),
        (ELICIT, b'{"action":"decline","content":null}'),
        (ELICIT, b'{"action":"cancel","x":1}'),
        (ELICIT, rb'{"action":"accept","content":{"name":"\ud83d"}}'),
        (SAMPLE, b'{"role":"assistant","content":{"type":"text","text":"Paris"},"model":"m","stopReason":"endTurn"}'),
        (SAMPLE, b'{"role":"user","content":[],"model":""}'),
        (ROOTS, b'{"roots":[]}'),
        (ROOTS, b'{"roots":[{"uri":"file:///w"}],"_meta":{}}'),
    ],
)
def test_answers_that_fit(method, value):
    check_response(method, value)


@pytest.mark.parametrize(
    ("method", "value"),
    [
        *(
            (method, value)
            for method in (ELICIT, SAMPLE, ROOTS)
            for value in (b"null", b"[]", b'"x"', b"{}", b"1", b"{")
        ),
        (ELICIT, b'{"action":"Accept"}'),
        (ELICIT, b'{"action":["accept"]}'),
        (ELICIT, b'{"action":null}'),
        (ELICIT, b'{"action":"accept","content":[]}'),
        (ELICIT, b'{"action":"accept","content":"bob"}'),
        (SAMPLE, b'{"role":"assistant","content":{}}'),
        (SAMPLE, b'{"role":"assistant","model":"m"}'),
        (SAMPLE, b'{"role":"assistant","model":"m","content":"Paris"}'),
        (SAMPLE, b'{"role":"assistant","model":"m","content":null}'),
        (SAMPLE, b'{"role":"assistant","model":1,"content":{}}'),
        (SAMPLE, b'{"role":"system","model":"m","content":{}}'),
        (SAMPLE, b'{"model":"m","content":{}}'),
        (ROOTS, b'{"roots":{}}'),
        (ROOTS, b'{"roots":null}'),
        (ROOTS, b'{"action":"accept"}'),
    ],
)
def test_answers_that_do_not_fit(method, value):
    with pytest.raises(ProtocolError, match=method) as raised:
        check_response(method, value)
    assert raised.value.code == INVALID_PARAMS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"{}", {}),
        (b'{"inputResponses":null}', {}),
        (b'{"inputResponses":{}}', {}),
        (b'{"inputResponses":{"a":{"x": 1.0},"b":null}}', {"a": b'{"x": 1.0}', "b": b"null"}),
        (rb'{"inputResponses":{"\ud83d":"\ud83d"}}', {"\ud83d": rb'"\ud83d"'}),
    ],
)
def test_read_responses(text, expected):
    assert {key: bytes(raw) for key, raw in read_responses(members_of(text)).items()} == expected


@pytest.mark.parametrize("value", [b"[]", b'"x"', b"1", b"true", b"false"])
def test_responses_are_an_object(value):
    with pytest.raises(ProtocolError, match="inputResponses") as raised:
        read_responses(members_of(b'{"inputResponses":%b}' % value))
    assert (raised.value.code, raised.value.http_status) == (INVALID_PARAMS, 400)


@pytest.mark.parametrize(
    ("responses", "state", "added"),
    [
        ({}, None, b""),
        ({}, b'"s"', b',"requestState":"s"'),
        ({"a": b'{"x": 1}'}, None, b',"inputResponses":{"a":{"x": 1}}'),
        ({"a": Raw(b"{}"), "b": b"[]"}, rb'"\u0073"', rb',"inputResponses":{"a":{},"b":[]},"requestState":"\u0073"'),
    ],
)
@pytest.mark.parametrize(
    "before",
    [b'{"name":"t","n":1e2%b}', b'{"name":"t","inputResponses":{"old":{}},"n":1e2,"requestState":"old"%b}'],
)
def test_retry(before, responses, state, added):
    members = members_of(before % b"")
    copy = dict(members)
    assert encode_members(retry(members, responses, state)) == b'{"name":"t","n":1e2%b}' % added
    assert members == copy, "params are somebody else's"


# ---- nobody answers


def test_everything_that_can_be_asked_can_be_refused():
    assert set(REFUSED) == {method.name for method in METHODS if method.input}


def test_refuse():
    assert refuse(ELICIT) == b'{"action":"cancel"}'
    check_response(ELICIT, refuse(ELICIT))
    for method, code in ((SAMPLE, -1), (ROOTS, -32603)):
        with pytest.raises(RpcError) as raised:
            refuse(method)
        assert raised.value.code == code
        with pytest.raises(RpcError) as again:
            refuse(method)
        assert again.value is not raised.value, "a raised error holds its traceback"
