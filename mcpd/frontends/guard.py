"""Origin and Host: the checks that keep web pages from talking to a local daemon.

A page in a browser can send requests to 127.0.0.1, directly (its Origin gives it away) or after rebinding its
own name to that address (its Host does). Both are checked on every request, in every version, before anything
else.

Names are compared without port, case and the dot of an absolute name. What does not look like `name` or
`name:port` is no name at all: two parsers must not disagree about whom a request is for.

Source: "Security Warning" of the Streamable HTTP and HTTP+SSE transports.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mcpd.config.model import Listen

LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))

WILDCARDS: Final = frozenset(("", "0.0.0.0", "[::]"))
"""Listening addresses that name no machine."""

_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:@/?#\\,]+)(?::\d{0,5})?")


class Guard:
    """Decides by a head's Origin and Host."""

    def __init__(self, listen: Listen, *, loopback: bool, addresses: Iterable[str] = ()) -> None:
        """`addresses` are what is listened on, where systemd says so instead of `listen.host`."""
        own = frozenset(map(name_of, (listen.host, *addresses))) - WILDCARDS
        self._names = LOOPBACK | own
        self._hosts = tuple(filter(None, map(name_of, listen.trusted_hosts)))
        self._origins = frozenset(origin.lower().rstrip("/") for origin in listen.trusted_origins)
        self._origin_names = tuple(filter(None, map(_origin_name, self._origins)))
        # Beyond loopback a front authenticates and clients use names mcpd cannot know; there a list must be
        # given to be checked.
        self._check_host = loopback or bool(self._hosts)

    def refusal(self, headers: Mapping[bytes, bytes], repeated: frozenset[bytes]) -> tuple[int, str] | None:
        """Status and reason when a request is refused, else None."""
        if b"origin" in repeated or b"host" in repeated:
            return 400, "Origin and Host come once"
        host = headers.get(b"host", b"").decode("latin-1")
        if self._check_host and not self._known(name_of(host)):
            return 421, f"Host {host!r} is no name of mcpd's; add it to listen.trusted_hosts if it should be"
        origin = headers.get(b"origin")
        if origin is not None and not self._trusted(text := origin.decode("latin-1")):
            return 403, f"Origin {text!r} is not trusted; add it to listen.trusted_origins if it should be"
        return None

    def _known(self, name: str) -> bool:
        return bool(name) and (name in self._names or any(_matches(name, pattern) for pattern in self._hosts))

    def _trusted(self, origin: str) -> bool:
        origin = origin.lower()
        if origin in self._origins:
            return True
        found = _origin_name(origin)
        if found is None:
            return False
        scheme, name = found
        return name in LOOPBACK or any(scheme == s and _matches(name, pattern) for s, pattern in self._origin_names)


def name_of(authority: str) -> str:
    """The name in a Host header or a setting, lower-case, without port and final dot; "" when there is
    none."""
    authority = authority.strip().lower()
    if authority.count(":") > 1 and not authority.startswith("["):
        authority = f"[{authority}]"  # an IPv6 address as settings have it; a Host header brackets it
    found = _AUTHORITY.fullmatch(authority)
    return found[1].removesuffix(".") if found is not None else ""


def _origin_name(origin: str) -> tuple[str, str] | None:
    """Scheme and name of a web origin; None for everything else (`null`, an extension's origin)."""
    scheme, separator, authority = origin.partition("://")
    if not separator or scheme not in ("http", "https"):
        return None
    name = name_of(authority)
    return (scheme, name) if name else None


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or (pattern.startswith(".") and (name.endswith(pattern) or name == pattern[1:]))
