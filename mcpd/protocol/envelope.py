"""The envelope of a modern request: what `params._meta` says of version, client and capabilities.

Theory of operation. A modern request stands alone, so its facts come with each one. Clients send the same envelope over
and over, but for a progress token or a trace: what one says is remembered by its text, and by the text of the
capabilities when only the rest differs. Toward a modern backend `stamp` writes mcpd's own envelope in the place of the
client's.

Rules.
1. The key of the version makes a request modern, also when the rest of its envelope is missing or malformed.
2. A required key that is missing or malformed is refused, by its name. So is an optional one that is malformed; one
   that is null is not there.
3. Two parsers must not disagree about who asks: a key of the envelope that comes twice is refused.
4. Keys that belong to one hop never cross mcpd. Those of others (traces, vendors) always do. A key of the protocol
   that mcpd does not know crosses between peers of the same version only.

Source: 2026-07-28 "Base protocol" (`_meta`), "Versioning".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from mcpd.errors import INVALID_PARAMS, UNSUPPORTED_VERSION, ProtocolError
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import ClientCapability, parse_client_capabilities
from mcpd.protocol.edits import dropping, members_or_none
from mcpd.protocol.jsonrpc import encode_members, members_of
from mcpd.protocol.scanner import scan_object
from mcpd.protocol.versions import MODERN

if TYPE_CHECKING:
    from mcpd.protocol.jsonrpc import Buffer, Members

PREFIX: Final = "io.modelcontextprotocol/"

MODERN_META: Final = tuple(
    PREFIX + name
    for name in (
        "protocolVersion",
        "clientCapabilities",
        "clientInfo",
        "logLevel",
        "serverInfo",
        "subscriptionId",
    )
)
"""The keys of `_meta` that are 2026-07-28's envelope."""

VERSION: Final = PREFIX + "protocolVersion"
CAPABILITIES: Final = PREFIX + "clientCapabilities"
CLIENT_INFO: Final = PREFIX + "clientInfo"
LOG_LEVEL: Final = PREFIX + "logLevel"

REMEMBERED_MAX: Final = 2048
"""Bytes of an envelope that is remembered. SDKs send 150 to 400; with icons of the client a few hundred more."""

REMEMBERED: Final = 256
"""Envelopes that are remembered, in less than 2 MiB: some for each of the clients that call at a time."""

VERSION_SHOWN: Final = 64
"""Characters of an unknown version that an error repeats."""


class _Params(msgspec.Struct):
    """Params of which nothing else is looked at: scanning costs less than any search in the text."""

    meta: Raw | UnsetType = msgspec.field(name="_meta", default=UNSET)


class _Meta(msgspec.Struct):
    version: Raw | UnsetType = msgspec.field(name=VERSION, default=UNSET)


_meta_of: Final = msgspec.json.Decoder(_Params).decode
_version_of: Final = msgspec.json.Decoder(_Meta).decode


class Envelope(msgspec.Struct, frozen=True):
    """What a modern request says of its client."""

    version_text: str
    """As the client spelled it: known or not."""
    capabilities: ClientCapability
    extensions: bytes | None
    """The declared extensions, a JSON object by identifier; None when there are none."""
    client_info: bytes | None
    """A JSON object, not verified."""
    log_level: int | None
    """Index into LOG_LEVELS; None: no log messages."""


class UnsupportedVersion(ProtocolError):
    """A request of a version that mcpd does not speak."""

    def __init__(self, requested: str) -> None:
        super().__init__(UNSUPPORTED_VERSION, "Unsupported protocol version")
        self.data = msgspec.json.encode({"supported": [MODERN.text], "requested": requested[:VERSION_SHOWN]})


def is_modern(params: Buffer | None) -> bool:
    """Whether a request with these params is a modern one (rule 1); never raises."""
    if params is None:
        return False
    try:
        meta = _meta_of(params).meta
        return meta is not UNSET and _version_of(meta).version is not UNSET
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # Not what it has to be, or a text that only the slow road can read.
        found = members_or_none(params).get("_meta")
        return found is not None and VERSION in members_or_none(found)


def read(members: Members) -> Envelope:
    """The envelope in params' members, whatever its version. Raises: ProtocolError INVALID_PARAMS naming the key."""
    meta = members.get("_meta")
    if meta is None:
        raise _missing((VERSION, CAPABILITIES))
    text = bytes(meta)
    return _remembered(text) if len(text) <= REMEMBERED_MAX else _read(text)


def require_supported(envelope: Envelope) -> None:
    """Raises: UnsupportedVersion when mcpd does not speak the envelope's version."""
    if envelope.version_text != MODERN.text:
        raise UnsupportedVersion(envelope.version_text)


def stamp(
    members: Members, *, capabilities: bytes, client_info: bytes, log_level: str | None, token: int | None
) -> Members:
    """A copy of params whose `_meta` is mcpd's envelope toward a modern backend (rule 4). `capabilities` and
    `client_info` are JSON objects, `log_level` one of LOG_LEVELS, `token` mcpd's progress token."""
    text = _HEAD % (capabilities, client_info)
    if log_level is not None:
        text += b',"io.modelcontextprotocol/logLevel":"%b"' % log_level.encode()
    if token is not None:
        text += b',"progressToken":%d' % token
    old = members.get("_meta")
    if old is not None and (others := _others(members_or_none(old))):
        text += b"," + encode_members(others)[1:]
    else:
        text += b"}"
    return {**members, "_meta": Raw(text)}


_HEAD: Final = (
    b'{"io.modelcontextprotocol/protocolVersion":"%b",'
    b'"io.modelcontextprotocol/clientCapabilities":%%b,'
    b'"io.modelcontextprotocol/clientInfo":%%b' % MODERN.text.encode()
)
_OURS: Final = frozenset((*MODERN_META, "progressToken", PREFIX + "related-task"))


def _others(meta: Members) -> Members:
    """What is in a client's `_meta` for others than mcpd."""
    if VERSION in meta:
        return {name: raw for name, raw in meta.items() if name not in _OURS}
    return {name: raw for name, raw in meta.items() if name not in _OURS and not name.startswith(PREFIX)}


def _read(text: bytes) -> Envelope:
    try:
        meta = members_of(text)
    except ProtocolError:
        raise _invalid("_meta", "an object") from None
    if missing := [name for name in (VERSION, CAPABILITIES) if name not in meta]:
        raise _missing(missing)
    _refuse_repeated(text, meta)
    version = _string(meta[VERSION])
    if version is None:
        raise _invalid(VERSION, "a string")
    raw = bytes(meta[CAPABILITIES])
    flags, extensions = _capabilities(raw) if len(raw) <= REMEMBERED_MAX else _read_capabilities(raw)
    return Envelope(
        version_text=version,
        capabilities=flags,
        extensions=extensions,
        client_info=_client_info(meta.get(CLIENT_INFO)),
        log_level=_log_level(meta.get(LOG_LEVEL)),
    )


_remembered: Final = lru_cache(REMEMBERED)(_read)


def _refuse_repeated(text: bytes, meta: Members) -> None:
    """Raise when a key of the envelope may come twice, by the same spelling or another (rule 3)."""
    ours = sum(name.startswith(PREFIX) for name in meta)
    found = text.count(_PREFIX)
    if found > ours:
        found -= sum(bytes(raw).count(_PREFIX) for raw in meta.values())
    if found == ours and b"\\" not in text:
        return
    try:
        scan_object(text)
    except (ValueError, RecursionError):
        raise ProtocolError(INVALID_PARAMS, "params._meta has a member twice, or more than can be told apart") from None


_PREFIX: Final = PREFIX.encode()


def _read_capabilities(raw: bytes) -> tuple[ClientCapability, bytes | None]:
    try:
        members = members_of(raw)
        flags = parse_client_capabilities(raw)
    except ProtocolError:
        raise _invalid(CAPABILITIES, "an object") from None
    found = members.get("extensions")
    if found is None or found == _NULL:
        return flags, None
    try:
        extensions = members_of(found)
    except ProtocolError:
        raise _invalid(f"{CAPABILITIES}.extensions", "an object") from None
    return flags, bytes(found) if extensions else None


_capabilities: Final = lru_cache(REMEMBERED)(_read_capabilities)
_NULL: Final = Raw(b"null")


def _client_info(raw: Raw | None) -> bytes | None:
    if raw is None or raw == _NULL:
        return None
    try:
        members_of(raw)
    except ProtocolError:
        raise _invalid(CLIENT_INFO, "an object") from None
    return bytes(raw)


def _log_level(raw: Raw | None) -> int | None:
    if raw is None or raw == _NULL:
        return None
    level = _string(raw)
    if level not in LOG_LEVELS:
        raise _invalid(LOG_LEVEL, f"one of {', '.join(LOG_LEVELS)}")
    return LOG_LEVELS.index(level)


def _string(raw: Raw) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _missing(names: tuple[str, ...] | list[str]) -> ProtocolError:
    return ProtocolError(INVALID_PARAMS, f"params._meta has no {' and no '.join(names)}")


def _invalid(name: str, expected: str) -> ProtocolError:
    where = "params._meta" if name == "_meta" else f"params._meta: {name}"
    return ProtocolError(INVALID_PARAMS, f"{where} must be {expected}")


# ---- taking it off

_drop_members: Final = dropping(*MODERN_META)

META_KEPT: Final = 2048
"""Bytes of a `_meta` of which is remembered what is left of it: clients send the same one over and over."""


def drop_envelope(members: Members) -> bool:
    """Takes the keys of 2026-07-28's envelope out of the `_meta` among the members of params or a result, and `_meta`
    itself where nothing is left in it; says whether it did."""
    raw = members.get("_meta")
    if raw is None:
        return False
    text = bytes(raw)
    rest = _without_envelope(text) if len(text) <= META_KEPT else _without_envelope.__wrapped__(text)
    if rest == text:
        return False
    if rest is None:
        del members["_meta"]
    else:
        members["_meta"] = msgspec.Raw(rest)
    return True


@lru_cache(maxsize=256)
def _without_envelope(meta: bytes) -> bytes | None:
    """A `_meta` without the envelope, None when nothing is left; the same object when there was none in it."""
    members = members_or_none(meta)
    if not _drop_members(members):
        return meta
    return encode_members(members) if members else None
