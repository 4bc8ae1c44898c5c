"""Progress tokens in `_meta`: read as the client spelled them, replaced by ours, everything else untouched."""

from __future__ import annotations

import pytest

from mcpd.protocol.jsonrpc import ID_MAX, encode_members, members_of
from mcpd.protocol.meta import progress_token, with_progress_token


@pytest.mark.parametrize("token", [b"1", b'"a"', b"1.0", b"-3", b'"\\u0061"'])
def test_a_token_keeps_its_spelling(token):
    assert progress_token(members_of(b'{"_meta":{"progressToken":%b}}' % token)) == token


@pytest.mark.parametrize(
    "params",
    [
        b"{}",
        b'{"_meta":{}}',
        b'{"_meta":null}',
        b'{"_meta":{"progressToken":null}}',
        b'{"_meta":{"progressToken":{}}}',
        b'{"_meta":{"progressToken":true}}',
        b'{"_meta":{"progressToken":"%b"}}' % (b"x" * ID_MAX),
    ],
)
def test_what_is_no_token_is_none(params):
    assert progress_token(members_of(params)) is None


def test_ours_takes_the_place_of_the_clients():
    members = members_of(b'{"name":"t","_meta":{"a/b": 1.50,"progressToken":"x","z":[1, 2]}}')
    replaced = encode_members(with_progress_token(members, 7))
    assert replaced == b'{"name":"t","_meta":{"a/b":1.50,"progressToken":7,"z":[1, 2]}}'
    assert progress_token(members) == b'"x"'


def test_meta_is_made_where_there_is_none():
    assert encode_members(with_progress_token(members_of(b'{"name":"t"}'), 9)) == (
        b'{"name":"t","_meta":{"progressToken":9}}'
    )
