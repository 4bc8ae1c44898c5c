from __future__ import annotations

import json

import msgspec

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, ProtocolError, RpcError
from mcpd.frontends.replies import JSON, LARGE, refuse, send_error, send_parts
from tests.frontends.fakes import FakeRequest


class PartsRequest:
    """Keeps the body in the form in which it was handed over."""

    def __init__(self) -> None:
        self.body: object = None

    def answer(self, status, headers, body) -> None:
        self.body = body


def test_small_parts_are_joined_and_large_ones_are_not():
    small, large = PartsRequest(), PartsRequest()
    send_parts(small, 200, JSON, (b'{"a":', msgspec.Raw(b"1"), b"}"))
    assert small.body == b'{"a":1}'
    send_parts(large, 200, JSON, (b"[", msgspec.Raw(b"1" * LARGE), b"]"))
    assert isinstance(large.body, tuple)
    assert b"".join(bytes(part) for part in large.body) == b"[" + b"1" * LARGE + b"]"


def test_an_error_carries_its_status_and_the_id_as_it_came():
    request = FakeRequest()
    send_error(request, ProtocolError(INVALID_PARAMS, "no"), b'"1.0"')
    [(status, headers, body)] = request.answers
    assert (status, headers) == (400, JSON)
    assert json.loads(body) == {
        "jsonrpc": "2.0",
        "id": "1.0",
        "error": {"code": INVALID_PARAMS, "message": "no"},
    }


def test_another_status_can_be_given_and_503_says_when_to_come_back():
    busy = RpcError(INTERNAL_ERROR, "busy", http_status=503)
    for given, expected in ((None, (503, JSON + b"Retry-After: 5\r\n")), (404, (404, JSON))):
        request = FakeRequest()
        send_error(request, busy, b"1", given)
        assert request.answers[0][:2] == expected


def test_a_refusal_is_an_error_without_id():
    for status, code in ((404, -32600), (503, -32603)):
        request = FakeRequest()
        refuse(request, status, 'bad "thing"')
        assert request.answers[0][0] == status
        message = json.loads(request.answers[0][2])
        assert message == {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": 'bad "thing"'}}
