from __future__ import annotations

import msgspec
import pytest

from mcpd.errors import LimitExceeded
from mcpd.protocol.sse import Event, EventDecoder, encode_comment, encode_event

OVERLONG = object()


def drain(decoder):
    found = []
    while True:
        try:
            event = decoder.next_event()
        except LimitExceeded:
            found.append(OVERLONG)
            continue
        if event is None:
            return found
        found.append(event)


def decode(data, limit=100, step=None):
    decoder = EventDecoder(limit)
    found = []
    for at in range(0, len(data), step or len(data)):
        decoder.receive_data(data[at : at + (step or len(data))])
        assert decoder.buffered <= limit + 1
        found += drain(decoder)
    return found


def message(data, id=None, retry=None):
    return Event("message", data, id, retry)


CASES = {
    "usual": (b"event: message\ndata: {}\n\n", [message(b"{}")]),
    "bare": (b"data: {}\n\n", [message(b"{}")]),
    "two": (b"data: 1\n\nevent: message\ndata: 2\n\n", [message(b"1"), message(b"2")]),
    "named": (b"event: endpoint\ndata: /m?s=1\n\n", [Event("endpoint", b"/m?s=1")]),
    "empty name": (b"event:\ndata: 1\n\n", [message(b"1")]),
    "no space": (b"data:1\n\n", [message(b"1")]),
    "only one space goes": (b"data:  1\n\n", [message(b" 1")]),
    "many lines": (b"data: {\ndata:  1\ndata: }\n\n", [message(b"{\n 1\n}")]),
    "lines with data of none": (b"data\ndata\n\n", [message(b"\n")]),
    "empty data is nothing": (b"data:\n\ndata\n\n", []),
    "name without data": (b"event: ping\n\ndata: 1\n\n", [message(b"1")]),
    "id": (b"id: s1::2\nevent: message\ndata: 1\n\n", [message(b"1", "s1::2")]),
    "id after data": (b"data: 1\nid: 7\n\n", [message(b"1", "7")]),
    "empty id": (b"id\ndata: 1\n\n", [message(b"1", "")]),
    "id with nul": (b"id: a\0b\ndata: 1\n\n", [message(b"1")]),
    "priming": (b"id: s1::1\nretry: 500\ndata: \n\n", [message(b"", "s1::1", 500)]),
    "priming without data": (b"id: 9\n\n", [message(b"", "9")]),
    "retry alone": (b"retry: 10\n\n", [message(b"", None, 10)]),
    "retry not digits": (b"retry: 1.5\ndata: 1\n\nretry: -1\ndata: 2\n\n", [message(b"1"), message(b"2")]),
    "retry of silly size": (b"retry: 12345678901\ndata: 1\n\n", [message(b"1")]),
    "unknown fields": (b"foo: bar\nbaz\ndata: 1\ndataset: 2\n\n", [message(b"1")]),
    "comments": (b": hi\n\ndata: 1\n: in between\ndata: 2\n\n:\n\n", [message(b"1\n2")]),
    "comment before": (b": hi\ndata: 1\n\n", [message(b"1")]),
    "blank lines": (b"\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n", [message(b"1"), message(b"2")]),
    "unfinished": (b"data: 1\n\ndata: 2\n", [message(b"1")]),
    "bom": (b"\xef\xbb\xbfdata: 1\n\n", [message(b"1")]),
    "bom later is a field": (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [message(b"1")]),
    "colon in data": (b'data: {"a":"b: c"}\n\n', [message(b'{"a":"b: c"}')]),
    "not utf-8": (b"event: \xff\ndata: \xff\xfe\n\n", [Event("\ufffd", b"\xff\xfe")]),
    "beyond the limit": (b"data: " + b"x" * 95 + b"\n\ndata: 1\n\n", [OVERLONG, message(b"1")]),
    "at the limit": (b"data: " + b"x" * 94 + b"\n\ndata: 1\n\n", [message(b"x" * 94), message(b"1")]),
    "far beyond": (
        b"data: 0\n\n" + b"data: 12345678\n" * 50 + b"\ndata: 1\n\n",
        [message(b"0"), OVERLONG, message(b"1")],
    ),
    "beyond and unfinished": (b"data: 0\n\ndata: " + b"x" * 200, [message(b"0"), OVERLONG]),
    "comments do not count": (b": 12345678\n" * 50 + b"data: 1\n\n", [message(b"1")]),
    "one long comment does": (b":" + b"x" * 200 + b"\n\ndata: 1\n\n", [OVERLONG, message(b"1")]),
}


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("step", [None, 1, 2, 3, 5, 64])
@pytest.mark.parametrize("case", CASES)
def test_events_however_they_arrive(case, step, newline):
    data, expected = CASES[case]
    assert decode(data.replace(b"\n", newline), step=step) == expected


@pytest.mark.parametrize("step", [None, 1, 3])
def test_mixed_line_ends(step):
    assert decode(b"data: 1\r\n\rdata: 2\n\r\ndata: 3\r\r\n", step=step) == [
        message(b"1"),
        message(b"2"),
        message(b"3"),
    ]


def test_last_event_id_follows_what_was_taken():
    decoder = EventDecoder(100)
    decoder.receive_data(b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\nid: 3\ndata: unfinished")
    seen = []
    while (event := decoder.next_event()) is not None:
        seen.append((event.id, decoder.last_event_id))
    assert seen == [("1", "1"), (None, "1"), ("2", "2")]


@pytest.mark.parametrize("step", [100, 1])
def test_comments_are_counted(step):
    data = b": a\n\n: b\n: c\ndata: 1\n: d\n\n"
    decoder = EventDecoder(100)
    for at in range(0, len(data), step):
        decoder.receive_data(data[at : at + step])
    drain(decoder)
    assert decoder.comments == 4


def test_a_quiet_server_may_send_comments_forever():
    decoder = EventDecoder(100)
    for _ in range(1000):
        decoder.receive_data(b": keep-alive\n")
    assert drain(decoder) == []
    assert decoder.comments == 1000


def test_a_long_event_in_many_chunks():
    decoder = EventDecoder(8 << 20)
    decoder.receive_data(b"event: message\r\ndata: ")
    for _ in range(1024):
        decoder.receive_data(b"x" * 4096)
        assert decoder.next_event() is None
    decoder.receive_data(b"\r\n\r")
    event = decoder.next_event()
    assert event is not None
    assert event.data == b"x" * (1024 * 4096)
    assert type(event.data) is bytes


def test_an_overlong_event_is_not_kept():
    decoder = EventDecoder(1000)
    for _ in range(1000):
        decoder.receive_data(b"data: " + b"x" * 900 + b"\n")
        assert decoder.buffered <= 1000
    decoder.receive_data(b"\ndata: ok\n\n")
    assert drain(decoder) == [OVERLONG, message(b"ok")]


def test_encode_event():
    assert encode_event((b"{}",)) == b"event: message\ndata: {}\n\n"
    assert encode_event((b"[", msgspec.Raw(b"1"), b"]"), id=b"s::1") == b"id: s::1\nevent: message\ndata: [1]\n\n"
    assert encode_event((b"/m",), event=b"endpoint") == b"event: endpoint\ndata: /m\n\n"
    primed = encode_event((), id=b"s::0", retry=500)
    assert primed == b"id: s::0\nretry: 500\nevent: message\ndata: \n\n"
    assert decode(primed) == [message(b"", "s::0", 500)]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_encoded_data_is_one_line(newline):
    pretty = newline.join([b"{", b'  "a": "x\\ny"', b"}", b""])
    [event] = decode(encode_event((pretty,), id=b"1"))
    assert b"\n" not in event.data
    assert msgspec.json.decode(event.data) == {"a": "x\ny"}


@pytest.mark.parametrize("bad", [b"a\nb", b"a\rb", b"a\0b"])
def test_encoder_refuses_what_breaks_the_stream(bad):
    with pytest.raises(ValueError, match="does not fit"):
        encode_event((b"1",), id=bad)
    with pytest.raises(ValueError, match="does not fit"):
        encode_event((b"1",), event=bad)
    with pytest.raises(ValueError, match="does not fit"):
        encode_comment(bad)


def test_encode_comment():
    assert encode_comment(b"ping") == b": ping\n\n"
    assert decode(encode_comment()) == []
