"""The one form in which the gateway's middle knows a request, whichever era and transport it came by.

A `Call` is self-contained: who asks (`Caller`), what, and two channels back while it runs. `emit` delivers a
notification that belongs to this call and never waits; `ask` puts a question to the client whose call this is
and waits for the answer. The result is the return value of whoever serves the call; an `RpcError` is its
failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from mcpd.protocol.jsonrpc import Buffer, Members
from mcpd.protocol.versions import MODERN

if TYPE_CHECKING:
    from mcpd.protocol.capabilities import ClientCapability
    from mcpd.protocol.versions import Version
    from mcpd.types import SessionKey

Emit: TypeAlias = Callable[[str, Buffer], None]
"""emit(method, params): a notification toward the caller. Never waits, never raises; a client that is gone
gets nothing."""

Part: TypeAlias = Callable[[], None]
"""part(): the backend let go of its own stream for now; a client that can poll may be let go as well."""

Ask: TypeAlias = Callable[[str, Buffer], Awaitable[Buffer]]
"""await ask(method, params) → the client's result. Raises: RpcError (the client's own, or that it cannot be
asked)."""


class Caller(msgspec.Struct, frozen=True, eq=False):
    """The facts about a client that a call carries. One object serves all calls until a fact changes."""

    key: SessionKey
    principal: str
    version: Version
    capabilities: ClientCapability
    log_level: int | None = None
    """Index into LOG_LEVELS; None when the client never said: then the server decides for a legacy client, and a modern
    one gets no log message."""
    extensions: bytes | None = None
    """The extensions that a modern client declared and mcpd relays: a JSON object by identifier, or None."""
    client_info: bytes | None = None
    """What a modern client said of itself, as JSON; not verified, and nothing is decided by it."""
    client: str = ""
    """The same of a client with a session, in the form of `client_text`."""

    @property
    def stateless(self) -> bool:
        """Whether the client has no session: `key` stands for this one call."""
        return self.version >= MODERN


class Call(msgspec.Struct, eq=False):
    """One request on its way to a result.

    `params` is the JSON object as received, `members` the same one level deep. `token` is the progress
    token's JSON text in the client's own spelling, or None."""

    caller: Caller
    method: str
    params: Buffer
    members: Members
    emit: Emit
    ask: Ask
    part: Part
    token: bytes | None = None


LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""RFC 5424's severities from least to most severe, as MCP's logging utility names them."""

LOCAL = "local"
"""What the principal of everybody is called who reaches the loopback port: in calls it is the empty text."""

CLIENT_MAX = 64
"""Characters of a client's name, and of its version: what logs and lists repeat of it."""


def client_text(name: str, version: str) -> str:
    """A client as logs and operators see it: `name/version`."""
    return f"{name[:CLIENT_MAX]}/{version[:CLIENT_MAX]}" if version else name[:CLIENT_MAX]
