from __future__ import annotations

import msgspec
import pytest

from mcpd.errors import LimitExceeded
from mcpd.protocol.lines import LineDecoder, encode_line

OVERLONG = object()


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


def decode(data, limit=100, step=None):
    decoder = LineDecoder(limit)
    found = []
    for at in range(0, len(data), step or len(data)):
        decoder.receive_data(data[at : at + (step or len(data))])
        assert decoder.buffered <= limit
        found += drain(decoder)
    return found


CASES = {
    "one": (b'{"a":1}\n', [b'{"a":1}']),
    "several": (b"a\nbb\nccc\n", [b"a", b"bb", b"ccc"]),
    "unfinished": (b"a\nbb", [b"a"]),
    "crlf": (b"a\r\nb\r\n", [b"a", b"b"]),
    "mixed": (b"a\r\nb\nc\r\n", [b"a", b"b", b"c"]),
    "empty lines": (b"\n\r\n\na\n\n\r\nb\n", [b"a", b"b"]),
    "a carriage return inside stays": (b"a\rb\n", [b"a\rb"]),
    "bom": (b"\xef\xbb\xbfa\nb\n", [b"a", b"b"]),
    "bom alone": (b"\xef\xbb\xbf\na\n", [b"a"]),
    "bom later stays": (b"a\n\xef\xbb\xbfb\n", [b"a", b"\xef\xbb\xbfb"]),
    "at the limit": (b"x" * 100 + b"\n" + b"y\n", [b"x" * 100, b"y"]),
    "beyond the limit": (b"x" * 101 + b"\ny\n", [OVERLONG, b"y"]),
    "far beyond": (
        b"a\n" + b"x" * 1000 + b"\ny\n" + b"z" * 999 + b"\nb\n",
        [b"a", OVERLONG, b"y", OVERLONG, b"b"],
    ),
    "beyond and unfinished": (b"a\n" + b"x" * 101, [b"a", OVERLONG]),
    "bom and beyond": (b"\xef\xbb\xbf" + b"x" * 98 + b"\ny\n", [OVERLONG, b"y"]),
    "not text at all": (b"\xff\x00\xfe\n\x00\n", [b"\xff\x00\xfe", b"\x00"]),
}


@pytest.mark.parametrize("step", [None, 1, 2, 3, 7, 64])
@pytest.mark.parametrize("case", CASES)
def test_lines_however_they_arrive(case, step):
    data, expected = CASES[case]
    assert decode(data, step=step) == expected


def test_nothing_yet():
    decoder = LineDecoder(100)
    assert decoder.next_line() is None
    assert decoder.lines() == []
    decoder.receive_data(b"")
    assert decoder.next_line() is None


def test_drain_stops_before_an_overlong_line():
    decoder = LineDecoder(3)
    decoder.receive_data(b"a\nb\nxxxx\nc\nyyyy\nzzzz\nd\n")
    assert decoder.lines() == [b"a", b"b"]
    with pytest.raises(LimitExceeded, match="longer than 3 bytes"):
        decoder.lines()
    assert decoder.lines() == [b"c"]
    for _ in range(2):
        with pytest.raises(LimitExceeded):
            decoder.lines()
    assert decoder.lines() == [b"d"]
    assert decoder.lines() == []


def test_an_overlong_line_is_not_kept():
    decoder = LineDecoder(1000)
    for _ in range(1000):
        decoder.receive_data(b"x" * 900)
        assert decoder.buffered <= 1000
    decoder.receive_data(b"x\nok\n")
    assert drain(decoder) == [OVERLONG, b"ok"]


def test_a_long_line_in_many_chunks():
    decoder = LineDecoder(8 << 20)
    chunk = b"x" * 4096
    for _ in range(1024):
        decoder.receive_data(chunk)
        assert decoder.next_line() is None
    decoder.receive_data(b"y\n")
    line = decoder.next_line()
    assert line is not None
    assert len(line) == 1024 * 4096 + 1
    assert line.endswith(b"xy")
    assert type(line) is bytes


def test_encode_line():
    assert encode_line((b"{}",)) == b"{}\n"
    assert encode_line((b'{"a":', msgspec.Raw(b"[1]"), b"}")) == b'{"a":[1]}\n'


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_encode_line_has_no_line_end_inside(newline):
    pretty = newline.join([b"{", b'  "a": "x\\ny"', b"}", b""])
    line = encode_line((pretty,))
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert msgspec.json.decode(line) == {"a": "x\ny"}
