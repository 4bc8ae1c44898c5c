"""Keeping what resources hold: what may be kept, for whom, for how long, and how much."""

from __future__ import annotations

import json

from mcpd.backends.reads import RESULT_MAX, TOTAL_MAX, TTL_MAX, Reads


def result(ttl: object = 1000, scope: str | None = "public", text: str = "x", **more: object) -> bytes:
    value: dict[str, object] = {"resultType": "complete", "contents": [{"uri": "a:b", "text": text}], "ttlMs": ttl}
    if scope is not None:
        value["cacheScope"] = scope
    return json.dumps({**value, **more}).encode()


def kept(ttl: object = 1000, scope: str | None = "public", members: dict[str, object] | None = None) -> Reads:
    reads = Reads()
    reads.keep("a:b", "me", members or {}, result(ttl, scope), 10.0)  # type: ignore[arg-type]
    return reads


def test_it_is_given_again_while_it_is_fresh_and_not_a_moment_longer():
    reads = kept(1500)
    assert reads.get("a:b", "me", 11.499) == result(1500)
    assert reads.get("a:b", "me", 11.5) is None
    assert len(reads) == 0


def test_public_is_for_everybody_and_private_for_the_one_who_read_it():
    assert kept(scope="public").get("a:b", "other", 10.0) is not None
    for scope in ("private", None, "nonsense"):
        assert kept(scope=scope).get("a:b", "other", 10.0) is None
        assert kept(scope=scope).get("a:b", "me", 10.0) is not None


def test_only_a_positive_whole_number_of_milliseconds_counts():
    for ttl in (0, -5, 1.5, "1000", None, True, 10**16):
        assert len(kept(ttl)) == 0, ttl


def test_a_request_with_answers_is_not_kept():
    for member in ("inputResponses", "requestState"):
        assert len(kept(members={member: b"{}"})) == 0


def test_what_is_no_object_is_not_kept():
    reads = Reads()
    reads.keep("a:b", "me", {}, b"[1]", 0.0)
    assert len(reads) == 0


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


def test_the_oldest_make_room_and_a_large_one_is_not_kept():
    reads = Reads()
    text = "x" * (RESULT_MAX - 200)
    fitting = TOTAL_MAX // RESULT_MAX
    for number in range(fitting + 2):
        reads.keep(f"a:{number}", "me", {}, result(text=text), 0.0)
    assert reads.get("a:0", "me", 0.0) is None
    assert reads.get("a:1", "me", 0.0) is None
    assert reads.get(f"a:{fitting + 1}", "me", 0.0) is not None
    assert len(reads) == fitting
    reads.keep("a:large", "me", {}, result(text="x" * RESULT_MAX), 0.0)
    assert reads.get("a:large", "me", 0.0) is None


def test_a_newer_result_takes_the_place_of_the_older():
    reads = kept()
    reads.keep("a:b", "me", {}, result(2000, text="newer"), 10.5)
    assert reads.get("a:b", "me", 12.0) == result(2000, text="newer")
    assert len(reads) == 1
    reads.clear()
    assert reads.get("a:b", "me", 10.6) is None
