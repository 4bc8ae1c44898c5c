"""JSON arrays one level deep: their elements as the bytes they came as."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from mcpd.protocol.jsonrpc import Buffer

_raws_of = msgspec.json.Decoder(list[Raw]).decode


def split_array(data: Buffer) -> list[Raw]:
    """The elements of a JSON array. Raises: ValueError when it is not one."""
    try:
        return _raws_of(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def join_array(elements: list[Buffer]) -> bytes:
    """A JSON array from elements as they are."""
    return b"[" + b",".join(elements) + b"]"
