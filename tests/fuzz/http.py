"""HTTP: however a request stream arrives, and whether its heads were seen before, the same requests come out;
chunked answers and session ids break with the error that is meant for it, or not at all."""

from __future__ import annotations

from hypothesis import strategies as st

from mcpd.errors import ConnectionBroken
from mcpd.gateway.seal import KEY_SIZE, Seal
from mcpd.wire.http_body import ChunkedBody
from mcpd.wire.http_head import Head, HttpRefused, Memo
from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_reader import RequestReader
from tests.fuzz.runner import CUTS, Target, main, pieces

LIMITS = HttpLimits(head=300, body=200)

FRAGMENTS = st.sampled_from(
    [
        b"POST /mcp HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.0\r\n",
        b"Host: h\r\n",
        b"Content-Length: 3\r\n",
        b"content-length: 0\r\n",
        b"Content-Length: 9999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"A: b\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
        b"\x00",
    ]
)
WELL_FORMED = st.sampled_from(
    [
        b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n\r\nabcdefghijkl",
        b"GET /sse HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ]
)
STREAMS = st.lists(WELL_FORMED | FRAGMENTS | st.binary(max_size=6), max_size=14).map(b"".join)


def read(chunks: list[bytes], memo: Memo[Head]) -> tuple[list[tuple[bytes, bytes, bytes]], int]:
    """The requests that were read, and the status of the refusal that ended it; 0 when the input ended first."""
    requests: list[tuple[bytes, bytes, bytes]] = []
    reader, begun = RequestReader(LIMITS, memo), False
    try:
        for chunk in chunks:
            data = chunk
            while data:
                end = data.find(b"\r\n\r\n") + 4
                head = None if begun else memo.heads.get(data[:end]) or memo.recall(data[:end])
                if head is not None and len(data) - end == head.plain:
                    requests.append((head.method, head.target, data[end:]))
                    break
                reader.feed(data)
                data, begun = b"", True
                if (whole := reader.next()) is not None:
                    requests.append((whole[0].method, whole[0].target, whole[1]))
                    if not whole[0].keep_alive:
                        return requests, 0
                    data = reader.rest
                    reader, begun = RequestReader(LIMITS, memo), False
    except HttpRefused as refused:
        return requests, refused.status
    return requests, 0


def check_requests(value):
    data, cuts = value
    memo: Memo[Head] = Memo(LIMITS.body)
    first = read([data] if data else [], memo)
    again = read([data] if data else [], memo)
    assert first[0] == again[0]
    cut = read(pieces(data, cuts), Memo(LIMITS.body))
    # A limit may be noticed sooner or later, depending on what arrives together; what was read before it is the same.
    assert cut[0][: len(first[0])] == first[0][: len(cut[0])]


def check_chunks(value):
    data, cuts = value
    body = ChunkedBody(LIMITS.head)
    try:
        for piece in pieces(data, cuts):
            if body.done:
                break
            body.feed(piece)
        else:
            if not body.done:
                body.end()
    except ConnectionBroken:
        pass


SEAL = Seal(bytes(KEY_SIZE))


def check_ids(value):
    assert SEAL.open(value) is None


TARGETS = (
    Target("http requests", st.tuples(STREAMS, CUTS), check_requests),
    Target("http chunks", st.tuples(STREAMS, CUTS), check_chunks),
    Target("session ids", st.text(max_size=90), check_ids),
)

if __name__ == "__main__":
    main(TARGETS)
