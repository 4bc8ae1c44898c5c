"""The `_meta` of requests, as far as mcpd reads or writes it: progress tokens. Everything else in it travels untouched.

Source: "_meta" and "Progress" of every version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.errors import ProtocolError
from mcpd.protocol import jsonrpc

if TYPE_CHECKING:
    from mcpd.protocol.jsonrpc import Members

_TOKEN_STARTS: Final = frozenset(b'"-0123456789')


def progress_token(members: Members) -> bytes | None:
    """The progress token as the client spelled it; what is neither string nor number is none."""
    meta = members.get("_meta")
    if meta is None:
        return None
    try:
        raw = jsonrpc.members_of(meta).get("progressToken")
    except (ProtocolError, ValueError):
        return None
    if raw is None:
        return None
    token = bytes(raw)
    # Every progress notification repeats it, so it is bounded like an id.
    return token if token[0] in _TOKEN_STARTS and len(token) <= jsonrpc.ID_MAX else None


def with_progress_token(members: Members, token: int) -> Members:
    """A copy of params whose `_meta.progressToken` is ours; everything else in `_meta` stays."""
    meta = dict(jsonrpc.members_of(members["_meta"])) if "_meta" in members else {}
    meta["progressToken"] = msgspec.Raw(b"%d" % token)
    return {**members, "_meta": msgspec.Raw(jsonrpc.encode_members(meta))}
