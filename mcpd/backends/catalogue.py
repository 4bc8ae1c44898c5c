"""Fetching what a backend lists, page by page, tolerant of what servers get wrong.

Source: "Pagination" of every version: cursors are opaque, the empty string is one, a missing nextCursor ends
the list.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.backends.base import KINDS, Catalogue, Entry, Hint
from mcpd.backends.tools import valid
from mcpd.errors import METHOD_NOT_FOUND, BackendMisbehaved, ProtocolError, RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.inputs import COMPLETE, result_type
from mcpd.protocol.sequence import split_array
from mcpd.protocol.versions import CACHE_HINTS, has

if TYPE_CHECKING:
    from mcpd.backends.link import Link
    from mcpd.protocol.capabilities import ServerCapabilities
    from mcpd.protocol.jsonrpc import Members, Message

log = logging.getLogger("mcpd.backends")

PAGES_MAX: Final = 100
"""Pages of one list. The official SDKs stop there too; a server that pages for ever must not fill our
memory."""

ENTRIES_MAX: Final = 20_000
"""Entries of one list: far beyond what any client shows to a model."""

SOURCES: Final = {
    "tools": ("tools/list", "name", "tools"),
    "resources": ("resources/list", "uri", "resources"),
    "resourceTemplates": ("resources/templates/list", "uriTemplate", "resources"),
    "prompts": ("prompts/list", "name", "prompts"),
}
"""For each kind: the method, the member that tells entries apart, and the capability that announces it."""

CHANGED_BY: Final = {
    "notifications/tools/list_changed": ("tools",),
    "notifications/resources/list_changed": ("resources", "resourceTemplates"),
    "notifications/prompts/list_changed": ("prompts",),
}
"""Which lists a notification is about. Templates have no notification of their own."""


async def fetch(link: Link, timeout: float, known: Catalogue) -> tuple[Catalogue, set[str]]:
    """Everything the backend lists, and the kinds that it announced but could not list: of these, what was
    `known` stays.

    Raises: RpcError when it can list nothing of what it announced, or the link is lost.
    """
    assert link.hello is not None
    catalogue = Catalogue()
    failed: dict[str, RpcError] = {}
    announced = [kind for kind in KINDS if offered(kind, link.hello.capabilities)]
    for kind in announced:
        try:
            catalogue = catalogue.with_kind(kind, *await fetch_kind(link, kind, timeout))
        except RpcError as error:
            failed[kind] = error
            if link.lost.is_set() or len(failed) == len(announced):
                raise
            log.warning("backend=%s event=list_failed list=%s reason=%s", link.name, kind, error)
            catalogue = catalogue.with_kind(kind, known.of(kind), known.hint(kind))
    return catalogue, set(failed)


def offered(kind: str, capabilities: ServerCapabilities) -> bool:
    """Whether the backend announced the family that this list belongs to."""
    announced: bool = getattr(capabilities, SOURCES[kind][2])
    return announced


def announced(kind: str, capabilities: ServerCapabilities) -> bool:
    """Whether the backend says when this list changes."""
    announces: bool = getattr(capabilities, f"{SOURCES[kind][2]}_list_changed")
    return announces


async def fetch_kind(link: Link, kind: str, timeout: float) -> tuple[tuple[Entry, ...], Hint | None]:
    """One list, all pages, and how long it may be kept. A list method that the backend does not have counts as empty.

    Raises: RpcError, BackendError: the list could not be had; what was known before stays valid.
    """
    method, key, _ = SOURCES[kind]
    modern = link.hello is not None and has(link.hello.version, CACHE_HINTS)
    entries: dict[str, Entry] = {}
    seen: set[bytes] = set()
    members: Members = {}
    hint: Hint | None = None
    for _page in range(PAGES_MAX):
        try:
            answer = await link.request(method, members, timeout)
        except RpcError as error:
            if error.code == METHOD_NOT_FOUND:
                break  # resources without templates, commonly
            raise
        result, raws = _page_of(answer, kind, link.name, method)
        if modern and hint is None:
            hint = _hint(result)
        for raw in raws:
            entry = _entry(raw, key)
            if entry is None:
                log.warning(
                    "backend=%s event=bad_entry list=%s entry=%.200s",
                    link.name,
                    method,
                    bytes(raw).decode("utf-8", "replace"),
                )
            elif entry.key not in entries and len(entries) < ENTRIES_MAX:
                entries[entry.key] = entry
        cursor = result.get("nextCursor")
        if cursor is None or bytes(cursor)[:1] != b'"' or bytes(cursor) in seen:
            break
        seen.add(bytes(cursor))
        members = {"cursor": msgspec.Raw(bytes(cursor))}
    else:
        log.warning("backend=%s event=list_cut list=%s pages=%d", link.name, method, PAGES_MAX)
    found = tuple(entries.values())
    if kind == "tools" and modern and not link.carrier.shared:
        found = valid(found, link.name)
    return found, hint


def _page_of(answer: Message, kind: str, backend: str, method: str) -> tuple[Members, list[msgspec.Raw]]:
    """The members of one page, and what it lists. Raises: BackendMisbehaved."""
    result = answer.members["result"]
    try:
        members = jsonrpc.members_of(result)
        if result_type(result) == COMPLETE:
            return members, split_array(members[kind]) if kind in members else []
    except (ProtocolError, ValueError):
        pass
    raise BackendMisbehaved(backend, f"its answer to {method} is not a list", remedy="see the server's own log")


def _hint(result: Members) -> Hint:
    """What a list result of 2026-07-28 says about keeping it: what says nothing is not kept, and not for others."""
    ttl = bytes(result.get("ttlMs", b""))
    milliseconds = int(ttl) if ttl.isdigit() and len(ttl) < 16 else 0
    return Hint(milliseconds, bytes(result.get("cacheScope", b"")) == b'"public"')


def _entry(raw: jsonrpc.Buffer, key: str) -> Entry | None:
    try:
        value = jsonrpc.members_of(raw)[key]
        return Entry(msgspec.json.decode(value, type=str), bytes(raw))
    except (ProtocolError, KeyError, ValueError):  # ValueError: not a string, or not UTF-8
        return None
