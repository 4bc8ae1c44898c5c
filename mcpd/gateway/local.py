"""What mcpd answers itself: what it offers, and the merged instructions of its backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.errors import INVALID_PARAMS, BackendMisbehaved, RpcError
from mcpd.gateway import tasks
from mcpd.protocol import modern
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.versions import RESULT_TYPE, has

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcpd.backends.base import Backend, Hint
    from mcpd.gateway.catalog import Listing
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.protocol.versions import Version

_string_or_none: Final[msgspec.json.Decoder[str | None]] = msgspec.json.Decoder(str | None)

INSTRUCTIONS_MAX: Final = 64 * 1024
"""Characters of merged instructions: they go into a model's context with every conversation."""


def instructions(configured: str | None, backends: Sequence[Backend]) -> str:
    """The configured text, then each backend's own under its name; a lone backend's text stands as it is."""
    texts = [(b.name, b.hello.instructions.strip()) for b in backends if b.hello is not None]
    having = [(name, text) for name, text in texts if text]
    parts = [text for _, text in having] if len(backends) == 1 else [f"## {name}\n\n{text}" for name, text in having]
    if configured:
        parts.insert(0, configured)
    return "\n\n".join(parts)[:INSTRUCTIONS_MAX]


def list_page(listing: Listing, params: Members, version: Version, hint: Hint) -> bytes:
    """The answer to a list request. Raises: RpcError INVALID_PARAMS for a bad cursor."""
    return listing.page(optional_string(params, "cursor"), version, hint)


def log_level(params: Members) -> int:
    """The level of a logging/setLevel request. Raises: RpcError INVALID_PARAMS when it is not RFC 5424's."""
    level = string(params, "level")
    if level not in LOG_LEVELS:
        raise RpcError(INVALID_PARAMS, f"level is one of {', '.join(LOG_LEVELS)}, not {level!r}")
    return LOG_LEVELS.index(level)


def string(params: Members, name: str, inside: str = "params") -> str:
    """A required string among the members of `inside`. Raises: RpcError INVALID_PARAMS."""
    value = optional_string(params, name, inside)
    if value is None:
        raise RpcError(INVALID_PARAMS, f"{inside}.{name} is required")
    return value


def optional_string(params: Members, name: str, inside: str = "params") -> str | None:
    """A string among the members, None when absent or null. Raises: RpcError INVALID_PARAMS for another
    type."""
    raw = params.get(name)
    if raw is None:
        return None
    try:
        return _string_or_none.decode(raw)
    except (ValueError, RecursionError):
        raise RpcError(INVALID_PARAMS, f"{inside}.{name} is a string") from None


def complete(result: Buffer, call: Call) -> Buffer:
    """A result of mcpd's own in the form of the caller's era."""
    return modern.complete(result, method=call.method) if has(call.caller.version, RESULT_TYPE) else result


def urls(error: RpcError) -> str:
    """The URLs of a -32042, for clients that do not know it."""
    if error.raw is None:
        return ""
    try:
        value = msgspec.json.decode(error.raw)
        return " ".join(str(item["url"]) for item in value["data"]["elicitations"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def result_of(backend: Backend, call: Call, answer: Message) -> Buffer:
    """The result of a response, as it came but for a task's id. Raises: BackendMisbehaved when it is no object."""
    result = answer.members["result"]
    if bytes(memoryview(result)[:1]) != b"{":
        raise BackendMisbehaved(backend.name, f"its result of {call.method} is not a JSON object")
    if call.caller.extensions is not None:
        return tasks.exposed(result, backend)
    return result
