"""Lines: however the bytes arrive, the same lines come out, and they are what a plain split says."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from mcpd.errors import LimitExceeded
from mcpd.protocol.lines import BOM, LineDecoder, encode_line
from tests.fuzz.runner import CUTS, JSON, Target, main, pieces

OVERLONG = None

STREAMS = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", BOM, b"a", b"{}"]) | st.binary(max_size=12), max_size=40
).map(b"".join)


def drain(decoder):
    found = []
    while True:
        try:
            line = decoder.next_line()
        except LimitExceeded:
            found.append(OVERLONG)
            continue
        if line is None:
            return found
        found.append(line)


def decode(chunks, limit):
    decoder = LineDecoder(limit)
    found = []
    for chunk in chunks:
        decoder.receive_data(chunk)
        assert decoder.buffered <= limit
        found += drain(decoder)
    return found


def expected(data, limit):
    *lines, rest = data.split(b"\n")
    found = []
    for number, line in enumerate(lines):
        if len(line) > limit:
            found.append(OVERLONG)
            continue
        text = (line.removeprefix(BOM) if number == 0 else line).rstrip(b"\r")
        if text:
            found.append(text)
    return [*found, OVERLONG] if len(rest) > limit else found


def check_arrival(value):
    data, cuts, limit = value
    lines = expected(data, limit)
    assert decode([data], limit) == lines
    assert decode([data[at : at + 1] for at in range(len(data))], limit) == lines
    assert decode(pieces(data, cuts), limit) == lines


def check_drain(value):
    data, cuts, limit = value
    decoder = LineDecoder(limit)
    found = []
    for chunk in pieces(data, cuts):
        decoder.receive_data(chunk)
        while True:
            try:
                lines = decoder.lines()
            except LimitExceeded:
                found.append(OVERLONG)
                continue
            if not lines:
                break
            found += lines
    assert found == expected(data, limit)


def check_round_trip(value):
    messages, cuts = value
    data = b"".join(encode_line((json.dumps(message, indent=indent).encode(),)) for message, indent in messages)
    lines = decode(pieces(data, cuts), len(data))
    assert [json.loads(line) for line in lines] == [message for message, _ in messages]


LIMITS = st.integers(min_value=0, max_value=40)

TARGETS = (
    Target("lines arrival", st.tuples(STREAMS, CUTS, LIMITS), check_arrival),
    Target("lines drain", st.tuples(STREAMS, CUTS, LIMITS), check_drain),
    Target(
        "lines round trip",
        st.tuples(st.lists(st.tuples(JSON, st.none() | st.integers(0, 2)), max_size=6), CUTS),
        check_round_trip,
    ),
)

if __name__ == "__main__":
    main(TARGETS)
