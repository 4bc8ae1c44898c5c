"""Resources that a modern backend allows to be kept for a while: read once, answered until they are stale.

Rules.
1. Only what says so is kept: a complete result with a positive `ttlMs`, of a request without answers to questions.
2. What is private is given again to the same principal only; what says nothing is private.
3. An update of a resource, or a change of the list, ends what is kept at once.

Source: 2026-07-28 "Caching".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.errors import ProtocolError
from mcpd.protocol import jsonrpc

if TYPE_CHECKING:
    from mcpd.protocol.jsonrpc import Buffer, Members

TOTAL_MAX: Final = 8 << 20
"""Bytes kept of one backend; the oldest go first."""

RESULT_MAX: Final = 1 << 20
"""Bytes of one result; a larger one would push out everything else."""

TTL_MAX: Final = 3600.0
"""Seconds that anything is kept, whatever its backend says: a typing error there should not last for ever."""

EVERYBODY: Final = None


class Reads:
    """What is kept of one backend's resources. Times are on trio's clock, in seconds."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None], tuple[float, bytes]] = {}
        """(URI, principal or EVERYBODY) → until when, and the result."""
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, uri: str, principal: str, now: float) -> bytes | None:
        """A result that is still fresh for this principal."""
        for key in ((uri, EVERYBODY), (uri, principal)):
            found = self._kept.get(key)
            if found is not None:
                if now < found[0]:
                    return found[1]
                self._drop(key)
        return None

    def keep(self, uri: str, principal: str, members: Members, result: Buffer, now: float) -> None:
        """Remember a complete result, if it may be (rule 1). `members`: the params of its request."""
        if "inputResponses" in members or "requestState" in members or memoryview(result).nbytes > RESULT_MAX:
            return
        try:
            fields = jsonrpc.members_of(result)
        except ProtocolError:
            return
        ttl = bytes(fields.get("ttlMs", b""))
        if not ttl.isdigit() or len(ttl) > 15 or int(ttl) == 0:
            return
        public = bytes(fields.get("cacheScope", b"")) == b'"public"'
        key = (uri, EVERYBODY if public else principal)
        if key in self._kept:
            self._drop(key)
        kept = bytes(result)
        self._kept[key] = (now + min(int(ttl) / 1000, TTL_MAX), kept)
        self._size += len(kept)
        while self._size > TOTAL_MAX:
            self._drop(next(iter(self._kept)))

    def updated(self, uri: str) -> None:
        """This resource changed, or one that contains it was named."""
        for key in [key for key in self._kept if key[0] == uri or key[0].startswith(uri) or uri.startswith(key[0])]:
            self._drop(key)

    def clear(self) -> None:
        """Anything may have changed."""
        self._kept.clear()
        self._size = 0

    def _drop(self, key: tuple[str, str | None]) -> None:
        self._size -= len(self._kept.pop(key)[1])
