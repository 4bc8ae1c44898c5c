"""Newline framing, as the stdio transport has it: one JSON text a line.

Theory of operation. Bytes are handed in as they arrive and split at once; only the unfinished last line is
kept. An arriving chunk is searched once and never again, however long the line it belongs to gets. A line
that grows beyond the limit is reported once, in its place among the lines, and the rest of it is dropped as
it arrives.

Source: "Transports", stdio, of each version; `\\r\\n` and a byte order mark are accepted because real servers
send them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mcpd.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.protocol.jsonrpc import Buffer

BOM: Final = b"\xef\xbb\xbf"

# Only JSON's whitespace can hold a raw line end (inside a string it is an escape), so a space says the same.
NEWLINES_TO_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")

_OVERLONG: Final = b""
"""Stands for a dropped line in the queue, where no empty line ever is."""


class LineDecoder:
    """Bytes in, lines out: without terminator, never empty. `limit` is in bytes, a `\\r` counts."""

    __slots__ = ("_dropping", "_fresh", "_overlong", "_partial", "_ready", "_size", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._ready: deque[bytes] = deque()
        self._partial: list[bytes] = []  # pieces of the unfinished line, joined once: one copy, however many reads
        self._size = 0
        self._fresh = True
        self._dropping = False
        self._overlong = 0

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished line."""
        return self._size

    def partial(self) -> bytes | None:
        """The unfinished line so far; None when it is one that is dropped."""
        return None if self._dropping else b"".join(self._partial)

    def receive_data(self, data: bytes) -> None:
        """Take what arrived."""
        at = data.find(b"\n")
        if at < 0:
            self._keep(data)
            return
        if self._partial or self._dropping or self._fresh:
            if not self._dropping and self._size + at > self.limit:
                self._drop()
            if self._dropping:
                self._dropping = False
            else:
                partial, self._partial, self._size = self._partial, [], 0
                self._push(b"".join((*partial, memoryview(data)[:at])) if partial else data[:at])
            self._fresh = False
            if at + 1 == len(data):
                return
            data = data[at + 1 :]
        lines = data.split(b"\n")
        rest = lines.pop()
        if len(data) > self.limit:
            for line in lines:
                if len(line) > self.limit:
                    self._drop()
                    self._dropping = False
                else:
                    self._push(line)
        elif b"\r" in data:
            for line in lines:
                self._push(line)
        else:
            self._ready.extend(filter(None, lines))
        if rest:
            self._keep(rest)

    def next_line(self) -> bytes | None:
        """The next line; None: more data is needed. Raises: LimitExceeded in place of an overlong line."""
        if not self._ready:
            return None
        line = self._ready.popleft()
        if line:
            return line
        raise self._exceeded()

    def lines(self) -> list[bytes]:
        """All lines up to the next one beyond the limit. Raises: LimitExceeded when that one is next."""
        ready = self._ready
        if not self._overlong:
            lines = list(ready)
            ready.clear()
            return lines
        if ready[0] == _OVERLONG:
            ready.popleft()
            raise self._exceeded()
        lines = []
        while ready[0] != _OVERLONG:
            lines.append(ready.popleft())
        return lines

    def _keep(self, data: bytes) -> None:
        if self._dropping or not data:
            return
        if self._size + len(data) > self.limit:
            self._drop()
        else:
            self._partial.append(data)
            self._size += len(data)

    def _drop(self) -> None:
        self._partial = []
        self._size = 0
        self._dropping = True
        self._overlong += 1
        self._ready.append(_OVERLONG)

    def _push(self, line: bytes) -> None:
        if self._fresh:
            line = line.removeprefix(BOM)
        line = line.rstrip(b"\r")
        if line:
            self._ready.append(line)

    def _exceeded(self) -> LimitExceeded:
        self._overlong -= 1
        return LimitExceeded(f"a line is longer than {self.limit} bytes")


def encode_line(parts: Iterable[Buffer]) -> bytes:
    """One line from the parts of a JSON text; line ends between its tokens become spaces."""
    line = b"".join((*parts, b"\n"))
    if line.find(b"\n") != len(line) - 1 or b"\r" in line:
        line = line[:-1].translate(NEWLINES_TO_SPACES) + b"\n"
    return line
