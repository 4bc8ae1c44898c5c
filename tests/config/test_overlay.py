from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpd.config.faults import ConfigErrors
from mcpd.config.origins import Origin, Provenance
from mcpd.config.overlay import MAX_OVERLAY, ChangeRefused, Entry, Mark, Overlay, decode, encode

ADDED = Provenance(at="2026-11-28T10:00:00Z", by="alice", how="mcpctl")
LATER = Provenance(at="2026-11-29T10:00:00Z", by="bob", how="curl")
TABLE = {"command": "x", "env": {"TOKEN": "${TOKEN}"}}
ONE = Overlay().with_servers({"a": TABLE}, ADDED, {}, replace=False)
FILE = {"f": Origin(file="/etc/m.yaml", line=3), "off": Origin(file="/etc/m.yaml", line=4, enabled_there=False)}


def refusal(code):
    return _Code(code)


class _Code:
    def __init__(self, code):
        self.code = code
        self.caught = pytest.raises(ChangeRefused)

    def __enter__(self):
        self.info = self.caught.__enter__()
        return self.info

    def __exit__(self, *error):
        done = self.caught.__exit__(*error)
        assert self.info.value.code == self.code
        assert self.info.value.remedy
        return done


def test_what_was_given_comes_back_as_it_was_with_its_lines():
    again = decode(encode(ONE), "/s/overlay.json")
    entry = again.servers["a"]
    assert (entry.table, entry.added) == (TABLE, ADDED)
    text = encode(ONE).decode().splitlines()
    assert '"a": {' in text[entry.lines[()] - 1]
    assert "${TOKEN}" in text[entry.lines["env", "TOKEN"] - 1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1), st.dictionaries(st.text(), JSON, max_size=4), max_size=3))
def test_whatever_is_written_is_read_again_as_it_was(tables):
    whole = Overlay().with_servers(tables, ADDED, {}, replace=False)
    try:
        data = encode(whole)
    except ChangeRefused:
        return  # what it would not be read as is refused, which is as good
    assert {name: entry.table for name, entry in decode(data, "overlay.json").servers.items()} == tables


def test_a_name_is_added_once_unless_it_is_replaced():
    with refusal("exists") as caught:
        ONE.with_servers({"a": {"command": "y"}}, LATER, {}, replace=False)
    assert "by alice with mcpctl" in caught.value.reason
    two = ONE.with_servers({"b": TABLE, "a": {"command": "y"}}, LATER, {}, replace=True)
    assert list(two.servers) == ["a", "b"], "it keeps its place"
    assert two.servers["a"] == Entry({"command": "y"}, LATER)


@pytest.mark.parametrize("replace", [False, True])
def test_what_a_file_defines_is_the_files(replace):
    with refusal("in_file") as caught:
        ONE.with_servers({"f": TABLE}, LATER, FILE, replace=replace)
    assert "/etc/m.yaml:3" in caught.value.reason
    with refusal("in_file") as caught:
        ONE.without_server("f", FILE)
    assert "/etc/m.yaml:3" in caught.value.reason
    assert "mcpctl disable f" in caught.value.remedy


def test_one_in_a_conflict_can_be_removed():
    both = Overlay({"f": Entry(TABLE, ADDED)}, {"f": Mark(False, LATER)})
    left = both.without_server("f", FILE)
    assert left.servers == {}
    assert left.marks == both.marks, "it is about the one of the file"


def test_what_goes_takes_its_mark_along():
    marked = ONE.with_mark("a", Mark(False, LATER), {})
    assert marked.marks == {"a": Mark(False, LATER)}
    assert marked.without_server("a", {}) == Overlay({}, {})
    assert marked.with_servers({"a": TABLE}, LATER, {}, replace=True).marks == {}
    for change in (lambda: ONE.without_server("n", FILE), lambda: ONE.with_mark("n", Mark(False, LATER), FILE)):
        with refusal("no_such_server"):
            change()


@pytest.mark.parametrize(
    ("name", "enabled", "kept"),
    [("a", False, True), ("a", True, False), ("f", False, True), ("f", True, False), ("off", True, True)],
)
def test_a_mark_stays_only_while_it_says_something_else_than_the_definition(name, enabled, kept):
    marked = ONE.with_mark(name, Mark(not enabled, ADDED), FILE).with_mark(name, Mark(enabled, LATER), FILE)
    assert marked.marks == ({name: Mark(enabled, LATER)} if kept else {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"format": 1, "servers": {"a": {}}}',
        '{"format": 1, "servers": {"a": {"at": "", "by": "", "how": "", "table": []}}}',
        '{"format": 1, "marks": {"a": {"at": "", "by": "", "how": "", "enabled": 1}}}',
        '{"format": 1, "more": {}}',
        '{"format": 2}',
        '{"format": 1, "format": 1}',
        '{"format": 1, "servers": ' + "[" * 1000,
        "\udcff",
    ],
)
def test_what_is_not_understood_is_refused_as_a_whole(text):
    with pytest.raises(ConfigErrors) as caught:
        decode(text.encode("utf-8", "surrogateescape"), "/s/overlay.json")
    assert str(caught.value).startswith("/s/overlay.json")


def test_a_text_without_end_is_not_read():
    with pytest.raises(ConfigErrors, match="longer than"):
        decode(b" " * (MAX_OVERLAY + 1), "overlay.json")


@pytest.mark.parametrize(
    "odd", [float("inf"), {"x": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}]
)
def test_what_would_not_be_read_again_is_not_written(odd):
    with refusal("not_written"):
        encode(Overlay().with_servers({"a": {"env": odd}}, ADDED, {}, replace=False))


def test_it_is_json_for_people():
    assert json.loads(encode(ONE))["servers"]["a"]["by"] == "alice"
    assert encode(ONE).endswith(b"}\n")
