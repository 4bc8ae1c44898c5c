from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpd.errors import ConnectionBroken
from mcpd.wire.http_body import ChunkedBody, CloseBody, LengthBody, response_parser
from tests.wire.http_peer import chunked
from tests.wire.test_http_reader import split

STREAMS = [
    chunked(),
    chunked(b"a"),
    chunked(b"data: x\n\n", b"\r\n", b"0\r\n\r\n", b"z" * 300),
    b"0A\r\n0123456789\r\n00\r\n\r\n",
    b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
    b"3\r\nabc\r\n2 \r\nde\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0;x\r\n\r\n",
]
WRONG = [
    b"x\r\n",
    b"3\r\nabcd\r\n",
    b"3\r\nabc\n\n",
    b"\r\n",
    b"-1\r\n",
    b"0x3\r\nabc\r\n",
    b"5\r\nhello\r\nnope!!!!\r\n",
]


def by_h11(data: bytes) -> bytes:
    parser = response_parser(b"GET", 1000)
    parser.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert isinstance(parser.next_event(), h11.Response)
    body = b""
    while isinstance(event := parser.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return body


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 400), max_size=10), st.sampled_from([b"", b"HTTP/1.1"]))
def test_chunks_in_any_pieces_are_what_h11_reads(stream, cuts, more):
    body = ChunkedBody(1000)
    got = b""
    pieces = split(stream, cuts)
    pieces[-1] += more
    for piece in pieces:
        assert not body.done
        got += body.feed(piece)
    assert body.done
    assert body.excess == bool(more)
    assert got == by_h11(stream)


@pytest.mark.parametrize("data", WRONG)
@pytest.mark.parametrize("size", [1, 100])
def test_wrong_chunks_break_the_connection(data, size):
    def feed_all(body: ChunkedBody) -> None:
        for start in range(0, len(data), size):
            body.feed(data[start : start + size])

    with pytest.raises(ConnectionBroken, match="chunked answer"):
        feed_all(ChunkedBody(1000))


def test_ends_that_come_too_early():
    for body in (LengthBody(3), ChunkedBody(100)):
        body.feed(b"2")
        with pytest.raises(ConnectionBroken, match="ended"):
            body.end()
    close = CloseBody()
    assert close.feed(b"abc") == b"abc"
    close.end()
    assert close.done


def test_length_body_keeps_to_its_length():
    body = LengthBody(3)
    assert body.feed(b"ab") == b"ab"
    assert not body.done
    assert body.feed(b"cHTTP") == b"c"
    assert body.done
    assert body.excess
    assert LengthBody(0).done
