from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from mcpd.protocol.sequence import join_array, split_array
from tests.fuzz.runner import JSON


@pytest.mark.slow
@given(st.lists(JSON, max_size=6), st.sampled_from([None, 0, 2]), st.booleans())
@settings(max_examples=100, derandomize=True, database=None, deadline=None)
def test_split_and_join(value, indent, ascii_only):
    data = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    elements = split_array(data)
    assert [json.loads(bytes(element)) for element in elements] == value
    assert json.loads(join_array(list(elements))) == value


def test_elements_stay_as_they_came():
    elements = split_array(Raw(b' [ 1.0 , "\\u0041" ,\t{ "b" : 1, "a" : 2, "b" : 3 } , 1e999 , [ ] ] '))
    assert [bytes(element) for element in elements] == [
        b"1.0",
        b'"\\u0041"',
        b'{ "b" : 1, "a" : 2, "b" : 3 }',
        b"1e999",
        b"[ ]",
    ]
    assert join_array(list(elements)) == b'[1.0,"\\u0041",{ "b" : 1, "a" : 2, "b" : 3 },1e999,[ ]]'


def test_empty():
    assert split_array(b"[]") == []
    assert join_array([]) == b"[]"


def test_mixed_buffers():
    assert join_array([b"1", Raw(b"2")]) == b"[1,2]"


def test_a_cut_emoji_in_one_element_keeps_the_others():
    assert [bytes(element) for element in split_array(rb'[{"text":"ab\ud83d"},{"text":"c"}]')] == [
        rb'{"text":"ab\ud83d"}',
        rb'{"text":"c"}',
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"1",
        b"null",
        b"[1",
        b"[1,]",
        b"[1]]",
        b"[NaN]",
        b"[" * 5000,
        rb'["\ud83d",]',
        rb'["\ud83d"',
    ],
)
def test_no_array(data):
    with pytest.raises(ValueError):  # noqa: PT011 - the caller only wants to know that it is none
        split_array(data)


def test_deep_and_cut():
    with pytest.raises(ValueError, match="nested too deeply"):
        split_array(rb'["\ud83d",' + b"[" * 100_000)
