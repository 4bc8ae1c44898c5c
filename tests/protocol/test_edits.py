from __future__ import annotations

import pytest
from msgspec import Raw

from mcpd.protocol.edits import apply, become, dropping, each, here, put, quote, text, within


def test_apply_returns_the_same_object_when_nothing_was_done():
    content = Raw(b'{ "a" : 1.0 }')
    assert apply(content, dropping("b")) is content
    assert apply(content) is content
    assert bytes(apply(content, dropping("a"))) == b"{}"


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"{", b'{"\xff":1}'])
def test_apply_leaves_what_is_no_object(content):
    assert apply(content, dropping("a")) is content


def test_edits_reach_inside():
    content = b'{"a":{"x":1,"y":2.0},"b":[{"x":1},{"y":2},3],"x":1}'
    assert apply(content, within("a", dropping("x"))) == b'{"a":{"y":2.0},"b":[{"x":1},{"y":2},3],"x":1}'
    assert apply(content, each("b", dropping("x"))) == b'{"a":{"x":1,"y":2.0},"b":[{},{"y":2},3],"x":1}'
    assert apply(content, here(dropping("x"), dropping("a", "b"))) == b"{}"
    for nothing in (within("c", dropping("x")), within("b", dropping("x")), each("a", dropping("x"))):
        assert apply(content, nothing) is content


def test_put_keeps_the_place():
    members = {"a": Raw(b"1"), "b": Raw(b"2")}
    assert not put(members, "a", members["a"])
    assert put(members, "a", b"3")
    assert [(name, bytes(raw)) for name, raw in members.items()] == [("a", b"3"), ("b", b"2")]


def test_become_keeps_only_what_it_is_told():
    members = {"a": Raw(b"1"), "b": Raw(b"2")}
    assert become(members, "b", "c", type=b'"t"')
    assert {name: bytes(raw) for name, raw in members.items()} == {"type": b'"t"', "b": b"2"}


def test_text():
    members = {"s": Raw(b'"\\u00e9"'), "n": Raw(b"1"), "bad": Raw(b'"\xff"'), "lone": Raw(b'"\\ud800"')}
    assert text(members, "s") == "é"
    assert [text(members, name) for name in ("n", "bad", "lone", "absent")] == [None] * 4
    assert quote('"\n') == b'"\\"\\n"'
