"""URLs of backends, taken apart once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

HTTP = ("http", "https")
WEBSOCKET = ("ws", "wss")
"""Schemes of a URL, without and with TLS."""

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_TARGET = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[0-9A-Za-z._~%:!$&'()*+,;=-]+")


@dataclass(frozen=True, slots=True)
class Url:
    """What a connection and a request line need of a URL."""

    scheme: str
    host: str
    """A name or an IP address, IPv6 without brackets."""
    port: int
    target: bytes
    """Path and query, as the request line has them."""
    authority: bytes
    """The Host header: without the scheme's own port."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """What decides whether two URLs may share connections."""
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority.decode()}{self.target.decode()}"


def parse_url(text: str, schemes: tuple[str, str] = HTTP) -> Url:
    """An absolute URL of one of the schemes. A fragment is dropped, as it never leaves a client.

    Raises: ValueError, whose text says what is wrong, without the credentials a URL may contain.
    """
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("the URL contains a space or an invisible character")
    try:
        split = urlsplit(text)
        port = split.port
    except ValueError as error:
        raise ValueError(f"the URL cannot be read: {error}") from None
    if split.scheme not in schemes:
        known = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"the URL must begin with {known}, not {split.scheme or text[:16]!r}")
    if split.username is not None or split.password is not None:
        raise ValueError("the URL contains a user name or password; send credentials in a header")
    host = split.hostname
    if not host:
        raise ValueError("the URL has no host")
    if not host.isascii() or not _HOST.fullmatch(host):
        raise ValueError(f"the URL's host {host!r} is not a name or address (write other scripts as xn--...)")
    if port == 0:
        raise ValueError("the URL's port is 0")
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    if not _TARGET.fullmatch(target):
        raise ValueError("the URL's path contains a character that must be percent-encoded")
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[split.scheme]:
        shown += f":{port}"
    return Url(split.scheme, host, port or _PORTS[split.scheme], target.encode(), shown.encode())
