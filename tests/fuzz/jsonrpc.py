"""JSON-RPC envelopes: nothing but ProtocolError for whatever arrives, nothing lost of a message."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from mcpd.errors import ProtocolError
from mcpd.protocol import jsonrpc
from tests.fuzz.runner import JSON, Target, main

FRAGMENTS = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b" ",
        b"\n",
        b"null",
        b"true",
        b"1",
        b"-0",
        b"1e5",
        b'"x"',
        b"\\",
    ),
    *(b'"method"', b'"id"', b'"params"', b'"result"', b'"error"', b'"jsonrpc"', b'"2.0"', b'"tools/call"'),
    *(
        b'"method":"ping"',
        b'"id":1',
        b'"id":null',
        b'"params":{}',
        b'{"jsonrpc":"2.0"',
        b"\\ud800",
        b"\\u006d",
    ),
]

TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=30).map(b"".join)

MEMBER_NAMES = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "x", "_meta"]) | st.text()
MESSAGES = st.dictionaries(MEMBER_NAMES, JSON, max_size=6)


def attempt(function, data):
    try:
        return function(data)
    except ProtocolError:
        return None


def check_anything(data):
    attempt(jsonrpc.decode, data)
    attempt(jsonrpc.decode_from_client, data)
    attempt(jsonrpc.decode_many, data)
    attempt(jsonrpc.members_of, data)
    jsonrpc.is_array(data)


def check_nothing_is_lost(value):
    message, indent = value
    data = json.dumps(message, indent=indent).encode()
    members = jsonrpc.members_of(data)
    assert list(members) == list(message)
    assert json.loads(jsonrpc.encode_members(members)) == message
    decoded = attempt(jsonrpc.decode_from_client, data)
    if decoded is not None:
        assert decoded.members.keys() == message.keys()
        assert decoded.method == message.get("method")
        if decoded.id is not None:
            assert json.loads(decoded.id) == message["id"]


def check_round_trip(value):
    id, method, params = value
    text = json.dumps(params).encode()
    request = b"".join(jsonrpc.request(id, json.dumps(method).encode()[1:-1], text))
    message = jsonrpc.decode_from_client(request)
    assert (message.method, message.id, message.params is not None) == (method, b"%d" % id, True)
    assert bytes(message.params or b"") == text
    answer = jsonrpc.decode(b"".join(jsonrpc.result(b"%d" % id, text)))
    assert answer.is_response
    assert bytes(answer.members["result"]) == text
    refusal = jsonrpc.decode(b"".join(jsonrpc.error(None, text)))
    assert refusal.is_response
    assert bytes(refusal.members["error"]) == text


TARGETS = (
    Target("jsonrpc anything", TEXTS, check_anything),
    Target("jsonrpc members", st.tuples(MESSAGES, st.none() | st.integers(0, 2)), check_nothing_is_lost),
    Target(
        "jsonrpc round trip",
        st.tuples(
            st.integers(0, 2**53),
            st.text("abc/_.éλ", min_size=1),
            st.dictionaries(st.text(), JSON, max_size=3),
        ),
        check_round_trip,
    ),
)

if __name__ == "__main__":
    main(TARGETS)
