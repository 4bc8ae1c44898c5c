"""Which rules a client's message is judged by: decided for each message by what it says of itself.

Theory of operation. A modern request names its version in its own params and stands alone; everything else belongs to
the handshake, in or before a session. Both kinds may come over one endpoint and over one connection, in any order.

Rules.
1. The body decides. A header that names a version without a handshake decides only where neither the body nor a
   session does, and never for `initialize`.
2. Arrays and responses exist with a handshake only. An array in which one element is modern is refused whole.
3. Nothing is remembered of a modern request: the next one on the connection may be of the other era.

Source: 2026-07-28 "Versioning" (servers for both eras), "Base protocol" (`_meta`), "stdio", "Streamable HTTP".
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from mcpd.errors import INVALID_PARAMS, INVALID_REQUEST, ProtocolError
from mcpd.protocol import envelope, jsonrpc
from mcpd.protocol.calls import Caller
from mcpd.protocol.jsonrpc import Message
from mcpd.protocol.versions import MODERN
from mcpd.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.protocol.envelope import Envelope
    from mcpd.protocol.jsonrpc import Members

MARK: Final = b"io.modelcontextprotocol"
"""Without this text in it, a body holds no modern message. The slash behind it is not part of it: some serializers
escape slashes."""

LISTEN: Final = "subscriptions/listen"
"""The one modern request whose answer is a stream of news instead of a result."""


def refuse_mixed(data: bytes, messages: Iterable[Message | ProtocolError]) -> None:
    """Raises: ProtocolError INVALID_REQUEST when one of the messages of an array is modern (rule 2)."""
    if MARK not in data:
        return
    for message in messages:
        if isinstance(message, Message) and envelope.is_modern(message.params):
            reason = f"a message of protocol version {MODERN.text} is sent by itself, not in an array"
            raise ProtocolError(INVALID_REQUEST, reason)


def open_envelope(message: Message) -> tuple[Members, Envelope]:
    """A modern request's params, one level deep, and its envelope, whose version may be an unknown one.

    Raises: ProtocolError INVALID_PARAMS, when params or the envelope in it is not as it has to be; INVALID_REQUEST,
    when there could be another envelope in params as well.
    """
    params = message.params
    if params is None:
        members: Members = {}
    else:
        try:
            members = jsonrpc.members_of(params)
        except ProtocolError:
            raise ProtocolError(INVALID_PARAMS, "params is a JSON object") from None
        jsonrpc.refuse_repeated(params, members, b'"_meta"')
    return members, envelope.read(members)


def caller_of(said: Envelope, principal: str, extensions: bytes | None = None) -> Caller:
    """Who sends a modern request. `extensions`: those of the declared ones that mcpd relays, a JSON object or None."""
    return Caller(
        key=SessionKey(f"m1.{next(_serials)}"),
        principal=principal,
        version=MODERN,
        capabilities=said.capabilities,
        log_level=said.log_level,
        extensions=extensions,
        client_info=said.client_info,
    )


_serials = itertools.count(1)
"""Modern callers since the start, of all fronts: each call has a key of its own."""
