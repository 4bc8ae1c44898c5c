"""Event streams: however the bytes arrive, the same events come out, and they are what the standard says."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from mcpd.errors import LimitExceeded
from mcpd.protocol.lines import BOM
from mcpd.protocol.sse import RETRY_DIGITS_MAX, Event, EventDecoder, encode_comment, encode_event
from tests.fuzz.runner import CUTS, JSON, Target, main, pieces

OVERLONG = None

STREAMS = st.lists(
    st.sampled_from(
        [
            *(b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", BOM, b":", b": ping\n", b" ", b"\0"),
            *(b"data", b"data:", b"data: ", b"data: {}", b"data: {}\n\n", b"event: message\n", b"event: x\n"),
            *(b"id: 7\n", b"id:", b"retry: 10\n", b"retry:"),
        ]
    )
    | st.binary(max_size=8),
    max_size=40,
).map(b"".join)


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


def decode(chunks, limit):
    decoder = EventDecoder(limit)
    found = []
    for chunk in chunks:
        decoder.receive_data(chunk)
        assert decoder.buffered <= limit + 1
        found += drain(decoder)
    return found, decoder.last_event_id, decoder.comments if OVERLONG not in found else 0


def expected(data):
    """Line by line, as the standard's algorithm is written down; no limit."""
    text = data.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found = []
    name, lines, id, retry = b"", [], None, None
    for line in text.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if any(lines) or len(lines) > 1 or id is not None or retry is not None:
                found.append(Event(name.decode(errors="replace") or "message", b"\n".join(lines), id, retry))
            name, lines, id, retry = b"", [], None, None
        elif field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
        elif field == b"id" and b"\0" not in value:
            id = value.decode(errors="replace")
        elif field == b"retry" and value.isdigit() and len(value) <= RETRY_DIGITS_MAX:
            retry = int(value)
    return found


def check_arrival(value):
    data, cuts, limit = value
    whole = decode([data], limit)
    assert decode([data[at : at + 1] for at in range(len(data))], limit) == whole
    assert decode(pieces(data, cuts), limit) == whole


def check_standard(value):
    data, cuts = value
    assert decode(pieces(data, cuts), len(data))[0] == expected(data)


def check_round_trip(value):
    messages, cuts = value
    data = b"".join(
        encode_event((json.dumps(message, indent=indent).encode(),), id=id, retry=retry) + encode_comment(b"x")
        for message, indent, id, retry in messages
    )
    events, _, comments = decode(pieces(data, cuts), len(data))
    assert comments == len(messages)
    assert [(json.loads(event.data), event.event, event.id, event.retry) for event in events] == [
        (message, "message", id.decode() if id is not None else None, retry) for message, _, id, retry in messages
    ]


IDS = st.none() | st.text("abc:0 ", max_size=5).map(str.encode)
RETRIES = st.none() | st.integers(0, 99_999)

TARGETS = (
    Target("sse arrival", st.tuples(STREAMS, CUTS, st.integers(min_value=0, max_value=60)), check_arrival),
    Target("sse standard", st.tuples(STREAMS, CUTS), check_standard),
    Target(
        "sse round trip",
        st.tuples(st.lists(st.tuples(JSON, st.none() | st.integers(0, 2), IDS, RETRIES), max_size=6), CUTS),
        check_round_trip,
    ),
)

if __name__ == "__main__":
    main(TARGETS)
