"""What a client declared that it can do, and what a server declared that it has.

Only what mcpd decides by is read. A client's capabilities are a set of flags, small enough to travel inside a
sealed session id; how they are spelled toward a backend depends on the backend's version.

Source: "Capabilities" of each version; protocol versions differ in `sampling` and `elicitation` (2025-11-25
split both) and in `roots` and `extensions` (2026-07-28)."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from mcpd.protocol.jsonrpc import Buffer, Members, encode_members, members_of
from mcpd.protocol.versions import EXTENSIONS, MODERN, Version, has


class ClientCapability(enum.IntFlag):
    """What a client can be asked for."""

    ROOTS = 1
    ROOTS_LIST_CHANGED = 2
    SAMPLING = 4
    SAMPLING_TOOLS = 8
    SAMPLING_CONTEXT = 16
    ELICITATION_FORM = 32
    ELICITATION_URL = 64


NOTHING: Final = ClientCapability(0)
EVERYTHING: Final = ClientCapability(127)
"""All that mcpd bridges: what the session that fetches a backend's catalogue declares."""

ASKED_FOR: Final = {
    "roots/list": ClientCapability.ROOTS,
    "sampling/createMessage": ClientCapability.SAMPLING,
    "elicitation/create": ClientCapability.ELICITATION_FORM | ClientCapability.ELICITATION_URL,
}
"""Which capability a server's request needs; any one of the flags will do, the mode decides further."""

ASKABLE: Final = sum(ASKED_FOR.values(), NOTHING)
"""Whoever declared one of these can be asked something."""

TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"
"""The extension that mcpd understands itself."""


def declares(extensions: bytes | None, identifier: str) -> bool:
    """Whether a JSON object of extensions has this one."""
    # The text may stand in another extension's settings too, so it is looked at more closely where it is there at all.
    return (
        extensions is not None and b'"%b"' % identifier.encode() in extensions and identifier in members_of(extensions)
    )


def parse_client_capabilities(raw: Buffer | None) -> ClientCapability:
    """Flags from the `capabilities` object of an initialize request; unknown keys mean nothing declared."""
    found = NOTHING
    for name, value in _declared(raw).items():
        inner = _declared(value)
        if name == "roots":
            found |= ClientCapability.ROOTS
            if _true(inner.get("listChanged")):
                found |= ClientCapability.ROOTS_LIST_CHANGED
        elif name == "sampling":
            found |= ClientCapability.SAMPLING
            if "tools" in inner:
                found |= ClientCapability.SAMPLING_TOOLS
            if "context" in inner:
                found |= ClientCapability.SAMPLING_CONTEXT
        elif name == "elicitation":
            # 2025-06-18 knows only {}, which later versions read as form mode.
            if "form" in inner or "url" not in inner:
                found |= ClientCapability.ELICITATION_FORM
            if "url" in inner:
                found |= ClientCapability.ELICITATION_URL
    return found


def encode_client_capabilities(flags: ClientCapability, version: Version, extensions: bytes | None = None) -> bytes:
    """The capabilities object for an initialize request at `version`, or for the envelope of a modern request.
    `extensions` is a JSON object by identifier, which only modern servers are told."""
    out: dict[str, object] = {}
    if flags & ClientCapability.ROOTS:
        # Roots are asked for anew with every modern request, so there is no change to announce.
        changes = flags & ClientCapability.ROOTS_LIST_CHANGED and version < MODERN
        out["roots"] = {"listChanged": True} if changes else {}
    if flags & ClientCapability.SAMPLING:
        sampling: dict[str, object] = {}
        if version >= Version.V2025_11_25:
            if flags & ClientCapability.SAMPLING_CONTEXT:
                sampling["context"] = {}
            if flags & ClientCapability.SAMPLING_TOOLS:
                sampling["tools"] = {}
        out["sampling"] = sampling
    modes = flags & (ClientCapability.ELICITATION_FORM | ClientCapability.ELICITATION_URL)
    if modes and version >= Version.V2025_06_18:
        elicitation: dict[str, object] = {}
        if version >= Version.V2025_11_25:
            if flags & ClientCapability.ELICITATION_FORM:
                elicitation["form"] = {}
            if flags & ClientCapability.ELICITATION_URL:
                elicitation["url"] = {}
            out["elicitation"] = elicitation
        elif flags & ClientCapability.ELICITATION_FORM:
            out["elicitation"] = elicitation
    if extensions is not None and has(version, EXTENSIONS):
        out["extensions"] = msgspec.Raw(extensions)
    return msgspec.json.encode(out)


class ServerCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend declared, as far as mcpd decides by it."""

    tools: bool = False
    tools_list_changed: bool = False
    resources: bool = False
    resources_subscribe: bool = False
    resources_list_changed: bool = False
    prompts: bool = False
    prompts_list_changed: bool = False
    completions: bool = False
    logging: bool = False
    extensions: tuple[str, ...] = ()
    """Identifiers, of a modern server only."""


def parse_server_capabilities(raw: Buffer | None, version: Version) -> ServerCapabilities:
    """Read the capabilities object of a backend that speaks `version`."""
    top = _declared(raw)
    tools, resources, prompts = (_declared(top.get(name)) for name in ("tools", "resources", "prompts"))
    return ServerCapabilities(
        tools="tools" in top,
        tools_list_changed=_true(tools.get("listChanged")),
        resources="resources" in top,
        resources_subscribe=_true(resources.get("subscribe")),
        resources_list_changed=_true(resources.get("listChanged")),
        prompts="prompts" in top,
        prompts_list_changed=_true(prompts.get("listChanged")),
        # 2024-11-05 has completion but no capability for it: there one can only try.
        completions="completions" in top
        or (version <= Version.V2024_11_05 and ("prompts" in top or "resources" in top)),
        logging="logging" in top,
        extensions=tuple(_declared(top.get("extensions"))) if has(version, EXTENSIONS) else (),
    )


def encode_gateway_capabilities(version: Version, extensions: bytes | None = None) -> bytes:
    """What mcpd declares to a client: every family, for what a backend offers may come and go while the
    client stays. `extensions` is a JSON object by identifier, which only modern clients are told."""
    out: dict[str, Buffer] = {
        "tools": b'{"listChanged":true}',
        "resources": b'{"subscribe":true,"listChanged":true}',
        "prompts": b'{"listChanged":true}',
        "logging": b"{}",
    }
    if version >= Version.V2025_03_26:
        out["completions"] = b"{}"
    if extensions is not None and has(version, EXTENSIONS):
        out["extensions"] = extensions
    return encode_members(out)


def _declared(raw: Buffer | None) -> Members:
    """The members of an object that declare something: `"sampling": null` is how some serializers say that
    there is none."""
    if raw is None or bytes(raw)[:1] != b"{":
        return {}
    return {name: value for name, value in members_of(raw).items() if bytes(value) not in _NOT_DECLARED}


_NOT_DECLARED: Final = (b"null", b"false")


def _true(raw: Buffer | None) -> bool:
    return raw is not None and bytes(raw) == b"true"
