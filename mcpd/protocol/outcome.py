"""The outcome of a request, read from its response: a result, or an error to raise. Source: JSON-RPC 2.0, section 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mcpd.errors import INTERNAL_ERROR, RpcError
from mcpd.protocol import jsonrpc

if TYPE_CHECKING:
    from mcpd.protocol.jsonrpc import Buffer, Message


def error_result(text: str) -> bytes:
    """A tool result that says what went wrong in words a model can act on."""
    return b'{"content":[%b],"isError":true}' % jsonrpc.encode_members(
        {"type": b'"text"', "text": msgspec.json.encode(text)}
    )


def result_of(answer: Message) -> Buffer:
    """The result of a response. Raises: RpcError with the backend's error as it came."""
    result = answer.members.get("result")
    if result is not None:
        return result
    raw = bytes(answer.members["error"])
    members = jsonrpc.members_of(raw) if raw[:1] == b"{" else {}
    code = members.get("code")
    text = members.get("message")
    try:
        number = int(bytes(code)) if code is not None else INTERNAL_ERROR
        words = msgspec.json.decode(text, type=str) if text is not None else "error without a message"
    except (ValueError, msgspec.DecodeError):
        number, words = INTERNAL_ERROR, "malformed error"
    if not members:
        raise RpcError(number, words)
    raise RpcError(number, words, raw=raw)
