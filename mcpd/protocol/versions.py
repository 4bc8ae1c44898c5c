"""The published versions of MCP in their order, and what each of them has.

A version is known by its position in the list: a text that is not in the list is not "newer", it is unknown.
Source: the version list and the change log of each specification, "Lifecycle" (negotiation).
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec


class Version(enum.IntEnum):
    """A version mcpd knows. Compares by age and hashes as a small int; `text` is its spelling on the wire."""

    text: str

    V2024_11_05 = 0, "2024-11-05"
    V2025_03_26 = 1, "2025-03-26"
    V2025_06_18 = 2, "2025-06-18"
    V2025_11_25 = 3, "2025-11-25"
    V2026_07_28 = 4, "2026-07-28"

    def __new__(cls, position: int, text: str) -> Version:
        self = int.__new__(cls, position)
        self._value_ = position
        self.text = text
        return self


MODERN: Final = Version.V2026_07_28
"""Has no handshake: every request says its version."""

HANDSHAKE: Final = tuple(version for version in Version if version < MODERN)
"""The versions that `initialize` can agree on, oldest first."""

OLDEST: Final = HANDSHAKE[0]
LATEST_HANDSHAKE: Final = HANDSHAKE[-1]

_BY_TEXT: Final = {version.text: version for version in Version}


def parse(text: str) -> Version | None:
    """The version that is spelled so, or None for one mcpd does not know."""
    return _BY_TEXT.get(text)


def negotiate(requested: str) -> Version:
    """What a server answers to `initialize`: the version asked for if it has it, else its newest one."""
    version = _BY_TEXT.get(requested)
    return LATEST_HANDSHAKE if version is None or version >= MODERN else version


class Span(msgspec.Struct, frozen=True):
    """A run of versions, both ends included."""

    since: Version
    until: Version

    def __contains__(self, version: Version) -> bool:
        return self.since <= version <= self.until


class Feature(Span, frozen=True):
    """Something that some versions have and others have not."""

    name: str


_FEATURES: list[Feature] = []


def _feature(name: str, since: Version, until: Version = MODERN) -> Feature:
    feature = Feature(since=since, until=until, name=name)
    _FEATURES.append(feature)
    return feature


# 2024-11-05, taken away later
HANDSHAKE_OPENING: Final = _feature("initialize", OLDEST, LATEST_HANDSHAKE)
SESSIONLESS: Final = _feature("every request says its version", MODERN)
SERVER_REQUESTS: Final = _feature("requests from server to client", OLDEST, LATEST_HANDSHAKE)
PING: Final = _feature("ping", OLDEST, LATEST_HANDSHAKE)
SET_LEVEL: Final = _feature("logging/setLevel", OLDEST, LATEST_HANDSHAKE)
SUBSCRIBE: Final = _feature("resources/subscribe", OLDEST, LATEST_HANDSHAKE)
RESOURCE_NOT_FOUND_CODE: Final = _feature("error -32002", OLDEST, LATEST_HANDSHAKE)

# 2025-03-26
STREAMABLE_HTTP: Final = _feature("Streamable HTTP", Version.V2025_03_26)
SESSION_ID: Final = _feature("Mcp-Session-Id", Version.V2025_03_26, LATEST_HANDSHAKE)
RESUMPTION: Final = _feature("Last-Event-ID", Version.V2025_03_26, LATEST_HANDSHAKE)
BATCH: Final = _feature("JSON-RPC batches", Version.V2025_03_26, Version.V2025_03_26)
TOOL_ANNOTATIONS: Final = _feature("tool annotations", Version.V2025_03_26)
AUDIO: Final = _feature("audio content", Version.V2025_03_26)
COMPLETIONS_CAPABILITY: Final = _feature("completions capability", Version.V2025_03_26)
PROGRESS_MESSAGE: Final = _feature("message in progress notifications", Version.V2025_03_26)

# 2025-06-18
STRUCTURED: Final = _feature("structuredContent and outputSchema", Version.V2025_06_18)
ELICITATION: Final = _feature("elicitation", Version.V2025_06_18)
RESOURCE_LINK: Final = _feature("resource_link content", Version.V2025_06_18)
TITLE: Final = _feature("title of listed items", Version.V2025_06_18)
ITEM_META: Final = _feature("_meta of listed items and content", Version.V2025_06_18)
LAST_MODIFIED: Final = _feature("annotations.lastModified", Version.V2025_06_18)
COMPLETION_CONTEXT: Final = _feature("context of completions", Version.V2025_06_18)
VERSION_HEADER: Final = _feature("MCP-Protocol-Version header", Version.V2025_06_18)

# 2025-11-25
ICONS: Final = _feature("icons", Version.V2025_11_25)
IMPLEMENTATION_DETAILS: Final = _feature("description and websiteUrl of an implementation", Version.V2025_11_25)
ELICITATION_URL: Final = _feature("elicitation by URL", Version.V2025_11_25)
ELICITATION_COMPLETE: Final = _feature(
    "notifications/elicitation/complete and error -32042", Version.V2025_11_25, Version.V2025_11_25
)
ENUM_SCHEMAS: Final = _feature("titled and multi-select enums, defaults of any type", Version.V2025_11_25)
SAMPLING_TOOLS: Final = _feature("tools and content arrays in sampling", Version.V2025_11_25)
TASKS: Final = _feature("tasks (experimental core)", Version.V2025_11_25, Version.V2025_11_25)
PRIMING: Final = _feature("event streams start with an empty event", Version.V2025_11_25, Version.V2025_11_25)
FORBIDDEN_ORIGIN: Final = _feature("a bad Origin is answered 403", Version.V2025_11_25)
INPUT_ERRORS_IN_RESULT: Final = _feature("invalid arguments are a tool result", Version.V2025_11_25)

# 2026-07-28
DISCOVER: Final = _feature("server/discover", MODERN)
LISTEN: Final = _feature("subscriptions/listen", MODERN)
INPUT_REQUIRED: Final = _feature("multi-round-trip requests", MODERN)
RESULT_TYPE: Final = _feature("resultType", MODERN)
CACHE_HINTS: Final = _feature("ttlMs and cacheScope", MODERN)
METHOD_HEADERS: Final = _feature("Mcp-Method, Mcp-Name and Mcp-Param headers", MODERN)
EXTENSIONS: Final = _feature("extensions capability", MODERN)
ANY_STRUCTURED: Final = _feature("structuredContent of any JSON type", MODERN)

FEATURES: Final = tuple(_FEATURES)


def has(version: Version, feature: Feature) -> bool:
    """Whether `version` has `feature`."""
    return feature.since <= version <= feature.until
