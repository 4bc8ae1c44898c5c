"""The legacy handshake in both roles: `initialize`, its answer, `notifications/initialized`.

Theory of operation. A peer is in one of a few states; `step` says which event is legal in which state. What
each side says is built and read by the functions below the tables.

Rules.
1. As a server mcpd answers the version it was offered if it knows it, else its newest; it refuses nothing but
   a message that is not a handshake.
2. As a server it takes requests as soon as `initialize` was answered: some clients never send `initialized`.
3. As a client it offers its newest version and accepts any handshake version it knows.

Source: "Lifecycle" of 2024-11-05 to 2025-11-25.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from mcpd.errors import INVALID_PARAMS, INVALID_REQUEST, ProtocolError
from mcpd.protocol.calls import CLIENT_MAX, client_text
from mcpd.protocol.capabilities import (
    ClientCapability,
    ServerCapabilities,
    encode_client_capabilities,
    encode_gateway_capabilities,
    parse_client_capabilities,
    parse_server_capabilities,
)
from mcpd.protocol.jsonrpc import Buffer, Members, encode_members, members_of
from mcpd.protocol.versions import LATEST_HANDSHAKE, Version, negotiate, parse

VERSION_SHOWN: Final = 40
"""Characters of a backend's unknown protocol version that an error message repeats."""


class ServerState(enum.Enum):
    """A client's progress, as the server sees it."""

    NEW = enum.auto()
    ANSWERED = enum.auto()
    READY = enum.auto()


class ClientState(enum.Enum):
    """A backend's progress, as the client sees it."""

    NEW = enum.auto()
    OFFERED = enum.auto()
    AGREED = enum.auto()
    READY = enum.auto()
    REFUSED = enum.auto()


class Event(enum.Enum):
    """What can happen to a handshake, in either role."""

    INITIALIZE = enum.auto()
    RESULT = enum.auto()
    ERROR = enum.auto()
    INITIALIZED = enum.auto()
    PING = enum.auto()
    REQUEST = enum.auto()
    NOTIFICATION = enum.auto()


SERVER: Final[dict[ServerState, dict[Event, ServerState]]] = {
    ServerState.NEW: {
        Event.INITIALIZE: ServerState.ANSWERED,
        Event.PING: ServerState.NEW,
        Event.NOTIFICATION: ServerState.NEW,  # ignored: a notification is never answered, so never refused
        Event.INITIALIZED: ServerState.NEW,
    },
    ServerState.ANSWERED: {
        Event.INITIALIZED: ServerState.READY,
        Event.PING: ServerState.ANSWERED,
        Event.REQUEST: ServerState.READY,
        Event.NOTIFICATION: ServerState.ANSWERED,
    },
    ServerState.READY: {
        Event.INITIALIZED: ServerState.READY,
        Event.PING: ServerState.READY,
        Event.REQUEST: ServerState.READY,
        Event.NOTIFICATION: ServerState.READY,
    },
}

CLIENT: Final[dict[ClientState, dict[Event, ClientState]]] = {
    ClientState.NEW: {Event.INITIALIZE: ClientState.OFFERED},
    ClientState.OFFERED: {
        Event.RESULT: ClientState.AGREED,
        Event.ERROR: ClientState.REFUSED,
        # Servers log, ping and announce before they answer; none of it changes the handshake.
        Event.PING: ClientState.OFFERED,
        Event.NOTIFICATION: ClientState.OFFERED,
    },
    ClientState.AGREED: {
        Event.INITIALIZED: ClientState.READY,
        Event.PING: ClientState.AGREED,
        Event.NOTIFICATION: ClientState.AGREED,
    },
    ClientState.READY: {
        Event.PING: ClientState.READY,
        Event.REQUEST: ClientState.READY,
        Event.NOTIFICATION: ClientState.READY,
    },
    ClientState.REFUSED: {},
}


def serve(state: ServerState, event: Event) -> ServerState:
    """The next state of a server's handshake. Raises: ProtocolError when the client may not do this now."""
    try:
        return SERVER[state][event]
    except KeyError:
        if state is ServerState.NEW:
            raise ProtocolError(INVALID_REQUEST, "send initialize first") from None
        raise ProtocolError(INVALID_REQUEST, "initialize was already answered on this connection") from None


def offer(state: ClientState, event: Event) -> ClientState:
    """The next state of a client's handshake. Raises: ProtocolError when the backend may not do this now."""
    try:
        return CLIENT[state][event]
    except KeyError:
        raise ProtocolError(
            INVALID_REQUEST, f"{event.name.lower()} does not fit a handshake that is {state.name}"
        ) from None


class ClientHello(msgspec.Struct, frozen=True):
    """What an initialize request said."""

    version: Version
    """Negotiated: what mcpd answers."""
    capabilities: ClientCapability
    client_name: str
    client_version: str = ""

    @property
    def client(self) -> str:
        """Who it says that it is."""
        return client_text(self.client_name, self.client_version)


class ServerHello(msgspec.Struct, frozen=True):
    """What a backend answered to initialize."""

    version: Version
    capabilities: ServerCapabilities
    server_info: bytes
    instructions: str


def read_initialize(params: Buffer | None) -> ClientHello:
    """Read a client's initialize. Raises: ProtocolError INVALID_PARAMS when there is no protocolVersion to
    negotiate."""
    try:
        members = members_of(params) if params is not None else {}
    except ProtocolError:
        raise ProtocolError(INVALID_PARAMS, "params of initialize is a JSON object") from None
    requested = _string(members.get("protocolVersion"))
    if requested is None:
        raise ProtocolError(INVALID_PARAMS, "initialize needs params.protocolVersion, a string")
    info = members.get("clientInfo")
    return ClientHello(
        version=negotiate(requested),
        capabilities=parse_client_capabilities(members.get("capabilities")),
        client_name=_said(info, "name"),
        client_version=_said(info, "version"),
    )


def initialize_result(version: Version, server_info: bytes, instructions: str) -> bytes:
    """mcpd's answer to initialize."""
    out: dict[str, Buffer] = {
        "protocolVersion": msgspec.json.encode(version.text),
        "capabilities": encode_gateway_capabilities(version),
        "serverInfo": server_info,
    }
    if instructions:
        out["instructions"] = msgspec.json.encode(instructions)
    return encode_members(out)


def initialize_params(capabilities: ClientCapability, client_info: bytes, version: Version = LATEST_HANDSHAKE) -> bytes:
    """mcpd's own initialize toward a backend."""
    return encode_members(
        {
            "protocolVersion": msgspec.json.encode(version.text),
            "capabilities": encode_client_capabilities(capabilities, version),
            "clientInfo": client_info,
        }
    )


def read_initialize_result(result: Buffer) -> ServerHello:
    """Read a backend's answer. Raises: ProtocolError when it names no version that mcpd speaks."""
    members = members_of(result)
    text = _string(members.get("protocolVersion"))
    version = parse(text) if text is not None else None
    if version is None or version > LATEST_HANDSHAKE:
        named = repr(text[:VERSION_SHOWN]) if text is not None else "none"
        raise ProtocolError(
            INVALID_REQUEST,
            f"it answered initialize with protocol version {named}, which mcpd does not speak",
        )
    info = members.get("serverInfo")
    return ServerHello(
        version=version,
        capabilities=parse_server_capabilities(members.get("capabilities"), version),
        server_info=b"{}" if info is None else bytes(info),
        instructions=_string(members.get("instructions")) or "",
    )


def _said(info: Buffer | None, key: str) -> str:
    if info is None or bytes(info)[:1] != b"{":
        return ""
    members: Members = members_of(info)
    return (_string(members.get(key)) or "")[:CLIENT_MAX]


def _string(raw: Buffer | None) -> str | None:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, RecursionError):
        return None
