"""Streamable HTTP as a server: the table, the ladder of a head, bodies, event ids and the log."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpd.errors import INVALID_REQUEST, PARSE_ERROR, ProtocolError
from mcpd.protocol.exchange import (
    ALLOW,
    METHODS,
    RUNGS,
    TRANSITIONS,
    Action,
    Event,
    EventLog,
    State,
    event_id,
    media_types,
    parse_event_id,
    prefers_stream,
    primes,
    read_body,
    refusal,
    repeated_routing,
    step,
    version_refusal,
)
from mcpd.protocol.jsonrpc import BATCH_MAX, Message
from mcpd.protocol.versions import HANDSHAKE, PRIMING, Version, has
from tests.protocol.tables import check_total, reachable

# ---- the table ---------------------------------------------------------------------------------------------


def test_table_is_total():
    check_total(TRANSITIONS, State, Event, step, KeyError)


def test_every_state_is_reachable():
    assert reachable(TRANSITIONS, State.WAITING, lambda outcome: outcome[0]) == set(State)


@pytest.mark.parametrize(
    ("repeated", "named"),
    [
        (frozenset(), None),
        (frozenset({b"accept", b"mcp-param-x"}), None),
        (frozenset({b"accept", b"mcp-protocol-version", b"mcp-name"}), "MCP-Protocol-Version"),
        (frozenset({b"mcp-method"}), "Mcp-Method"),
        (frozenset({b"mcp-name"}), "Mcp-Name"),
    ],
)
def test_headers_that_route_come_once(repeated, named):
    assert repeated_routing(repeated) == named


def test_what_cannot_happen():
    """Nothing to resume before a stream was opened, and one outcome only."""
    impossible = {(state, event) for state in State for event in Event if event not in TRANSITIONS[state]}
    assert impossible == {(State.WAITING, Event.RESUME), (State.ENDED, Event.OUTCOME)}


class Wire:
    """What the client sees of an exchange, with actions carried out on paper."""

    def __init__(self):
        self.state = State.WAITING
        self.open = False
        self.opened = 0
        self.kept = 0
        self.outcomes = 0

    def happen(self, event):
        before = self.state
        self.state, actions = step(before, event)
        kept = False
        for action in actions:
            if action is Action.OPEN:
                assert not self.open, "one stream at a time"
                self.open = True
                self.opened += 1
            elif action is Action.KEEP:
                self.kept += 1
                kept = True
            elif action is Action.SEND:
                assert self.open, "sent to nobody"
                assert kept, "sent before it was kept"
            elif action is Action.ANSWER:
                assert self.opened == 0, "a head was sent already"
                self.outcomes += 1
            elif action is Action.END:
                assert self.open
                self.open = False
            else:
                assert action is Action.ATTACH
                self.open = True
        if event is Event.GONE:
            self.open = False
        if event is Event.OUTCOME:
            self.outcomes += kept
        assert self.open is (self.state is State.STREAMING)


def test_every_course_of_events():
    """No course of six events sends to a closed stream, answers twice, or says anything that is not kept
    first."""
    for course in itertools.product(Event, repeat=6):
        wire = Wire()
        for event in course:
            if event not in TRANSITIONS[wire.state]:
                break
            wire.happen(event)
        assert wire.outcomes == (wire.state is State.ENDED)


# ---- heads -------------------------------------------------------------------------------------------------

BOTH = b"application/json, text/event-stream"
JSON_TYPE = b"application/json"


def head(accept=BOTH, content_type=JSON_TYPE):
    headers = {}
    if accept is not None:
        headers[b"accept"] = accept
    if content_type is not None:
        headers[b"content-type"] = content_type
    return headers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"application/json", {b"application/json": True}),
        (b" Application/JSON ; charset=utf-8", {b"application/json": True}),
        (b"a/b, c/d;q=0.5,e/f;q=0", {b"a/b": True, b"c/d": True, b"e/f": False}),
        (b"a/b;q=0.0,c/d; Q = 0.000 ,e/f;q=0.001", {b"a/b": False, b"c/d": False, b"e/f": True}),
        (b"a/b;charset=utf-8;q=0", {b"a/b": False}),
        (b"a/b;q=", {b"a/b": True}),
        (b"a/b;q=.0", {b"a/b": True}),  # no weight by RFC 9110
        (b"a/b;q=10", {b"a/b": True}),
        (b"a/b;xq=0", {b"a/b": True}),
        (b"a/b;q=0,a/b", {b"a/b": True}),
        (b"a/b\t,\tc/d", {b"a/b": True, b"c/d": True}),
        (b"", {b"": True}),
    ],
)
def test_media_types(value, expected):
    assert media_types(value) == expected


@pytest.mark.parametrize(
    "accept",
    [
        None,
        BOTH,
        b"text/event-stream,application/json",
        b"Application/Json; charset=utf-8 , Text/Event-Stream",
        b"*/*",
        b"application/*, text/*",
        b"application/json;q=0.5, text/event-stream;q=0.1",
        b"text/html, image/gif, *; q=.2, */*; q=.2",  # Java's default
        b"text/*;q=0, text/event-stream, */*",
    ],
)
def test_accepted(accept):
    for method in METHODS:
        assert refusal(method, head(accept)) is None


@pytest.mark.parametrize(
    ("accept", "post", "get"),
    [
        (b"application/json", "text/event-stream", 406),
        (b"text/event-stream", "application/json", None),
        (b"application/*", "text/event-stream", 406),
        (b"text/*", "application/json", None),
        (b"text/html", "application/json", 406),
        (b"", "application/json", 406),
        (b"application/jsonp, text/event-stream", "application/json", None),
        (b"application/json;q=0, text/event-stream", "application/json", None),
        (b"application/json;q=0, */*", "application/json", None),
        (b"application/json, text/event-stream;q=0, */*", "text/event-stream", 406),
        (b"*/*;q=0", "application/json", 406),
    ],
)
def test_not_acceptable(accept, post, get):
    status, reason = refusal(b"POST", head(accept))
    assert (status, post in reason) == (406, True)
    found = refusal(b"GET", head(accept, None))
    assert (found[0] if found else None) == get
    assert refusal(b"DELETE", head(accept, None)) is None


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (b"application/json", None),
        (b"application/json; charset=utf-8", None),
        (b"APPLICATION/JSON;charset=UTF-8", None),
        (b"application/json, application/json", None),  # the header came twice
        (None, None),
        (b"text/plain", 415),
        (b"application/x-www-form-urlencoded", 415),
        (b"multipart/form-data; boundary=x", 415),
        (b"application/json-rpc", 415),
        (b"application/json, text/plain", 415),
        (b"*/*", 415),
        (b"", 415),
    ],
)
def test_content_type(content_type, status):
    found = refusal(b"POST", head(content_type=content_type))
    assert (found[0] if found else None) == status
    assert refusal(b"GET", head(content_type=content_type)) is None


@pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"OPTIONS", b"HEAD", b"TRACE", b"post", b"", b"\xff"])
def test_other_methods(method):
    status, reason = refusal(method, {})
    assert status == 405
    assert "POST, GET or DELETE" in reason


def test_methods_agree_everywhere():
    assert tuple(RUNGS) == METHODS
    assert b"Allow: " + b", ".join(METHODS) + b"\r\n" == ALLOW


def test_the_first_rung_that_fails_decides():
    assert refusal(b"POST", head(b"text/html", b"text/plain"))[0] == 415
    assert "application/json" in refusal(b"POST", head(b"text/html"))[1]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"text/event-stream, application/json", True),
        (b"TEXT/EVENT-STREAM;q=1,APPLICATION/JSON", True),
        (BOTH, False),
        (b"text/event-stream", False),
        (b"application/json", False),
        (b"*/*", False),
    ],
)
def test_prefers_stream(accept, expected):
    assert prefers_stream({b"accept": accept}) is expected
    assert prefers_stream({}) is False


@pytest.mark.parametrize("version", HANDSHAKE)
def test_versions_of_a_session(version):
    assert version_refusal({b"mcp-protocol-version": version.text.encode()}) is None
    assert version_refusal({b"mcp-protocol-version": b" %b\t" % version.text.encode()}) is None
    assert version_refusal({}) is None


@pytest.mark.parametrize(
    "value",
    [b"", b"2026-07-28", b"2024-10-07", b"v999", b"2025-06-18, 2025-06-18", b"2025-11-25x", b"\xff\xfe"],
)
def test_versions_no_session_has(value):
    assert repr(value.decode("latin-1")) in version_refusal({b"mcp-protocol-version": value})


# ---- bodies ------------------------------------------------------------------------------------------------

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize("body", [PING, b"\r\n " + PING + b"\n", b"\xef\xbb\xbf" + PING])
def test_one_message(body, batches):
    messages, array = read_body(body, batches=batches)
    assert [message.method for message in messages] == ["ping"]
    assert array is False


@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", PARSE_ERROR),
        (b" \r\n\t", PARSE_ERROR),
        (b"\xef\xbb\xbf", PARSE_ERROR),
        (b"nonsense", PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', PARSE_ERROR),
        (PING + PING, PARSE_ERROR),
        (b"7", INVALID_REQUEST),
        (b"null", INVALID_REQUEST),
        (b'"x"', INVALID_REQUEST),
        (b"{}", INVALID_REQUEST),
        (b'{"foo":"bar"}', INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', INVALID_REQUEST),
        (b"[]", INVALID_REQUEST),
        (b"[" + (PING + b",") * BATCH_MAX + PING + b"]", INVALID_REQUEST),
    ],
)
def test_refused_bodies(body, code, batches):
    """§17: 400 with -32700 for what is no JSON, and with -32600 for what is no message."""
    with pytest.raises(ProtocolError) as caught:
        read_body(body, batches=batches)
    assert (caught.value.code, caught.value.http_status) == (code, 400)


@pytest.mark.parametrize("space", [b"", b"\n ", b" " * 100, b"\xef\xbb\xbf"])
def test_batches_where_they_exist(space):
    body = space + b"[%b,1]" % PING
    messages, array = read_body(body, batches=True)
    assert [isinstance(message, Message) for message in messages] == [True, False]
    assert array is True
    with pytest.raises(ProtocolError, match="2025-03-26 only") as caught:
        read_body(body, batches=False)
    assert caught.value.code == INVALID_REQUEST


# ---- event ids and the log ---------------------------------------------------------------------------------


@given(st.integers(0, 10**15), st.integers(0, 10**15))
@settings(max_examples=50, derandomize=True, database=None, deadline=None)
def test_event_ids_there_and_back(stream, number):
    assert parse_event_id(event_id(stream, number)) == (stream, number)
    assert parse_event_id(b" %b " % event_id(stream, number)) == (stream, number)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"-", b"1", b"1-", b"-1", b"1-2-3", b"a-1", b"1-a", b"+1-2", b"1--2", b"1_0-2", b"0x1-2"),
        *(b"1 - 2", "²-1".encode(), b"1-" + b"9" * 40, b"\xff-1", b"1-2, 1-3"),
    ],
)
def test_event_ids_that_mcpd_never_sent(value):
    assert parse_event_id(value) is None


def test_log():
    log = EventLog(3)
    assert log.after(0) == []
    ids = [log.keep(b"m%d" % number, events_max=3, bytes_max=100) for number in range(1, 6)]
    assert ids == [b"3-1", b"3-2", b"3-3", b"3-4", b"3-5"]
    assert (len(log), log.first, log.size) == (3, 3, 6)
    assert log.after(0) == [(b"3-3", b"m3"), (b"3-4", b"m4"), (b"3-5", b"m5")]
    assert log.after(4) == [(b"3-5", b"m5")]
    assert log.after(5) == log.after(10**9) == []


def test_log_is_bounded_by_bytes():
    log = EventLog(1)
    for size in (40, 40, 40):
        log.keep(b"x" * size, events_max=10, bytes_max=100)
    assert (len(log), log.size, log.first) == (2, 80, 2)
    log.keep(b"x" * 1000, events_max=10, bytes_max=100)
    assert (len(log), log.size, log.first) == (1, 1000, 4)  # the newest stays: it is being sent
    assert log.keep(b"x", events_max=10, bytes_max=100) == b"1-5"
    assert (len(log), log.size) == (1, 1)


@pytest.mark.parametrize(("events_max", "bytes_max"), [(0, 100), (1, 0), (0, 0)])
def test_log_without_room_keeps_the_newest(events_max, bytes_max):
    log = EventLog(1)
    for number in range(1, 4):
        assert log.keep(b"m", events_max=events_max, bytes_max=bytes_max) == event_id(1, number)
        assert log.after(0) == [(event_id(1, number), b"m")]


def test_log_cleared_goes_on_counting():
    log = EventLog(2)
    log.keep(b"a", events_max=9, bytes_max=9)
    log.keep(b"b", events_max=9, bytes_max=9)
    log.clear()
    assert (len(log), log.size, log.after(0)) == (0, 0, [])
    assert log.keep(b"c", events_max=9, bytes_max=9) == b"2-3"
    assert log.after(0) == [(b"2-3", b"c")]


@given(st.lists(st.binary(max_size=6), max_size=30), st.integers(1, 5), st.integers(0, 20), st.integers(0, 35))
@settings(max_examples=150, derandomize=True, database=None, deadline=None)
def test_log_keeps_the_longest_tail_that_fits(messages, events_max, bytes_max, number):
    log = EventLog(1)
    for at, message in enumerate(messages, 1):
        assert log.keep(message, events_max=events_max, bytes_max=bytes_max) == event_id(1, at)
    tail = len(messages[-events_max:])
    while tail > 1 and sum(map(len, messages[-tail:])) > bytes_max:
        tail -= 1
    kept = list(enumerate(messages, 1))[len(messages) - tail :]
    assert log.after(number) == [(event_id(1, at), message) for at, message in kept if at > number]
    assert log.size == sum(len(message) for _at, message in kept)


@pytest.mark.parametrize("version", HANDSHAKE)
def test_priming(version):
    assert primes(version) is has(version, PRIMING) is (version is Version.V2025_11_25)


def test_a_log_is_made_again_from_what_it_held():
    log = EventLog(7)
    for message in (b"a", b"bb", b"ccc"):
        log.keep(message, events_max=2, bytes_max=100)
    again = EventLog.of(7, log.first, log.messages)
    assert (again.first, again.size, len(again)) == (log.first, log.size, len(log)) == (2, 5, 2)
    assert again.after(2) == log.after(2) == [(b"7-3", b"ccc")]
    assert again.keep(b"d", events_max=2, bytes_max=100) == b"7-4"
    assert log.messages == [b"bb", b"ccc"], "they have nothing in common"
