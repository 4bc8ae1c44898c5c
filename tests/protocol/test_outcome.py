"""A response's result, or its error raised with what can be read of it."""

from __future__ import annotations

import pytest

from mcpd.errors import INTERNAL_ERROR, RpcError
from mcpd.protocol.jsonrpc import decode
from mcpd.protocol.outcome import result_of


def answer(member: bytes):
    return decode(b'{"jsonrpc":"2.0","id":1,%b}' % member)


def test_a_result_as_it_came():
    assert bytes(result_of(answer(b'"result":{"a": 1e2}'))) == b'{"a": 1e2}'


def test_an_error_as_it_came():
    raw = b'{"code":-32002,"message":"no","data":{"uri": "x"},"more":1.0}'
    with pytest.raises(RpcError) as caught:
        result_of(answer(b'"error":' + raw))
    assert (caught.value.code, caught.value.message, caught.value.encode()) == (-32002, "no", raw)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (b'"text"', INTERNAL_ERROR, "error without a message"),
        (b"{}", INTERNAL_ERROR, "error without a message"),
        (b'{"code":1.5,"message":"m"}', INTERNAL_ERROR, "malformed error"),
        (b'{"code":7,"message":8}', INTERNAL_ERROR, "malformed error"),
        (b'{"code":7}', 7, "error without a message"),
    ],
)
def test_a_malformed_error_is_an_error_all_the_same(error, code, message):
    with pytest.raises(RpcError) as caught:
        result_of(answer(b'"error":' + error))
    assert (caught.value.code, caught.value.message) == (code, message)
