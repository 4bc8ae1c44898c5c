"""The frames that come in on a WebSocket, counted before anybody collects them; pure.

Theory of operation. trio-websocket bounds a message by its characters, of which it learns when it has them, and takes
any number of empty fragments. So the bytes pass here first. Only the headers of frames are looked at, and payloads are
skipped; what is wrong with a header otherwise, and what a payload means, is for the library to say.

Source: RFC 6455 5.2 "Base Framing Protocol", 5.4 "Fragmentation", 7.4.1 "Defined Status Codes".
"""

from __future__ import annotations

from typing import Final

UNSUPPORTED_DATA: Final = 1003
TOO_BIG: Final = 1009

FRAGMENTS_MAX: Final = 64 * 1024
"""Frames of one message. The library keeps each as a string of its own, up to 100 bytes for one character, so this is 6
MiB; a peer that cuts its largest message into pieces of a kibibyte stays below."""

_FIN = 0x80
_MASKED = 0x80
_CONTINUATION, _TEXT, _BINARY, _CLOSE = 0x0, 0x1, 0x2, 0x8
_LENGTH_BYTES = {126: 2, 127: 8}


class FrameRefused(Exception):
    """A frame that is not taken; `code` is what the connection is closed with."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


class Frames:
    """Follows the frames of one connection. `setting` names the limit in what is said about it."""

    __slots__ = ("_data", "_fragments", "_head", "_left", "_limit", "_setting", "_size", "begun", "closing")

    def __init__(self, limit: int, setting: str) -> None:
        self.begun = 0
        """Frames whose header has come."""
        self.closing = False
        """The peer has taken leave; whatever follows means nothing."""
        self._limit = limit
        self._setting = setting
        self._head = b""
        self._data = False
        self._left = 0
        self._size = 0
        self._fragments = 0

    @property
    def inside(self) -> bool:
        """Whether more of the payload of the last frame is to come, and that is a piece of a message."""
        return self._data and self._left > 0

    def feed(self, data: bytes) -> None:
        """Take what came in. Raises: FrameRefused, once; nothing may be fed after that."""
        at = 0
        while at < len(data) and not self.closing:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            # The longest header has 14 bytes.
            head = self._head + data[at : at + 14]
            size = _header_size(head)
            if len(head) < size:
                self._head = head
                return
            at += size - len(self._head)
            self._head = b""
            self.begun += 1
            self._judge(head)

    def _judge(self, head: bytes) -> None:
        opcode = head[0] & 0x0F
        self._left = _payload_size(head)
        self._data = opcode in (_TEXT, _CONTINUATION)
        if opcode == _CLOSE:
            self.closing = True
        elif opcode == _BINARY:
            raise FrameRefused(UNSUPPORTED_DATA, "binary frames are not taken; send text")
        elif self._data:
            self._size += self._left
            self._fragments += 1
            if self._size > self._limit:
                reason = f"a message of {self._size} bytes or more is over the limit of {self._limit} bytes"
                raise FrameRefused(TOO_BIG, f"{reason} ({self._setting})")
            if self._fragments > FRAGMENTS_MAX:
                raise FrameRefused(TOO_BIG, f"a message in more than {FRAGMENTS_MAX} pieces")
            if head[0] & _FIN:
                self._size = self._fragments = 0


def _header_size(head: bytes) -> int:
    """Bytes of the header that begins so; more than there are when that cannot be said yet."""
    if len(head) < 2:
        return 2
    return 2 + _LENGTH_BYTES.get(head[1] & 0x7F, 0) + (4 if head[1] & _MASKED else 0)


def _payload_size(head: bytes) -> int:
    short = head[1] & 0x7F
    return int.from_bytes(head[2 : 2 + _LENGTH_BYTES[short]]) if short in _LENGTH_BYTES else short
