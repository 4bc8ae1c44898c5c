from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpd.wire.http_head import Head, HttpRefused, Memo
from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_reader import RequestReader
from tests.wire.http_peer import chunked, post

LIMITS = HttpLimits(head=400, body=1000)

GOOD = [
    post(b""),
    post(b"hello"),
    post(b"hello", b"X-Session: 1"),
    post(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    post(b"x" * 300),
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"DELETE /a?b HTTP/1.1\nHost: h\n\n",
    b"POST / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc", b"d" * 40),
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n",
    post(b"later", b"Expect: 100-continue"),
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab",
]

BAD = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\x00c\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00", 400),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*[b"x" * 99] * 11), 413),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"b" * 400 + b"\r\n\r\n", 431),
    (b"GET /" + b"b" * 500, 431),
    (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
]


def by_h11(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """The requests in `data` as h11 alone reads them."""
    requests = []
    while data:
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(data)
        event = parser.next_event()
        assert isinstance(event, h11.Request)
        body = b""
        while isinstance(part := parser.next_event(), h11.Data):
            body += part.data
        assert isinstance(part, h11.EndOfMessage)
        data = parser.trailing_data[0]
        requests.append((event.method, event.target, body))
    return requests


def read_all(pieces: list[bytes], memo: Memo[Head]) -> list[tuple[bytes, bytes, bytes]]:
    """The requests in `pieces` as the server reads them: the short way, or else RequestReader."""
    requests = []
    reader = RequestReader(LIMITS, memo)
    begun = False
    for piece in pieces:
        data = piece
        while data:
            if not begun:
                end = data.find(b"\r\n\r\n") + 4
                head = memo.heads.get(data[:end]) or memo.recall(data[:end])
                if head is not None and len(data) - end == head.plain:
                    requests.append((head.method, head.target, data[end:]))
                    break
            reader.feed(data)
            data = b""
            begun = True
            if (whole := reader.next()) is not None:
                requests.append((whole[0].method, whole[0].target, whole[1]))
                data = reader.rest
                reader = RequestReader(LIMITS, memo)
                begun = False
    assert not begun
    return requests


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("data", GOOD)
def test_one_request_byte_by_byte_and_twice(data):
    memo: Memo[Head] = Memo(LIMITS.body)
    expected = by_h11(data)
    assert len(expected) == 1
    assert read_all([data], memo) == expected
    assert read_all([data], memo) == expected
    assert read_all([data[i : i + 1] for i in range(len(data))], memo) == expected
    assert read_all([data[i : i + 1] for i in range(len(data))], Memo(LIMITS.body)) == expected


@given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=6), st.lists(st.integers(0, 5000), max_size=12))
def test_any_chunking_of_any_requests_reads_as_h11_reads_them(requests, cuts):
    data = b"".join(requests)
    assert read_all(split(data, cuts), Memo(LIMITS.body)) == by_h11(data)


@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=8),
    st.booleans(),
)
def test_lengths_that_change_from_request_to_request(sizes, whole):
    pieces = [post(b"z" * size) for size in sizes]
    data = b"".join(pieces)
    assert read_all(pieces if whole else [data], Memo(LIMITS.body)) == by_h11(data)


@pytest.mark.parametrize(("data", "status"), BAD)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_refusals_do_not_depend_on_chunking_or_memory(data, status, size):
    memo: Memo[Head] = Memo(LIMITS.body)
    read_all(GOOD, memo)

    def feed_all(reader: RequestReader) -> None:
        for start in range(0, len(data), size):
            reader.feed(data[start : start + size])
            assert reader.next() is None

    for _ in range(2):
        with pytest.raises(HttpRefused) as caught:
            feed_all(RequestReader(LIMITS, memo))
        assert caught.value.status == status
        assert "bytearray" not in caught.value.reason


def test_limits_are_named():
    reader = RequestReader(LIMITS, Memo(LIMITS.body))
    reader.feed(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n")
    with pytest.raises(HttpRefused, match=r"5000 bytes.*1000 bytes \(limits\.body\)"):
        reader.next()


def test_a_large_body_is_received_in_large_pieces():
    limits = HttpLimits()
    reader = RequestReader(limits, Memo(limits.body))
    assert reader.want == 64 * 1024
    reader.feed(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n")
    assert reader.next() is None
    assert reader.want == 1024 * 1024
    reader.feed(b"x" * 2_990_000)
    assert reader.next() is None
    assert reader.want == 64 * 1024
    reader.feed(b"x" * 10_000 + b"GET")
    whole = reader.next()
    assert whole is not None
    assert len(whole[1]) == 3_000_000
    assert reader.rest == b"GET"
