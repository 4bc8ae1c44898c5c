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

from typing import TYPE_CHECKING, Final

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

if TYPE_CHECKING:
    from collections.abc import Callable

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
"""The codes that 2026-07-28 keeps for itself. Of a backend's, only what names a capability reaches a modern client."""

SERVER_INFO: Final = PREFIX + "serverInfo"


def status_of(error: RpcError) -> int:
    """The HTTP status of an answer that is this error (rule 4)."""
    return STATUS.get(error.code, error.http_status)


def complete(result: Buffer, server_info: bytes = IMPLEMENTATION, *, method: str) -> Buffer:
    """A legacy backend's result for a modern client. Raises: ProtocolError when it is no object.

    `server_info` is an Implementation. What is read is never cacheable: nobody announces every change of it."""
    head = _READ if method == "resources/read" else _COMPLETE
    view = memoryview(result)
    if view.nbytes == len(_NULL) and bytes(view) == _NULL:
        return head % (server_info, b"}") + b"}"  # what some servers give for an empty result
    members = members_of(result)
    if _ENVELOPE.isdisjoint(members):
        return _spliced(head % (server_info, b"}"), view, members)
    others = _others(members, lambda name: name.startswith(PREFIX))
    rest = {name: raw for name, raw in members.items() if name not in _ENVELOPE}
    return _joined(head % (server_info, others), rest)


def own_server_info(result: Buffer, server_info: bytes = IMPLEMENTATION, *, method: str = "") -> Buffer:
    """A modern backend's result that says it is mcpd's, and what each result has to say if the backend forgot it.

    Raises: ProtocolError when it is no object."""
    members = members_of(result)
    forgotten = _forgotten(members, method)
    if "_meta" not in members and not forgotten:
        return _spliced(_META % (server_info, b"}"), memoryview(result), members)
    others = _others(members, SERVER_INFO.__eq__)
    members.pop("_meta", None)
    members.update(forgotten)
    return _joined(_META % (server_info, others), members)


def error_for_modern(error: RpcError, method: str) -> RpcError:
    """An error for a modern client, `http_status` set; the same object when it fits already."""
    code = error.code
    if code == RESOURCE_NOT_FOUND:
        return RpcError(INVALID_PARAMS, error.message, data=data_of(error), http_status=STATUS[INVALID_PARAMS])
    if code in RESERVED and not isinstance(error, ProtocolError) and not _says_what_is_missing(error):
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


# Each lacks the closing brace of the object, and takes the rest of `_meta` with its own.
_META: Final = b'{"_meta":{"io.modelcontextprotocol/serverInfo":%b%b'
_COMPLETE: Final = b'{"resultType":"complete",' + _META[1:]
_READ: Final = b'{"resultType":"complete","ttlMs":0,"cacheScope":"private",' + _META[1:]
_NULL: Final = b"null"
_IS_COMPLETE: Final = b'"complete"'
_SCOPES: Final = (b'"private"', b'"public"')
_BRACE: Final = ord("{")
_ENVELOPE: Final = frozenset(("resultType", "ttlMs", "cacheScope", "_meta"))


def _forgotten(members: Members, method: str) -> Members:
    """The members that a result of 2026-07-28 has, and this one has not or not as they have to be."""
    found: Members = {}
    kind = bytes(members.get("resultType", _NULL))
    if kind == _NULL:
        found["resultType"] = Raw(_IS_COMPLETE)
    if method == "resources/read" and kind in (_NULL, _IS_COMPLETE):
        if not bytes(members.get("ttlMs", _NULL)).isdigit():
            found["ttlMs"] = Raw(b"0")
        if bytes(members.get("cacheScope", _NULL)) not in _SCOPES:
            found["cacheScope"] = Raw(b'"private"')
    return found


def _others(members: Members, ours: Callable[[str], bool]) -> bytes:
    """What is in a result's `_meta` beside what is ours, as it stands behind that, with the closing brace."""
    meta = members.get("_meta")
    others = {} if meta is None else {name: raw for name, raw in members_or_none(meta).items() if not ours(name)}
    return b"," + encode_members(others)[1:] if others else b"}"


def _spliced(head: bytes, view: memoryview, members: Members) -> bytes:
    """An object that begins with `head` and goes on as the text in `view`, whose members these are."""
    if not members or view[0] != _BRACE:
        return _joined(head, members)
    return b"".join((head, b",", view[1:]))


def _joined(head: bytes, members: Members) -> bytes:
    """An object that begins with `head` and goes on with these members."""
    return b"".join((head, b",", memoryview(encode_members(members))[1:])) if members else head + b"}"


def _replaced(error: RpcError, message: str) -> RpcError:
    return RpcError(INTERNAL_ERROR, message, data=b'{"error":%b}' % error.encode())


def _required(error: RpcError) -> Buffer:
    data = data_of(error)
    return b"" if data is None else members_or_none(data).get("requiredCapabilities", b"")


def _says_what_is_missing(error: RpcError) -> bool:
    return error.code == MISSING_CAPABILITY and bytes(_required(error))[:1] == b"{"


def _needed(error: RpcError) -> str:
    """The capabilities that an error asks for, in words: `sampling, elicitation.url`."""
    words: list[str] = []
    for name, raw in members_or_none(_required(error)).items():
        inner = members_or_none(raw)
        words += [f"{name}.{part}" for part in inner] or [name]
    return ", ".join(words)
