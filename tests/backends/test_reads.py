"""Keeping what resources hold: what may be kept, for whom, for how long, and how much."""

from __future__ import annotations

import json

import pytest

from mcpd.backends.reads import ENTRY, RESULT_MAX, TOTAL_MAX, TTL_MAX, Reads, uri_of
from mcpd.protocol.jsonrpc import members_of


def result(ttl: object = 1000, scope: str | None = "public", text: str = "x", **more: object) -> bytes:
    value: dict[str, object] = {"resultType": "complete", "contents": [{"uri": "a:b", "text": text}], "ttlMs": ttl}
    if scope is not None:
        value["cacheScope"] = scope
    return json.dumps({**value, **more}).encode()


def kept(ttl: object = 1000, scope: str | None = "public", **more: object) -> Reads:
    reads = Reads()
    reads.keep("a:b", "me", result(ttl, scope, **more), 10.0)  # type: ignore[arg-type]
    return reads


def given(reads: Reads, now: float, uri: str = "a:b") -> object:
    found = reads.get(uri, "me", now)
    return None if found is None else json.loads(found)


def test_it_is_given_again_while_it_is_fresh_and_not_a_moment_longer():
    reads = kept(1500)
    assert given(reads, 10.0) == json.loads(result(1500))
    assert given(reads, 11.499) is not None
    assert given(reads, 11.5) is None
    assert len(reads) == 0


def test_it_says_how_long_it_is_fresh_from_now_on():
    reads = kept(1500, vendor=[1.50])
    for age, left in ((0.0, 1500), (0.0001, 1499), (0.5, 1000), (1.4999, 0)):
        assert given(reads, 10.0 + age) == {**json.loads(result(1500)), "ttlMs": left, "vendor": [1.5]}
    found = reads.get("a:b", "me", 10.0)
    assert found is not None
    assert b'"vendor":[1.5]' in found


def test_a_text_that_is_nothing_but_fresh():
    reads = Reads()
    reads.keep("a:b", "me", b' { "ttlMs" : 5 } ', 10.0)
    assert reads.get("a:b", "me", 10.0) == b'{"ttlMs":5}'


def test_values_are_given_as_they_came():
    reads = Reads()
    reads.keep("a:b", "me", b'{"contents":[ {"n":1.0e400} ],"ttlMs":5,"x":"\\u00e4"}', 10.0)
    assert reads.get("a:b", "me", 10.0) == b'{"contents":[ {"n":1.0e400} ],"x":"\\u00e4","ttlMs":5}'


def test_public_is_for_everybody_and_private_for_the_one_who_read_it():
    assert kept(scope="public").get("a:b", "other", 10.0) is not None
    for scope in ("private", None, "nonsense"):
        assert kept(scope=scope).get("a:b", "other", 10.0) is None
        assert kept(scope=scope).get("a:b", "me", 10.0) is not None


def test_only_a_positive_whole_number_of_milliseconds_counts():
    for ttl in (0, -5, 1.5, "1000", None, True, 10**16):
        assert len(kept(ttl)) == 0, ttl


def test_only_a_complete_result_is_kept():
    for kind in ("input_required", "task", None, 7):
        assert len(kept(resultType=kind)) == 0, kind
    reads = Reads()
    reads.keep("a:b", "me", b'{"contents":[],"ttlMs":5}', 10.0)  # as servers gave it before there were other types
    assert len(reads) == 1


def test_what_is_no_object_is_not_kept():
    reads = Reads()
    reads.keep("a:b", "me", b"[1]", 0.0)
    assert len(reads) == 0


@pytest.mark.parametrize(
    ("params", "uri"),
    [
        ({"uri": "a:b"}, "a:b"),
        ({"uri": "a:b", "_meta": {"progressToken": 1, "traceparent": "t", "tracestate": "s", "baggage": "b"}}, "a:b"),
        ({"uri": "a:b", "_meta": {"io.modelcontextprotocol/clientCapabilities": {}}}, "a:b"),
        ({"uri": "a:b", "_meta": {"example.com/tenant": "x"}}, None),
        ({"uri": "a:b", "_meta": {"progressToken": 1, "tenant": "x"}}, None),
        ({"uri": "a:b", "inputResponses": {}}, None),
        ({"uri": "a:b", "requestState": "s"}, None),
        ({"uri": "a:b", "range": [0, 9]}, None),
        ({"uri": 7}, None),
        ({}, None),
    ],
)
def test_a_request_that_says_more_than_which_resource_is_not_kept(params, uri):
    assert uri_of(members_of(json.dumps(params).encode())) == uri


def test_nothing_is_kept_for_ever():
    reads = kept(10**12)
    assert reads.get("a:b", "me", 10.0 + TTL_MAX - 1) is not None
    assert reads.get("a:b", "me", 10.0 + TTL_MAX) is None


def test_an_update_ends_it_also_of_a_part_or_the_whole():
    for uri in ("a:b", "a:b/part", "a:"):
        reads = kept()
        reads.updated(uri)
        assert len(reads) == 0, uri
    reads = kept()
    reads.updated("c:d")
    assert len(reads) == 1


def test_it_can_be_told_that_something_changed():
    reads = kept()
    before = reads.changes
    reads.updated("nobody:knows")
    reads.clear()
    assert reads.changes == before + 2
    assert len(reads) == 0


def test_the_oldest_make_room_and_a_large_one_is_not_kept():
    reads = Reads()
    text = "x" * (RESULT_MAX - 200)
    fitting = TOTAL_MAX // (RESULT_MAX - 200 + len(result(text="")) + ENTRY)
    for number in range(fitting + 2):
        reads.keep(f"a:{number}", "me", result(text=text), 0.0)
    assert reads.get("a:0", "me", 0.0) is None
    assert reads.get("a:1", "me", 0.0) is None
    assert reads.get(f"a:{fitting + 1}", "me", 0.0) is not None
    assert len(reads) == fitting
    reads.keep("a:large", "me", result(text="x" * RESULT_MAX), 0.0)
    assert reads.get("a:large", "me", 0.0) is None


def test_very_many_small_ones_have_a_bound_too():
    reads = Reads()
    for number in range(2 * TOTAL_MAX // ENTRY):
        reads.keep(f"a:{number}", "me", b'{"ttlMs":1000}', 0.0)
    assert TOTAL_MAX // ENTRY * 0.9 < len(reads) < TOTAL_MAX // ENTRY
    for number in range(2 * TOTAL_MAX // ENTRY):
        reads.get(f"a:{number}", "me", 1.0)
    assert len(reads) == 0
    reads.keep("a:1", "me", result(text="x" * (RESULT_MAX // 2)), 2.0)
    assert len(reads) == 1, "what was dropped counts no more"


def test_a_newer_result_takes_the_place_of_the_older():
    reads = kept()
    reads.keep("a:b", "me", result(2000, text="newer"), 10.5)
    assert given(reads, 12.0) == {**json.loads(result(2000, text="newer")), "ttlMs": 500}
    assert len(reads) == 1
    reads.clear()
    assert reads.get("a:b", "me", 10.6) is None
