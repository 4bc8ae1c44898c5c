"""What a modern server's answers look like: results that say what they are, errors with the codes of 2026-07-28.

Theory of operation. A result of a backend becomes mcpd's: it says that it is complete, and which server it is from. A
result that has nothing of the sort yet gets it by a splice behind its opening brace, which no payload is too large for;
any other is taken apart one level. Errors change their codes where the eras disagree.

Rules.
1. The payload of a result survives byte for byte; only members of the envelope and keys of the protocol in its `_meta`
   are mcpd's.
2. An error keeps its code unless it would say something else to the other era. An error whose code is replaced keeps
   the original under `data.error`.
3. An error that mcpd itself raised about the client's request (`ProtocolError`) is never replaced.
4. The HTTP status follows from the code, and where the code has none, from the error.

Source: 2026-07-28 "Base protocol" (results, error codes), "Streamable HTTP", "Caching"; change logs of both eras.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Raw

from mcpd.errors import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    PARSE_ERROR,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
    ProtocolError,
    RpcError,
)
from mcpd.protocol.edits import members_or_none
from mcpd.protocol.envelope import PREFIX
from mcpd.protocol.jsonrpc import Buffer, Members, encode_members, members_of
from mcpd.types import IMPLEMENTATION

STATUS: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}
"""HTTP status by error code, as long as no event stream has begun."""

RESERVED: Final = range(-32099, -32019)
"""The codes that 2026-07-28 keeps for itself; no backend may use one with a meaning of its own."""

SERVER_INFO: Final = PREFIX + "serverInfo"


def status_of(error: RpcError) -> int:
    """The HTTP status of an answer that is this error (rule 4)."""
    return STATUS.get(error.code, error.http_status)


def complete(result: Buffer, server_info: bytes = IMPLEMENTATION, *, method: str) -> Buffer:
    """A legacy backend's result for a modern client. Raises: ProtocolError when it is no object.

    `server_info` is an Implementation. What is read is never cacheable: nobody announces every change of it."""
    head = _READ if method == "resources/read" else _COMPLETE
    data = bytes(result)
    if data[:1] == b"{" and _MARKS.search(data) is None:
        return _splice(head % server_info, data)
    if data == b"null":
        # What some servers give for an empty result.
        return head % server_info + b"}"
    members = members_of(data)
    for name in _ENVELOPE:
        members.pop(name, None)
    meta = members.pop("_meta", None)
    others = {} if meta is None else {k: raw for k, raw in members_or_none(meta).items() if not k.startswith(PREFIX)}
    text = head % server_info
    if others:
        text = text[:-1] + b"," + encode_members(others)[1:]
    return _splice(text, encode_members(members))


def own_server_info(result: Buffer, server_info: bytes = IMPLEMENTATION) -> Buffer:
    """A modern backend's result that says it is mcpd's. Raises: ProtocolError when it is no object."""
    data = bytes(result)
    if data[:1] == b"{" and b'"_meta"' not in data and b"\\u00" not in data:
        return _splice(_META % server_info, data)
    members = members_of(data)
    meta: Members = members_or_none(members["_meta"]) if "_meta" in members else {}
    meta[SERVER_INFO] = Raw(server_info)
    members["_meta"] = Raw(encode_members(meta))
    return encode_members(members)


def error_for_modern(error: RpcError, method: str) -> RpcError:
    """An error for a modern client, `http_status` set; the same object when it fits already."""
    code = error.code
    if code == RESOURCE_NOT_FOUND:
        return RpcError(INVALID_PARAMS, error.message, data=data_of(error), http_status=STATUS[INVALID_PARAMS])
    if code in RESERVED and code != MISSING_CAPABILITY and not isinstance(error, ProtocolError):
        return _replaced(error, f"the server failed {method} with code {code}: {error.message}")
    status = status_of(error)
    if status == error.http_status:
        return error
    return RpcError(code, error.message, data=error.data, raw=error.raw, http_status=status)


def error_for_legacy(error: RpcError, method: str) -> RpcError:
    """A modern backend's error for a legacy client; the same object when it fits already."""
    if error.code == INVALID_PARAMS:
        data = data_of(error)
        if method == "resources/read" and data is not None and "uri" in members_or_none(data):
            return RpcError(RESOURCE_NOT_FOUND, error.message, data=data)
        return error
    if error.code == MISSING_CAPABILITY:
        return _replaced(error, f"{method} needs what the client did not declare: {_needed(error) or error.message}")
    if error.code == HEADER_MISMATCH or error.code == UNSUPPORTED_VERSION:
        return _replaced(error, f"the server refused how mcpd sent {method} (code {error.code}): {error.message}")
    return error


def data_of(error: RpcError) -> bytes | None:
    """The `data` of an error, ours or relayed, as JSON."""
    if error.raw is None:
        return error.data
    data = members_or_none(error.raw).get("data")
    return None if data is None else bytes(data)


_META: Final = b'{"_meta":{"io.modelcontextprotocol/serverInfo":%b}'
_COMPLETE: Final = b'{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":%b}'
_READ: Final = (
    b'{"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":%b}'
)
_ENVELOPE: Final = ("resultType", "ttlMs", "cacheScope")
# A name may be spelled with escapes; that is rare, and looked into rather than overlooked.
_MARKS: Final = re.compile(rb'"(?:_meta|resultType|ttlMs|cacheScope)"|\\u00')
_EMPTY: Final = re.compile(rb"\{\s*\}")


def _splice(head: bytes, data: bytes) -> bytes:
    """An object that begins with `head`, which lacks its closing brace, and goes on with the members of `data`."""
    if len(data) < 64 and _EMPTY.fullmatch(data):
        return head + b"}"
    return b"".join((head, b",", memoryview(data)[1:]))


def _replaced(error: RpcError, message: str) -> RpcError:
    return RpcError(INTERNAL_ERROR, message, data=b'{"error":%b}' % error.encode())


def _needed(error: RpcError) -> str:
    """The capabilities that an error asks for, in words: `sampling, elicitation.url`."""
    data = data_of(error)
    required = None if data is None else members_or_none(data).get("requiredCapabilities")
    words: list[str] = []
    for name, raw in members_or_none(required or b"{}").items():
        inner = members_or_none(raw)
        words += [f"{name}.{part}" for part in inner] or [name]
    return ", ".join(words)
