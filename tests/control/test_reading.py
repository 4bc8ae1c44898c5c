from __future__ import annotations

from types import SimpleNamespace

import pytest

from mcpd.control.ask import Who
from mcpd.control.reading import BODY_MAX, read
from mcpd.control.refusal import Refusal
from mcpd.control.table import Operation, number

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "size": {"type": "integer", "maximum": 9}},
    "required": ["name"],
    "additionalProperties": False,
}


async def work(operations, ask):
    return None


PLAIN = Operation("GET", "/v1/x", work, "Looks.", query=(number("n", "Some.", most=5),))
FULL = Operation("POST", "/v1/x", work, "Makes.", changes=True, body=SCHEMA)
EITHER = Operation("POST", "/v1/x", work, "Makes.", changes=True, body=SCHEMA, body_needed=False)


def request(body: bytes = b"", query: bytes = b"", **headers: bytes):
    kinds = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return SimpleNamespace(head=SimpleNamespace(query=query, headers=kinds), body=body)


def json(body: bytes, kind: bytes = b"application/json", **headers: bytes):
    return request(body, content_type=kind, **headers)


def refusal(made, operation) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(made, operation, {}, Who())
    return caught.value


def test_everything_is_in_the_ask():
    made = json(b'{"name": "a"}', if_match=b'"1"')
    got = read(made, FULL, {"name": "b"}, Who(token="t"))
    assert (got.body, got.path, got.query) == ({"name": "a"}, {"name": "b"}, {})
    assert (got.if_match, got.who.token, got.request) == ('"1"', "t", made)
    assert read(request(query=b"n=3"), PLAIN, {}, Who()).query == {"n": "3"}


@pytest.mark.parametrize("kind", [b"application/json", b"Application/JSON; charset=utf-8"])
def test_json_may_say_that_it_is_utf8(kind):
    assert read(json(b'{"name": "\xc3\xa9"}', kind), FULL, {}, Who()).body == {"name": "é"}


@pytest.mark.parametrize("query", [b"n=6", b"n=", b"n=-1", b"m=1", b"n=1&n=1", b"n", b"%ff=1", b"n=%ff", b"&", b"\xff"])
def test_a_query_that_does_not_fit_is_refused(query):
    assert refusal(request(query=query), PLAIN).code == "bad_request"


@pytest.mark.parametrize(
    ("made", "status", "code"),
    [
        (request(), 415, "not_json"),
        (request(b'{"name": "a"}'), 415, "not_json"),
        (json(b'{"name": "a"}', b"text/plain"), 415, "not_json"),
        (json(b'{"name": "a"}', b"application/x-www-form-urlencoded"), 415, "not_json"),
        (json(b""), 400, "bad_request"),
        (json(b"{"), 400, "bad_request"),
        (json(b'{"name": "\xff"}'), 400, "bad_request"),
        (json(b'{"name": NaN}'), 400, "bad_request"),
        (json(b"[" * 100_000), 400, "bad_request"),
        (json(b"[]"), 400, "invalid_body"),
        (json(b"{}"), 400, "invalid_body"),
        (json(b'{"name": ""}'), 400, "invalid_body"),
        (json(b'{"name": "a", "size": 10}'), 400, "invalid_body"),
        (json(b'{"name": "a", "other": 1}'), 400, "invalid_body"),
        (json(b" " * (BODY_MAX + 1)), 413, "too_large"),
    ],
)
def test_a_body_that_does_not_fit_is_refused(made, status, code):
    found = refusal(made, FULL)
    assert (found.status, found.code) == (status, code)
    assert found.message


def test_each_fault_of_a_body_has_its_place():
    found = refusal(json(b'{"size": 10, "nme": 1}'), FULL)
    assert found.encode().count(b'"path"') == 3
    assert b'"path":"nme","message":"unknown key","remedy":"did you mean \'name\'?"' in found.encode()
    assert b'"path":"name","message":"missing"' in found.encode()


def test_a_body_where_none_is_taken_is_refused():
    assert refusal(json(b"{}"), PLAIN).code == "bad_request"


def test_a_body_may_be_left_out_where_it_need_not_be():
    assert read(request(), EITHER, {}, Who()).body is None
    assert refusal(json(b"[]"), EITHER).code == "invalid_body"
