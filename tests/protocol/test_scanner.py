"""The slow road must agree with msgspec wherever both can go, and with the standard library where only it
can."""

from __future__ import annotations

import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from mcpd.protocol.scanner import PARTS_MAX, has_surrogate, scan_array, scan_object

HALF = rb'"\ud83d"'

# Strings with lone surrogates, which json.dumps writes as escapes.
STRINGS = st.text(st.characters(codec=None), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=8,
)
INDENTS = st.sampled_from([None, 0, 3])


def texts(parts):
    """Raw as bytes: Raw compares by what it views, but shows nothing when it differs."""
    return [bytes(part) for part in parts]


@pytest.mark.slow
@given(st.dictionaries(STRINGS, VALUES, max_size=5), INDENTS)
@settings(max_examples=150, derandomize=True, database=None, deadline=None)
def test_objects(value, indent):
    data = json.dumps(value, indent=indent).encode()
    members = scan_object(data)
    assert list(members) == list(value)
    assert [json.loads(bytes(raw)) for raw in members.values()] == list(value.values())
    for raw in members.values():
        assert bytes(raw) in data  # the bytes it came as
        assert bytes(raw) == bytes(raw).strip()


@pytest.mark.slow
@given(st.lists(VALUES, max_size=5), INDENTS)
@settings(max_examples=150, derandomize=True, database=None, deadline=None)
def test_arrays(value, indent):
    elements = scan_array(json.dumps(value, indent=indent).encode())
    assert [json.loads(bytes(raw)) for raw in elements] == value


@pytest.mark.slow
@given(st.lists(st.sampled_from("{}[],:\"\\ \n\t0123456789.eE+-tfnu/adx'\x00é\ufeff"), max_size=24).map("".join))
@settings(max_examples=600, derandomize=True, database=None, deadline=None)
def test_no_more_lenient_than_msgspec(text):
    """Whatever the slow road takes that holds no surrogate, the fast road takes, and both see the same."""
    data = text.encode()
    for scan, kind in ((scan_object, dict[str, Raw]), (scan_array, list[Raw])):
        try:
            expected = msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError:
            expected = None
        try:
            found = scan(data)
        except (ValueError, RecursionError):
            continue
        assert found == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"[]",
        b"{",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b"{,}",
        b'{"a":1 "b":2}',
        b'{"a":1}x',
        b'{"a":1,"a":2}',
        b"{1:2}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":[Infinity]}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":"\n"}',
        rb'{"a":"\x"}',
        rb'{"a":"\ud8"}',
        b"{'a':1}",
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b'{"a":\xc2\xa01}',
    ],
)
def test_not_an_object(data):
    with pytest.raises(ValueError):  # noqa: PT011 - several reasons, all of them ValueErrors
        scan_object(data)


@pytest.mark.parametrize("data", [b"", b"{}", b"[", b"[1", b"[1,]", b"[,]", b"[1 2]", b"[]]", b"[NaN]", b'["\t"]'])
def test_not_an_array(data):
    with pytest.raises(ValueError):  # noqa: PT011
        scan_array(data)


def test_spellings_stay():
    data = rb' { "n" : 1.50e+007 , "big":123456789012345678901234567890, "s":"\ud83d\u0041\/",' + b"\n"
    data += b' "o": { "x" : [ ] } } '
    assert {name: bytes(raw) for name, raw in scan_object(data).items()} == {
        "n": b"1.50e+007",
        "big": b"123456789012345678901234567890",
        "s": rb'"\ud83d\u0041\/"',
        "o": b'{ "x" : [ ] }',
    }
    assert texts(scan_array(rb'[ -0 , "\udfff" ,{}]')) == [b"-0", rb'"\udfff"', b"{}"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HALF, True),
        (rb'"\uDFFF"', True),
        (rb'"\ud83d\ude00"', True),  # a whole pair: msgspec takes it, and nobody asks
        (rb'"\ud7ff"', False),
        (rb'"\ue000"', False),
        ('"😀"'.encode(), False),
    ],
)
def test_has_surrogate(data, expected):
    assert has_surrogate(data) is expected


def test_deep_nesting():
    with pytest.raises(RecursionError):
        scan_object(b'{"a":' + b"[" * 100_000)
    with pytest.raises(RecursionError):
        scan_array(b"[" * 100_000)


def test_too_many_parts():
    members = b",".join(b'"%d":1' % number for number in range(PARTS_MAX + 1))
    with pytest.raises(ValueError, match="members"):
        scan_object(b"{" + members + b"}")
    with pytest.raises(ValueError, match="more than 2"):
        scan_array(b"[1,2,3]", 2)
    assert len(scan_array(b"[1,2]", 2)) == 2
    with pytest.raises(ValueError, match="elements"):
        scan_array(b"[" + b"1," * PARTS_MAX + b"1]")


def test_nothing_large_is_built():
    """A large value inside costs a fraction of its size on top of the text and the copy that is the
    result."""
    data = b'{"a":[' + b'{"k":12345},' * 100_000 + rb'"\ud800"]}'
    tracemalloc.start()
    scan_object(data)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(data)
