"""What all backends offer, as one server: a snapshot that is replaced, never edited.

A snapshot is built from the backends' catalogues in the order of the configuration. It answers lists from
bytes that are made once for each version of the protocol, and resolves exposed names. Cursors are offsets
into one snapshot, told apart by its digest: a cursor of an older snapshot is refused, so that a client starts
again instead of missing entries.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.errors import INVALID_PARAMS, RpcError
from mcpd.gateway.naming import assign, brief, default_prefix
from mcpd.protocol import jsonrpc
from mcpd.protocol.convert import down_list_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mcpd.backends.base import Backend, Entry
    from mcpd.config.model import Naming
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.protocol.versions import Version

NAMED: Final = ("tools", "prompts")
"""Kinds whose entries are called by a name, which mcpd exposes under its own; the others keep their URI."""


class Route:
    """Where a name or URI leads: the backend, the entry's own key there, and the entry."""

    __slots__ = ("backend", "entry", "name", "name_raw")

    def __init__(self, backend: Backend, entry: Entry) -> None:
        self.backend = backend
        self.entry = entry
        self.name = entry.key
        self.name_raw = msgspec.Raw(msgspec.json.encode(entry.key))


class Listing:
    """One list of the snapshot: exposed entries in order, and the way from exposed key to backend."""

    def __init__(self, kind: str, entries: list[tuple[str, bytes, Route]], page_size: int) -> None:
        self.kind = kind
        self.routes: dict[str, Route] = {key: route for key, _, route in entries}
        self.raws = [raw for _, raw, _ in entries]
        self.by_text = {msgspec.json.encode(key): route for key, _, route in entries}
        """Routes by the exposed key as JSON text, the way requests nearly always spell it."""
        self._page_size = page_size
        self._pages: dict[tuple[Version, int], bytes] = {}
        digest = hashlib.sha256()
        for raw in self.raws:
            digest.update(b"%d:" % len(raw))
            digest.update(raw)
        self.digest = digest.hexdigest()[:12]

    def page(self, cursor: str | None, version: Version) -> bytes:
        """The result of a list request. Raises: RpcError INVALID_PARAMS for a cursor of another snapshot."""
        start = 0
        if cursor is not None:
            digest, _, offset = cursor.partition(".")
            start = int(offset) if offset.isascii() and offset.isdigit() and len(offset) < 10 else -1
            if digest != self.digest or not 0 < start < len(self.raws) or start % self._page_size:
                reason = "this cursor is not valid (any more); list again from the start"
                raise RpcError(INVALID_PARAMS, reason)
        page = self._pages.get((version, start))
        if page is None:
            page = self._pages[version, start] = self._render(start, version)
        return page

    def _render(self, start: int, version: Version) -> bytes:
        stop = start + self._page_size
        raws = [bytes(down_list_entry(self.kind, raw, version)) for raw in self.raws[start:stop]]
        body = b'{"%b":[%b]' % (self.kind.encode(), b",".join(raws))
        if stop < len(self.raws):
            return body + b',"nextCursor":"%b.%d"}' % (self.digest.encode(), stop)
        return body + b"}"


class Catalog:
    """The snapshot."""

    def __init__(self, listings: dict[str, Listing], notes: tuple[str, ...]) -> None:
        self._listings = listings
        self.tools = listings["tools"]
        self.prompts = listings["prompts"]
        self.resources = listings["resources"]
        self.resource_templates = listings["resourceTemplates"]
        self.notes = notes
        """Names that were changed and collisions, for the operator."""

    def of(self, kind: str) -> Listing:
        """The listing of one kind."""
        return self._listings[kind]

    def changed_since(self, other: Catalog, kinds: Iterable[str]) -> tuple[str, ...]:
        """Those of `kinds` whose listing differs from the other snapshot's."""
        return tuple(kind for kind in kinds if self.of(kind).digest != other.of(kind).digest)


def build(backends: Sequence[Backend], naming: Naming, previous: Catalog | None = None) -> Catalog:
    """The snapshot of what the backends list now. An unchanged listing keeps its rendered pages."""
    notes: list[str] = []
    listings: dict[str, Listing] = {}
    for kind in ("tools", "prompts", "resources", "resourceTemplates"):
        taken: set[str] = set()
        entries: list[tuple[str, bytes, Route]] = []
        for backend in backends:
            raws = backend.catalogue.of(kind)
            if kind in NAMED:
                prefix = backend.spec.prefix
                if prefix is None:
                    prefix = default_prefix(backend.name, naming.separator)
                names = assign(
                    backend.name,
                    prefix,
                    [entry.key for entry in raws],
                    taken=taken,
                    separator=naming.separator,
                    name_max=naming.name_max,
                )
                notes += names.notes
                for entry, exposed in zip(raws, names.exposed, strict=True):
                    entries.append((exposed, renamed(entry, exposed), Route(backend, entry)))
                continue
            for entry in raws:
                # A URI is the backend's own and opaque: the first backend in order that lists it serves it.
                if entry.key in taken:
                    notes.append(f"{backend.name}: {brief(entry.key)} is hidden, another backend lists it first")
                    continue
                taken.add(entry.key)
                entries.append((entry.key, entry.raw, Route(backend, entry)))
        listing = Listing(kind, entries, naming.page_size)
        if previous is not None and previous.of(kind).digest == listing.digest:
            listing._pages = previous.of(kind)._pages
        listings[kind] = listing
    return Catalog(listings, tuple(notes))


def renamed(entry: Entry, exposed: str) -> bytes:
    """The entry's JSON object with its name replaced, every other member as it was."""
    if exposed == entry.key:
        return entry.raw
    members: dict[str, Buffer] = dict(jsonrpc.members_of(entry.raw))
    members["name"] = msgspec.json.encode(exposed)
    return jsonrpc.encode_members(members)
