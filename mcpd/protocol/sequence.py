"""JSON arrays one level deep: their elements as the bytes they came as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from mcpd.protocol.scanner import has_surrogate, scan_array

if TYPE_CHECKING:
    from mcpd.protocol.jsonrpc import Buffer

_raws_of = msgspec.json.Decoder(list[Raw]).decode


def split_array(data: Buffer) -> list[Raw]:
    """The elements of a JSON array. Raises: ValueError when it is not one."""
    try:
        return _raws_of(data)
    except (msgspec.DecodeError, RecursionError) as error:
        text = bytes(data)
        if not has_surrogate(text):
            raise ValueError(str(error)) from None
    try:
        return scan_array(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def join_array(elements: list[Buffer]) -> bytes:
    """A JSON array from elements as they are."""
    return b"[" + b",".join(elements) + b"]"
