"""What all backends offer, as one server: a snapshot that is replaced, never edited.

A snapshot is built from the backends' catalogues in the order of the configuration. It answers lists from
bytes that are made once for each version of the protocol, and resolves exposed names. Cursors are offsets
into one snapshot, told apart by its digest: a cursor of an older snapshot is refused, so that a client starts
again instead of missing entries.

A modern client is told how long it may keep a list, and whether others may. That depends on the state of the backends
now, not when the snapshot was made, so it is put behind the bytes of the page.

Source: "Pagination" of each version; 2026-07-28 "Caching".
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.backends.base import Hint
from mcpd.backends.catalogue import announced, offered
from mcpd.errors import INVALID_PARAMS, RpcError
from mcpd.gateway.naming import assign, brief, default_prefix
from mcpd.protocol import jsonrpc
from mcpd.protocol.convert import down_list_entry
from mcpd.protocol.mirror import NO_PARAMETERS, Parameters
from mcpd.protocol.modern import SERVER_INFO
from mcpd.protocol.versions import CACHE_HINTS, has
from mcpd.supervisor.states import USABLE
from mcpd.types import IMPLEMENTATION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mcpd.backends.base import Backend, Entry
    from mcpd.config.model import Naming
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.protocol.versions import Version

STALE: Final = Hint(0, public=False)
"""For a list that may be another one the next moment."""

NAMED: Final = ("tools", "prompts")
"""Kinds whose entries are called by a name, which mcpd exposes under its own; the others keep their URI."""


class Route:
    """Where a name or URI leads: the backend, the entry's own key there, and the entry."""

    __slots__ = ("_parameters", "backend", "entry", "name", "name_raw")

    def __init__(self, backend: Backend, entry: Entry) -> None:
        self.backend = backend
        self.entry = entry
        self.name = entry.key
        self.name_raw = msgspec.Raw(msgspec.json.encode(entry.key))
        self._parameters: Parameters | None = None

    @property
    def parameters(self) -> Parameters:
        """The arguments of a tool that clients repeat as headers; none, if the tool's marks for them break a rule."""
        if self._parameters is None:
            try:
                self._parameters = Parameters.read(jsonrpc.members_of(self.entry.raw).get("inputSchema"))
            except ValueError:
                self._parameters = NO_PARAMETERS
        return self._parameters


class Listing:
    """One list of the snapshot: exposed entries in order, and the way from exposed key to backend."""

    def __init__(self, kind: str, entries: list[tuple[str, bytes, Route]], page_size: int) -> None:
        self.kind = kind
        self.routes: dict[str, Route] = {key: route for key, _, route in entries}
        self.raws = [raw for _, raw, _ in entries]
        self.by_text = {msgspec.json.encode(key): route for key, _, route in entries}
        """Routes by the exposed key as JSON text, the way requests nearly always spell it."""
        self.page_size = page_size
        self._pages: dict[tuple[Version, int], bytes] = {}
        digest = hashlib.sha256()
        for raw in self.raws:
            digest.update(b"%d:" % len(raw))
            digest.update(raw)
        self.digest = digest.hexdigest()[:12]

    def page(self, cursor: str | None, version: Version, hint: Hint = STALE) -> bytes:
        """The result of a list request, for modern versions with the hint.

        Raises: RpcError INVALID_PARAMS for a cursor of another snapshot."""
        start = 0
        if cursor is not None:
            digest, _, offset = cursor.partition(".")
            start = int(offset) if offset.isascii() and offset.isdigit() and len(offset) < 10 else -1
            if digest != self.digest or not 0 < start < len(self.raws) or start % self.page_size:
                reason = "this cursor is not valid (any more); list again from the start"
                raise RpcError(INVALID_PARAMS, reason)
        page = self._pages.get((version, start))
        if page is None:
            page = self._pages[version, start] = self._render(start, version)
        if has(version, CACHE_HINTS):
            return _HINTED % (page, hint.ttl_ms, b"public" if hint.public else b"private", IMPLEMENTATION)
        return page

    def _render(self, start: int, version: Version) -> bytes:
        """A page, without its last brace where something follows."""
        stop = start + self.page_size
        raws = [bytes(down_list_entry(self.kind, raw, version)) for raw in self.raws[start:stop]]
        body = b'"%b":[%b]' % (self.kind.encode(), b",".join(raws))
        if stop < len(self.raws):
            body += b',"nextCursor":"%b.%d"' % (self.digest.encode(), stop)
        return body if has(version, CACHE_HINTS) else b"{%b}" % body


_HINTED: Final = (
    b'{"resultType":"complete",%%b,"ttlMs":%%d,"cacheScope":"%%b","_meta":{"%b":%%b}}' % SERVER_INFO.encode()
)


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


def hint_of(kind: str, backends: Sequence[Backend], ttl_ms: int) -> Hint:
    """How long the list of one kind may be kept as long as nothing is announced, at most `ttl_ms`, and by whom.

    Not at all while a backend is away, which may return with another list, or has one that could change unannounced.
    One that sleeps does not change: what it lists when it is woken is announced."""
    public = bool(backends)
    for backend in backends:
        hello = backend.hello
        if hello is None or not (backend.state in USABLE or backend.asleep):
            return STALE
        if not offered(kind, hello.capabilities):
            continue
        own = backend.catalogue.hint(kind)
        if not announced(kind, hello.capabilities):
            ttl_ms = 0
        elif own is not None:
            ttl_ms = min(ttl_ms, own.ttl_ms)
        public = public and own is not None and own.public
    return Hint(ttl_ms, public)


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
                    entries.append((exposed, shown(kind, entry, exposed), Route(backend, entry)))
                continue
            for entry in raws:
                # A URI is the backend's own and opaque: the first backend in order that lists it serves it.
                if entry.key in taken:
                    notes.append(f"{backend.name}: {brief(entry.key)} is hidden, another backend lists it first")
                    continue
                taken.add(entry.key)
                entries.append((entry.key, entry.raw, Route(backend, entry)))
        listing = Listing(kind, entries, naming.page_size)
        former = previous.of(kind) if previous is not None else None
        if former is not None and (former.digest, former.page_size) == (listing.digest, listing.page_size):
            listing._pages = former._pages
        listings[kind] = listing
    return Catalog(listings, tuple(notes))


def shown(kind: str, entry: Entry, exposed: str) -> bytes:
    """The entry's JSON object under its exposed name, every other member as it was.

    But for a tool's `execution`: which tools run as tasks is between mcpd and their backend."""
    own_affair = kind == "tools" and (b'"execution"' in entry.raw or b"\\u00" in entry.raw)
    if exposed == entry.key and not own_affair:
        return entry.raw
    members: dict[str, Buffer] = dict(jsonrpc.members_of(entry.raw))
    if own_affair:
        members.pop("execution", None)
    members["name"] = msgspec.json.encode(exposed)
    return jsonrpc.encode_members(members)
