"""Event streams: `text/event-stream` read and written as bytes.

Theory of operation. Line ends are made equal as bytes arrive, so that an event is what stands between two
empty lines; the stream is split there at once, and only the unfinished event is kept. Whatever arrives is
searched once, however long the event it belongs to gets. Fields are read when the event is asked for.

Rules.
1. The line of an event's data is never decoded: it is the bytes of a JSON text.
2. An event without data is reported when it has an id or a retry time: that is how a server of 2025-11-25
   primes a stream before it may drop it. Such an event is no message.
3. An event beyond the limit is reported once, in its place, and dropped as it arrives. Comments before an
   event are not part of it: a server may send nothing else for days.
4. What is unfinished when the stream ends is not an event.

Source: WHATWG HTML, "Server-sent events", parsing and interpreting an event stream; MCP "Transports",
Streamable HTTP of 2025-03-26 to 2026-07-28; HTTP with SSE of 2024-11-05.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.errors import LimitExceeded
from mcpd.protocol.lines import BOM, NEWLINES_TO_SPACES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.protocol.jsonrpc import Buffer

RETRY_DIGITS_MAX: Final = 9
"""A reconnection time of more digits (11 days in milliseconds) is a mistake and is ignored."""

_LF: Final = 0x0A
_OVERLONG: Final = b""
"""Stands for a dropped event in the queue, where no empty one ever is."""

_PLAIN: Final = b"event: message\ndata: "
_PLAIN_SIZE: Final = len(_PLAIN)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event. `id` is None when the event has no id field, `retry` is in milliseconds."""

    event: str
    data: bytes
    id: str | None = None
    retry: int | None = None


class EventDecoder:
    """Bytes in, events out. `limit` is in bytes of one event, field names included."""

    __slots__ = (
        "_carriage",
        "_dropping",
        "_head",
        "_partial",
        "_ready",
        "comments",
        "last_event_id",
        "limit",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.last_event_id = ""
        """The id to resume from, once its event was taken; empty when there is none."""
        self.comments = 0
        """Comment lines so far: signs of life."""
        # Whole events; made when there are any, for a deque has the size of everything else here together.
        self._ready: deque[bytes] | None = None
        # The unfinished event: never starts with an empty line, never holds two line ends in a row.
        self._partial = bytearray()
        # What may be the start of a byte order mark; None once that is settled.
        self._head: bytes | None = b""
        self._carriage = False  # the last chunk ended with \r: a \n that follows belongs to it
        self._dropping = False

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished event."""
        return len(self._partial)

    def receive_data(self, data: bytes) -> None:
        """Take what arrived."""
        if self._head is not None:
            data = self._head + data
            if len(data) < len(BOM) and BOM.startswith(data):
                self._head = data
                return
            self._head = None
            data = data.removeprefix(BOM)
        if self._carriage and data:
            self._carriage = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._carriage = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        partial = self._partial
        if partial:
            if partial[-1] == _LF and data[:1] == b"\n":
                at, after = 0, 1
            else:
                at = data.find(b"\n\n")
                after = at + 2
            if at < 0:
                self._keep(data)
                return
            partial += data[:at]
            self._partial = bytearray()
            self._finish(bytes(partial.removesuffix(b"\n")))
            data = data[after:]
        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        if len(data) <= self.limit:
            self._add(filter(None, blocks))  # empty lines at their start are passed over when read
        else:
            for block in blocks:
                self._finish(block.lstrip(b"\n"))
        if rest:
            self._keep(rest.lstrip(b"\n"))

    def next_event(self) -> Event | None:
        """The next event; None: more data is needed. Raises: LimitExceeded in place of an overlong one."""
        ready = self._ready
        while ready:
            block = ready.popleft()
            # How nearly all servers write a message; the rest is read in the general way.
            if block.startswith(_PLAIN) and len(block) > _PLAIN_SIZE and block.find(b"\n", _PLAIN_SIZE) < 0:
                return Event("message", block[_PLAIN_SIZE:])
            if not block:
                raise LimitExceeded(f"an event is longer than {self.limit} bytes")
            event = self._read(block)
            if event is not None:
                return event
        self._ready = None
        return None

    def _add(self, blocks: Iterable[bytes]) -> None:
        if self._ready is None:
            self._ready = deque(blocks)
        else:
            self._ready.extend(blocks)

    def _keep(self, data: bytes) -> None:
        if self._dropping:
            self._partial = bytearray(data[-1:] or self._partial)  # enough to know an empty line when it comes
            return
        partial = self._partial
        partial += data
        if partial[:1] == b":" and b"\n" in data:
            self._partial = partial = bytearray(self._skip_comments(bytes(partial)))
        if len(partial) > self.limit and len(partial.removesuffix(b"\n")) > self.limit:
            self._dropping = True
            self._partial = partial[-1:]
            self._add((_OVERLONG,))

    def _finish(self, block: bytes) -> None:
        if self._dropping:
            self._dropping = False
            return
        if len(block) > self.limit:
            block = self._skip_comments(block)
            if len(block) > self.limit:
                self._add((_OVERLONG,))
                return
        if block:
            self._add((block,))

    def _skip_comments(self, block: bytes) -> bytes:
        """What is left without the finished comment lines at its start, within the limit."""
        at = 0
        while block.startswith(b":", at):
            end = block.find(b"\n", at)
            if end < 0 or end - at > self.limit:
                break
            self.comments += 1
            at = end + 1
        return block[at:]

    def _read(self, block: bytes) -> Event | None:
        event = "message"
        data: list[bytes] = []
        id: str | None = None
        retry: int | None = None
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                data.append(line[6:])
                continue
            colon = line.find(b":")
            if colon == 0:
                self.comments += 1
                continue
            if colon < 0:
                name, value = line, b""
            else:
                name = line[:colon]
                value = line[colon + 2 :] if line.startswith(b" ", colon + 1) else line[colon + 1 :]
            if name == b"data":
                data.append(value)
            elif name == b"event":
                event = value.decode("utf-8", "replace") or "message"
            elif name == b"id":
                if b"\0" not in value:
                    self.last_event_id = id = value.decode("utf-8", "replace")
            elif name == b"retry" and value.isdigit() and len(value) <= RETRY_DIGITS_MAX:
                retry = int(value)
        text = data[0] if len(data) == 1 else b"\n".join(data)
        if not text and id is None and retry is None:
            return None
        return Event(event, text, id, retry)


def encode_event(
    data: Iterable[Buffer], event: bytes = b"message", id: bytes | None = None, retry: int | None = None
) -> bytes:
    """One event from the parts of a JSON text; line ends between its tokens become spaces.

    No parts make an event with empty data. `retry` is in milliseconds. Raises: ValueError for an id or event
    name that would break the stream.
    """
    head = _PLAIN if event == b"message" else b"event: %b\ndata: " % _one_line(event)
    if retry is not None:
        head = b"retry: %d\n%b" % (retry, head)
    if id is not None:
        head = b"id: %b\n%b" % (_one_line(id), head)
    text = b"".join((head, *data, b"\n\n"))
    if text.find(b"\n", len(head)) != len(text) - 2 or b"\r" in text:
        text = head + text[len(head) : -2].translate(NEWLINES_TO_SPACES) + b"\n\n"
    return text


def encode_comment(text: bytes = b"") -> bytes:
    """A comment, which keeps a quiet connection alive."""
    return b": %b\n\n" % _one_line(text)


def _one_line(text: bytes) -> bytes:
    if b"\n" in text or b"\r" in text or b"\0" in text:
        raise ValueError(f"{text!r} does not fit into a line of an event stream")
    return text
