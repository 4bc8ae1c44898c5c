"""Bodies of answers, by the three ways HTTP/1.1 ends them; pure."""

from __future__ import annotations

import re
from typing import Protocol

import h11

from mcpd.errors import ConnectionBroken

_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")
"""The plain way to begin a chunk; extensions and oddities are h11's."""
PLAIN_CHUNK_LINE = 10
"""Bytes of the longest plain chunk line."""


class Body(Protocol):
    """`feed` bytes as they come and get the payload among them; `done` at the end."""

    done: bool
    excess: bool
    """More bytes came than belong to the body: the connection cannot be used again."""

    def feed(self, data: bytes) -> bytes:
        """Payload in `data`, possibly none. Raises: ConnectionBroken, when the framing is wrong."""

    def end(self) -> None:
        """The connection ended. Raises: ConnectionBroken, when the body is not whole."""


class LengthBody:
    """A body of known length."""

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.excess = False

    def feed(self, data: bytes) -> bytes:
        if len(data) > self.left:
            self.excess = True
            data = data[: self.left]
        self.left -= len(data)
        self.done = self.left == 0
        return data

    def end(self) -> None:
        raise ConnectionBroken(f"the connection ended {self.left} bytes before the answer did")


class CloseBody:
    """A body that ends with its connection."""

    def __init__(self) -> None:
        self.done = False
        self.excess = False

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> None:
        self.done = True


class ChunkedBody:
    """A chunked body. Plain chunks are sliced; from a chunk that begins otherwise (or trailers) on, h11 reads
    the rest.

    That is safe at a chunk's beginning, because what is left of a chunked body is a chunked body.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = b""
        self._left = 0
        self._footer = False
        self._parser: h11.Connection | None = None
        self.done = False
        self.excess = False

    def feed(self, data: bytes) -> bytes:
        if self._parser is not None:
            self._parser.receive_data(data)
            return self._parse()
        if self._kept:
            data = self._kept + data
            self._kept = b""
        payload = []
        at = 0
        size = len(data)
        while at < size:
            if self._left:
                part = data[at : at + self._left]
                payload.append(part)
                at += len(part)
                self._left -= len(part)
                self._footer = not self._left
            elif self._footer:
                if size - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise ConnectionBroken("chunked answer: malformed chunk footer")
                at += 2
                self._footer = False
            else:
                match = _CHUNK.match(data, at)
                if match is None:
                    if size - at < PLAIN_CHUNK_LINE and b"\n" not in data[at:]:
                        break
                    payload.append(self._hand_over(data[at:]))
                    return b"".join(payload)
                self._left = int(match[1], 16)
                if self._left:
                    at = match.end()
                    continue
                ending = data[match.end() : match.end() + 2]
                if ending == b"\r\n":
                    self.done = True
                    self.excess = size > match.end() + 2
                    return payload[0] if len(payload) == 1 else b"".join(payload)
                if b"\r\n".startswith(ending):
                    break
                payload.append(self._hand_over(data[at:]))
                return b"".join(payload)
        self._kept = data[at:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _hand_over(self, data: bytes) -> bytes:
        """Let h11 read from here, the beginning of a chunk."""
        self._parser = response_parser(b"GET", self._limit)
        self._parser.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._parser.next_event()
        self._parser.receive_data(data)
        return self._parse()

    def _parse(self) -> bytes:
        parser = self._parser
        assert parser is not None
        payload = []
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                raise ConnectionBroken(f"chunked answer: {str(error).partition(':')[0]}") from None
            if isinstance(event, h11.Data):
                payload.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.done = True
                self.excess = bool(parser.trailing_data[0])
                break
            else:
                break
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def end(self) -> None:
        raise ConnectionBroken("the connection ended before the last chunk of the answer")


def response_parser(method: bytes, limit: int) -> h11.Connection:
    """An h11 connection that waits for the answer to a request of `method`."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=limit)
    # h11 reads no answer before it has seen a request go out; what it says about this one is thrown away.
    parser.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"-")]))
    parser.send(h11.EndOfMessage())
    return parser
