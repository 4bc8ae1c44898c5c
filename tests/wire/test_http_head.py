from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpd.wire.http_head import (
    MEMO_HEADS,
    Head,
    HttpRefused,
    Memo,
    header_block,
    read_request_head,
    read_response_head,
)


def by_h11(raw: bytes) -> Head:
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(raw)
    event = parser.next_event()
    assert isinstance(event, h11.Request)
    return read_request_head(event)


def facts(head: Head) -> dict[str, object]:
    return {name: getattr(head, name) for name in Head.__slots__ if name != "notes"}


RAW = b"POST /mcp?a=1&b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\n"


def test_a_head_says_what_h11_said():
    head = by_h11(RAW)
    assert (head.method, head.target, head.path, head.query) == (b"POST", b"/mcp?a=1&b", b"/mcp", b"a=1&b")
    assert head.headers == {b"host": b"h", b"content-length": b"5", b"x-a": b"1, 2"}
    assert head.repeated == {b"x-a"}
    assert head.content_length == head.plain == 5
    assert head.keep_alive
    assert not head.chunked
    assert not head.expect_continue
    assert head.notes is None


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        (b"Connection: Close", "keep_alive", False),
        (b"Connection: x, close", "keep_alive", False),
        (b"Connection: keep-alive", "keep_alive", True),
        (b"Expect: 100-Continue", "expect_continue", True),
        (b"Transfer-Encoding: CHUNKED", "chunked", True),
    ],
)
def test_framing_headers(line, field, value):
    head = by_h11(b"POST / HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n\r\n")
    assert getattr(head, field) == value
    assert head.plain == (-1 if head.chunked or head.expect_continue else 0)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\n\r\n", 505),
    ],
)
def test_what_is_refused_beyond_h11(raw, status):
    with pytest.raises(HttpRefused) as caught:
        by_h11(raw)
    assert caught.value.status == status


def test_the_memo_repeats_the_same_object_and_keeps_notes():
    memo: Memo[Head] = Memo(100)
    head = by_h11(RAW)
    assert memo.recall(RAW) is None
    memo.store(RAW, head)
    assert memo.recall(RAW) is head
    head.notes = "mine"
    other = memo.recall(RAW.replace(b"Length: 5", b"Length: 77"))
    assert other is not None
    assert other.notes == "mine"
    assert other.content_length == other.plain == 77


def test_the_memo_is_bounded():
    memo: Memo[Head] = Memo(100)
    for number in range(50):
        raw = RAW.replace(b"/mcp", b"/%d" % number)
        memo.store(raw, by_h11(raw))
    assert len(memo.heads) == MEMO_HEADS
    assert len(memo._templates) == MEMO_HEADS
    for number in range(100):
        memo.recall(raw.replace(b"Length: 5", b"Length: %d" % number))
    assert len(memo.heads) == MEMO_HEADS


def test_a_length_over_the_limit_is_not_recalled():
    memo: Memo[Head] = Memo(100)
    memo.store(RAW, by_h11(RAW))
    assert memo.recall(RAW.replace(b"Length: 5", b"Length: 101")) is None


@pytest.mark.parametrize(
    "digits", [b"", b"-1", b"+1", b"1 2", b"1,1", b"0x1", b" 5", b"1" * 16, b"\xd9\xa1", b"5\r\n6"]
)
def test_odd_lengths_are_left_to_h11(digits):
    memo: Memo[Head] = Memo(10**18)
    memo.store(RAW, by_h11(RAW))
    assert memo.recall(RAW.replace(b"Length: 5", b"Length: " + digits)) is None


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\ncontent-length:5",
        b"Content-Length: 5, 5",
        b"A: b\nContent-Length: 5\r\nContent-Length: 5",
    ],
)
def test_more_than_one_length_makes_no_template(lines):
    raw = b"POST / HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n\r\n"
    memo: Memo[Head] = Memo(100)
    memo.store(raw, by_h11(raw))
    assert memo._templates == []


def test_heads_with_bare_line_feeds_are_not_remembered():
    raw = b"GET / HTTP/1.1\nHost: h\n\n"
    memo: Memo[Head] = Memo(100)
    memo.store(raw, by_h11(raw))
    assert memo.heads == {}


LINES = st.sampled_from(
    [
        b"X-A: 1",
        b"x-a: content-length: 7",
        b"Expect: 100-continue",
        b"Connection: close",
        b"X-Fold: a\r\n  Content-Length: 9",
        b"Accept:",
        b"Content-Length: 5",
        b"cOntent-lengtH:\t5 ",
        b"Content-Length: 05",
        b"Content-Length: 5\r\n ",
        b"A: b\nC: d",
    ]
)


@given(st.lists(LINES, max_size=5), st.integers(0, 10**15 - 1), st.booleans())
def test_another_length_means_what_h11_would_have_said(lines, length, zeros):
    raw = b"\r\n".join([b"POST /x HTTP/1.1", b"Host: h", *lines]) + b"\r\n\r\n"
    memo: Memo[Head] = Memo(10**15)
    try:
        memo.store(raw, by_h11(raw))
    except h11.RemoteProtocolError:
        return
    for before, after, _ in memo._templates:
        other = before + (b"%015d" if zeros else b"%d") % length + after
        recalled = memo.recall(other)
        assert recalled is not None
        assert facts(recalled) == facts(by_h11(other))


@pytest.mark.parametrize(
    ("raw", "length", "chunked", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 3, False, True),
        (b"HTTP/1.1 200\r\n\r\n", None, False, True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", 3, False, False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", None, False, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", None, True, False),
    ],
)
def test_response_heads(raw, length, chunked, keep_alive):
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    parser.receive_data(raw)
    event = parser.next_event()
    assert isinstance(event, h11.Response)
    head = read_response_head(event)
    assert (head.content_length, head.chunked, head.keep_alive) == (length, chunked, keep_alive)


def test_header_block_builds_lines():
    assert header_block([("A", " b "), ("X-Y", "\xe9")]) == b"A: b\r\nX-Y: \xe9\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("A", "b\r\nC: d"),
        ("A", "b\nC"),
        ("A", "\x00"),
        ("A\r\nB", "c"),
        ("A:", "b"),
        ("", "b"),
        ("A", "\u20ac"),
    ],
)
def test_header_block_refuses_injection(name, value):
    with pytest.raises(ValueError, match="header"):
        header_block([(name, value)])
