"""`server/discover`: what a modern server says of itself, and what an answer to it says of a server's era.

Theory of operation. As a client mcpd asks it first of a server that it does not know. A usable answer makes the server
modern. An error is judged by what it says the server supports, if it is the error that says so; whatever else comes
back, in whichever words, is from a server that does not know the question.

Source: 2026-07-28 "Discovery", "Versioning" (backward compatibility).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from mcpd.errors import INVALID_REQUEST, UNSUPPORTED_VERSION, ProtocolError
from mcpd.protocol.capabilities import parse_server_capabilities
from mcpd.protocol.edits import array, members_or_none, text
from mcpd.protocol.handshake import ServerHello
from mcpd.protocol.inputs import COMPLETE, result_type
from mcpd.protocol.jsonrpc import encode_members, members_of
from mcpd.protocol.modern import SERVER_INFO, data_of
from mcpd.protocol.versions import HANDSHAKE, MODERN

if TYPE_CHECKING:
    from mcpd.errors import RpcError
    from mcpd.protocol.jsonrpc import Buffer, Members


class Verdict(enum.Enum):
    """What an answer to `server/discover` says of the server."""

    MODERN = enum.auto()
    LEGACY = enum.auto()
    """Worth an `initialize`."""
    RESEND = enum.auto()
    """It names a modern version that mcpd speaks: once more at it."""
    HOPELESS = enum.auto()
    """It names only versions that mcpd does not know."""


def read_discover(result: Buffer) -> ServerHello | None:
    """A backend's answer; None when it names no modern version that mcpd speaks.

    Raises: ProtocolError when it is no DiscoverResult, so that nothing in it can be relied on."""
    members = members_of(result)
    if result_type(result) != COMPLETE:
        raise _unusable("its resultType is not complete")
    versions = _versions(members, "supportedVersions")
    if versions is None:
        raise _unusable("supportedVersions must be an array of strings")
    capabilities = members.get("capabilities")
    if capabilities is None or bytes(capabilities)[:1] != b"{":
        raise _unusable("capabilities must be an object")
    if MODERN.text not in versions:
        return None
    info = members_or_none(members.get("_meta", _NOTHING)).get(SERVER_INFO, _NOTHING)
    return ServerHello(
        version=MODERN,
        capabilities=parse_server_capabilities(capabilities, MODERN),
        server_info=bytes(info) if bytes(info)[:1] == b"{" else b"{}",
        instructions=text(members, "instructions") or "",
    )


def discover_result(*, capabilities: bytes, server_info: bytes, instructions: str, ttl_ms: int, scope: str) -> bytes:
    """mcpd's own answer. `capabilities` and `server_info` are JSON objects, `scope` is public or private."""
    out: dict[str, Buffer] = {
        "resultType": b'"complete"',
        "supportedVersions": b'["%b"]' % MODERN.text.encode(),
        "capabilities": capabilities,
    }
    if instructions:
        out["instructions"] = msgspec.json.encode(instructions)
    out["ttlMs"] = b"%d" % ttl_ms
    out["cacheScope"] = msgspec.json.encode(scope)
    out["_meta"] = b'{"%b":%b}' % (SERVER_INFO.encode(), server_info)
    return encode_members(out)


def judge_error(error: RpcError) -> Verdict:
    """What an error in answer to `server/discover` says: RESEND, HOPELESS or LEGACY."""
    data = data_of(error) if error.code == UNSUPPORTED_VERSION else None
    supported = None if data is None else _versions(members_or_none(data), "supported")
    if not supported:
        return Verdict.LEGACY
    if MODERN.text in supported:
        return Verdict.RESEND
    return Verdict.LEGACY if _HANDSHAKES & set(supported) else Verdict.HOPELESS


_NOTHING = Raw(b"{}")
_HANDSHAKES = frozenset(version.text for version in HANDSHAKE)


def _versions(members: Members, name: str) -> list[str] | None:
    """The strings in a member that is an array of nothing else, else None."""
    if array(members, name) is None:
        return None
    try:
        return msgspec.json.decode(members[name], type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _unusable(why: str) -> ProtocolError:
    return ProtocolError(INVALID_REQUEST, f"bad answer to server/discover: {why}")
