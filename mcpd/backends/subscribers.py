"""Which clients a subscription is for that a link holds in common for several of them. No I/O.

Where clients have links of their own, each subscribes and unsubscribes for itself. But some share one all the same:
those of a server that turned out to keep nothing for a client, and those that have no session. For them the link is
subscribed once, and unsubscribed after the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcpd.types import SessionKey


class Subscribers:
    """By URI, the clients of one link."""

    def __init__(self) -> None:
        self._by_uri: dict[str, set[SessionKey]] = {}

    def __len__(self) -> int:
        """URIs that anybody is subscribed to."""
        return len(self._by_uri)

    def add(self, uri: str, key: SessionKey) -> bool:
        """A client subscribes; whether it is the first."""
        holders = self._by_uri.setdefault(uri, set())
        holders.add(key)
        return len(holders) == 1

    def remove(self, uri: str, key: SessionKey) -> bool:
        """A client gives a subscription up; whether nobody is left who has it."""
        holders = self._by_uri.get(uri)
        if holders is None:
            return True
        holders.discard(key)
        if not holders:
            del self._by_uri[uri]
        return not holders

    def clear(self, uri: str) -> None:
        """Nobody has this one any more."""
        self._by_uri.pop(uri, None)

    def __contains__(self, uri: str) -> bool:
        """Whether anybody is subscribed to it."""
        return uri in self._by_uri

    def held_by(self, key: SessionKey) -> list[str]:
        """What this client is subscribed to."""
        return [uri for uri, holders in self._by_uri.items() if key in holders]

    def left(self, key: SessionKey) -> list[str]:
        """A client is gone; the URIs that nobody is subscribed to now."""
        return [uri for uri in self.held_by(key) if self.remove(uri, key)]
