"""Bytes in, whole requests out; pure. For everything that is not one complete request in one receive.

The easy way (a remembered head, a body sliced by Content-Length) and h11's way must agree; a test feeds both
the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from mcpd.wire.http_head import Head, HttpRefused, Memo, read_request_head

if TYPE_CHECKING:
    from mcpd.wire.http_limits import HttpLimits

RECEIVE_SIZE = 64 * 1024
"""One receive: a usual request fits, and malloc serves it without mmap."""
RECEIVE_MAX = 1024 * 1024
"""One receive of a large body: what a socket buffer holds at most, so larger would not help."""


class RequestReader:
    """Reads one request: `feed` bytes, ask `next`, and `rest` is what came after it."""

    def __init__(self, limits: HttpLimits, memo: Memo[Head]) -> None:
        self._limits = limits
        self._memo = memo
        self._fed: list[bytes] = []
        self._parser: h11.Connection | None = None
        self._head: Head | None = None
        self._raw = b""
        self._parts: list[bytes] = []
        self._size = 0
        self.rest = b""
        """Bytes after the request, once `next` has returned it."""

    @property
    def head(self) -> Head | None:
        """The head, once it is whole."""
        return self._head

    def received(self) -> bytes | None:
        """Everything that was fed, to be fed to another reader; None when it cannot be had back (a chunked body)."""
        if self._head is None:
            return b"".join(self._fed)
        if self._head.chunked:
            return None
        return b"".join((self._raw, *self._parts))

    @property
    def want(self) -> int:
        """How many bytes to receive at once."""
        head = self._head
        if head is None or head.content_length is None:
            return RECEIVE_SIZE
        return min(max(RECEIVE_SIZE, head.content_length - self._size), RECEIVE_MAX)

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        if self._head is None:
            self._fed.append(data)
        else:
            self._take_body(data)

    def next(self) -> tuple[Head, bytes] | None:
        """The request with its whole body, or None: more bytes are needed.

        Raises: HttpRefused
        """
        if self._head is None:
            self._read_head()
        head = self._head
        if head is None:
            return None
        if head.chunked:
            return self._read_chunks(head)
        length = head.content_length or 0
        if self._size < length:
            return None
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self.rest = body[length:]
        return head, body[:length]

    def _read_head(self) -> None:
        """Sets `_head` when it is whole, and passes on what follows it."""
        parser = self._parser
        if parser is None:
            data = self._fed[0] if len(self._fed) == 1 else b"".join(self._fed)
            end = data.find(b"\r\n\r\n") + 4
            head = self._memo.recall(data[:end])
            if head is not None:
                self._begin_body(head, data[:end], data[end:])
                return
            self._parser = parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head)
            parser.receive_data(data)
        else:
            parser.receive_data(self._fed[-1])
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                raise self._head_too_large() from None
            # What h11 says after a colon quotes the peer's own bytes, which may be credentials.
            raise HttpRefused(error.error_status_hint, str(error).partition(":")[0]) from None
        if not isinstance(event, h11.Request):
            return
        data = self._fed[0] if len(self._fed) == 1 else b"".join(self._fed)
        end = len(data) - len(parser.trailing_data[0])
        if end > self._limits.head:
            raise self._head_too_large()
        head = read_request_head(event)
        if head.content_length is not None and head.content_length > self._limits.body:
            raise self._body_too_large(head.content_length)
        self._memo.store(data[:end], head)
        self._begin_body(head, data[:end], data[end:])

    def _begin_body(self, head: Head, raw: bytes, rest: bytes) -> None:
        self._head = head
        self._raw = raw
        self._fed = []
        if head.chunked:
            if self._parser is None:
                self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head)
                self._parser.receive_data(raw)
                self._parser.next_event()
                self._take_body(rest)
            return  # a parser that read the head has the rest already
        self._parser = None
        self._take_body(rest)

    def _take_body(self, data: bytes) -> None:
        if self._parser is not None:
            # To h11 an empty receive means the end of the connection.
            if data:
                self._parser.receive_data(data)
        else:
            self._parts.append(data)
            self._size += len(data)

    def _read_chunks(self, head: Head) -> tuple[Head, bytes] | None:
        assert self._parser is not None
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                raise HttpRefused(400, f"chunked body: {str(error).partition(':')[0]}") from None
            if isinstance(event, h11.Data):
                self._parts.append(bytes(event.data))
                self._size += len(event.data)
                if self._size > self._limits.body:
                    raise self._body_too_large(self._size)
            elif isinstance(event, h11.EndOfMessage):
                self.rest = self._parser.trailing_data[0]
                return head, b"".join(self._parts)
            else:
                return None

    def _head_too_large(self) -> HttpRefused:
        return HttpRefused(431, f"the request's head is over the limit of {self._limits.head} bytes (limits.head)")

    def _body_too_large(self, size: int) -> HttpRefused:
        limit = self._limits.body
        return HttpRefused(413, f"a request body of {size} bytes is over the limit of {limit} bytes (limits.body)")
