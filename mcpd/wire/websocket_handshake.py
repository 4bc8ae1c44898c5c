"""The opening handshake of a WebSocket, as far as trio-websocket is not to be left alone with it; pure.

Theory of operation. A server's side: the request was read by our own HTTP server, under its limits. What it asks for is
checked here, so that every refusal is an answer with a reason; then the library is shown a request of its own
(`Upgrade.replay`) that has nothing of the client's in it but the key. A client's side: the library would wait for ever
for an answer that does not come, and collect a refusal of any length. So the answer is read here, and the library sees
it only if it is a 101.

Source: RFC 6455 4.1 "Client Requirements", 4.2 "Server-Side Requirements"; RFC 9110 15.5.22 "426 Upgrade Required".
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import h11

from mcpd.errors import ConnectionBroken, LimitExceeded
from mcpd.wire.http_head import has_token, read_response_head

if TYPE_CHECKING:
    from mcpd.wire.http_head import Head

VERSION: Final = b"13"
KEY_LENGTH: Final = 16
"""Bytes of Sec-WebSocket-Key, once decoded."""

WANTED: Final = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
"""What goes with a 426: the protocol that is spoken here."""


class UpgradeRefused(Exception):
    """A request that does not become a WebSocket: what it is answered with."""

    def __init__(self, status: int, reason: str, headers: bytes = b"") -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        super().__init__(f"{status}: {reason}")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request that may become a WebSocket."""

    key: bytes
    subprotocol: str | None
    """What both sides speak; None when the client did not ask for any."""

    def replay(self) -> bytes:
        """The request as the library is to see it."""
        offer = b"" if self.subprotocol is None else b"Sec-WebSocket-Protocol: %b\r\n" % self.subprotocol.encode()
        return (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n%b\r\n" % (self.key, offer)
        )


def read_upgrade(head: Head, subprotocol: str) -> Upgrade:
    """What a request for an upgrade asks for. Raises: UpgradeRefused."""
    headers = head.headers
    if head.method != b"GET":
        raise UpgradeRefused(405, "a WebSocket begins with GET", b"Allow: GET\r\n")
    if (
        head.http_version < b"1.1"
        or not has_token(headers.get(b"connection"), b"upgrade")
        or not has_token(headers.get(b"upgrade"), b"websocket")
    ):
        raise UpgradeRefused(426, "this path speaks WebSocket: send Upgrade: websocket and Connection: Upgrade", WANTED)
    if headers.get(b"sec-websocket-version") != VERSION:
        reason = "Sec-WebSocket-Version must be 13"
        raise UpgradeRefused(426, reason, WANTED + b"Sec-WebSocket-Version: %b\r\n" % VERSION)
    key = headers.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        raise UpgradeRefused(400, "Sec-WebSocket-Key must come once and be 16 bytes in base64")
    if head.chunked or head.content_length:
        raise UpgradeRefused(400, "a request for a WebSocket has no body")
    offered = headers.get(b"sec-websocket-protocol")
    if offered is None:
        return Upgrade(key, None)
    # Subprotocols are told apart by case, unlike the tokens above.
    if subprotocol.encode() not in [part.strip() for part in offered.split(b",")]:
        raise UpgradeRefused(400, f"Sec-WebSocket-Protocol does not offer {subprotocol!r}, the one spoken here")
    return Upgrade(key, subprotocol)


def _is_key(value: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == KEY_LENGTH
    except ValueError:
        return False


class HandshakeRefused(ConnectionBroken):
    """The server answered the request for an upgrade with a status of its own."""

    def __init__(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.headers = headers
        super().__init__(f"HTTP {status} to the request for a WebSocket")


class AnswerReader:
    """Reads the answer to a request for an upgrade; `limit` is for the bytes of its head, and of all 1xx before it."""

    def __init__(self, limit: int) -> None:
        self.rest = b""
        """What came after the head."""
        self._limit = limit
        self._fed = b""
        self._skipped = 0
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=limit)
        # h11 takes a 101 only where it has seen that one was asked for.
        headers = [("Host", "localhost"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
        self._parser.send(h11.Request(method="GET", target="/", headers=headers))
        self._parser.send(h11.EndOfMessage())

    def feed(self, data: bytes) -> bytes | None:
        """Take what came in, b"" at the end; returns the head of a 101 once it is whole. Other 1xx answers are skipped.

        Raises: HandshakeRefused; ConnectionBroken, when this is no answer; LimitExceeded.
        """
        self._fed += data
        self._parser.receive_data(data)
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                if error.error_status_hint == 431:
                    raise self._too_long() from None
                if not data:
                    raise ConnectionBroken("the connection ended before the handshake was answered") from None
                raise ConnectionBroken(f"not an HTTP answer: {str(error).partition(':')[0]}") from None
            if isinstance(event, h11.ConnectionClosed):
                raise ConnectionBroken("the connection ended before the handshake was answered")
            if not isinstance(event, h11.Response | h11.InformationalResponse):
                return None
            self.rest = self._parser.trailing_data[0]
            end = len(self._fed) - len(self.rest)
            if end > self._limit:
                raise self._too_long()
            head = read_response_head(event)
            if head.status == 101:
                return self._fed[self._skipped : end]
            if isinstance(event, h11.Response):
                raise HandshakeRefused(head.status, head.headers)
            self._skipped = end

    def _too_long(self) -> LimitExceeded:
        return LimitExceeded(f"the head of an answer is over the limit of {self._limit} bytes")
