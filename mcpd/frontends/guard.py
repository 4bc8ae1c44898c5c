"""Origin and Host: the checks that keep web pages from talking to a local daemon.

A page in a browser can send requests to 127.0.0.1, directly (its Origin gives it away) or after rebinding its own name to that
address (its Host does). Both are checked on every request, in every version, before anything else.

Source: "Security Warning" of the Streamable HTTP and HTTP+SSE transports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpd.config.model import Listen

LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))


class Guard:
    """Decides by a head's Origin and Host."""

    def __init__(self, listen: Listen, *, loopback: bool) -> None:
        self._hosts = tuple(host.lower() for host in listen.trusted_hosts)
        self._origins = tuple(origin.lower().rstrip("/") for origin in listen.trusted_origins)
        # Beyond loopback a front authenticates and clients use names mcpd cannot know; there a list must be given to be checked.
        self._check_host = loopback or bool(self._hosts)

    def refusal(self, headers: Mapping[bytes, bytes], repeated: frozenset[bytes]) -> tuple[int, str] | None:
        """Status and reason when a request is refused, else None."""
        if b"origin" in repeated or b"host" in repeated:
            return 400, "Origin and Host come once"
        host = headers.get(b"host", b"").decode("latin-1")
        if self._check_host and not self._known(name_of(host)):
            return 421, f"Host {host!r} is not one of mcpd's names; add it to listen.trusted_hosts if it should be"
        origin = headers.get(b"origin")
        if origin is not None and not self._trusted(origin.decode("latin-1")):
            return 403, f"Origin {origin.decode('latin-1')!r} is not trusted; add it to listen.trusted_origins if it should be"
        return None

    def _known(self, name: str) -> bool:
        return name in LOOPBACK or any(_matches(name, pattern) for pattern in self._hosts)

    def _trusted(self, origin: str) -> bool:
        origin = origin.lower()
        if origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return False
        name = name_of(parts.netloc)
        return name in LOOPBACK or any(f"{parts.scheme}://{name}" == trusted for trusted in self._origins)


def name_of(host: str) -> str:
    """A Host header's name without the port, lower-case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _matches(name: str, pattern: str) -> bool:
    pattern = name_of(pattern)
    return name == pattern or (pattern.startswith(".") and (name.endswith(pattern) or name == pattern[1:]))
