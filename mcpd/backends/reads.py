"""Resources that a modern backend allows to be kept for a while: read once, answered until they are stale.

Rules.
1. Only what says so is kept: a complete result with a positive `ttlMs`, of a request that said nothing but which
   resource it wants.
2. What is private is given again to the same principal only; what says nothing is private.
3. An update of a resource, or a change of the list, ends what is kept at once; and what was asked for before is not
   kept, for it may be from before the change.
4. What is given again says how long it is fresh from now on, not from when it was read.

Source: 2026-07-28 "Caching".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from mcpd.errors import ProtocolError
from mcpd.protocol import jsonrpc
from mcpd.protocol.edits import members_or_none, text
from mcpd.protocol.envelope import PREFIX

if TYPE_CHECKING:
    from mcpd.protocol.jsonrpc import Buffer, Members

TOTAL_MAX: Final = 8 << 20
"""Bytes kept of one backend; the oldest go first."""

RESULT_MAX: Final = 1 << 20
"""Bytes of one result; a larger one would push out everything else."""

ENTRY: Final = 1 << 10
"""Bytes that each result counts beside its text, so that very many small ones have a bound too."""

TTL_MAX: Final = 3600.0
"""Seconds that anything is kept, whatever its backend says: a typing error there should not last for ever."""

EVERYBODY: Final = None

_ALONE: Final = frozenset(("uri", "_meta"))
_WITHOUT_EFFECT: Final = frozenset(("progressToken", "traceparent", "tracestate", "baggage"))
_COMPLETE: Final = b'"complete"'


class Kept(NamedTuple):
    """One result."""

    read: float
    until: float
    """When it is given for the last time."""
    ttl: int
    """Milliseconds after `read` for which its backend says that it is fresh."""
    head: bytes
    """Its text up to the value of `ttlMs`, which is its last member here."""


class Reads:
    """What is kept of one backend's resources. Times are on trio's clock, in seconds."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None], Kept] = {}
        """By URI, and principal or EVERYBODY."""
        self._size = 0
        self.changes = 0
        """How often something changed: what is read meanwhile is not kept (rule 3)."""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, uri: str, principal: str, now: float) -> bytes | None:
        """A result that is still fresh for this principal."""
        for key in ((uri, EVERYBODY), (uri, principal)):
            found = self._kept.get(key)
            if found is not None:
                if now < found.until:
                    return b"%b%d}" % (found.head, found.ttl - math.ceil((now - found.read) * 1000))
                self._drop(key)
        return None

    def keep(self, uri: str, principal: str, result: Buffer, now: float) -> None:
        """Remember a result, if it may be."""
        if memoryview(result).nbytes > RESULT_MAX:
            return
        try:
            fields: dict[str, Buffer] = dict(jsonrpc.members_of(result))
        except ProtocolError:
            return
        ttl = bytes(fields.pop("ttlMs", b""))
        if not ttl.isdigit() or len(ttl) > 15 or int(ttl) == 0:
            return
        if bytes(fields.get("resultType", _COMPLETE)) != _COMPLETE:
            return
        public = bytes(fields.get("cacheScope", b"")) == b'"public"'
        key = (uri, EVERYBODY if public else principal)
        if key in self._kept:
            self._drop(key)
        fields["ttlMs"] = b""
        head = jsonrpc.encode_members(fields)[:-1]
        self._kept[key] = Kept(now, now + min(int(ttl) / 1000, TTL_MAX), int(ttl), head)
        self._size += _size(uri, head)
        while self._size > TOTAL_MAX:
            self._drop(next(iter(self._kept)))

    def updated(self, uri: str) -> None:
        """This resource changed, or one that contains it was named."""
        self.changes += 1
        for key in [key for key in self._kept if key[0] == uri or key[0].startswith(uri) or uri.startswith(key[0])]:
            self._drop(key)

    def clear(self) -> None:
        """Anything may have changed."""
        self.changes += 1
        self._kept.clear()
        self._size = 0

    def _drop(self, key: tuple[str, str | None]) -> None:
        self._size -= _size(key[0], self._kept.pop(key).head)


def uri_of(members: Members) -> str | None:
    """The URI that a resources/read with these params is for; None when they say more (rule 1): answers to questions,
    or something that mcpd does not know and the result may depend on."""
    if not members.keys() <= _ALONE:
        return None
    for name in members_or_none(members.get("_meta", b"{}")):
        if name not in _WITHOUT_EFFECT and not name.startswith(PREFIX):
            return None
    return text(members, "uri")


def _size(uri: str, head: bytes) -> int:
    return len(head) + len(uri) + ENTRY
