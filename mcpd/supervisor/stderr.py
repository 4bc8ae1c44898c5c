"""A child's stderr: always drained, its last words kept.

Theory of operation
    1. The pipe is read for ever, whatever the child writes and whoever cares, so a chatty child never blocks
       on it.
    2. Kept are the last lines only, bounded in lines, bytes and bytes a line. What is let go is counted.
    3. `say` gets every line, as many at once as were read.
    4. A child that floods costs us little: beyond DRAIN_RATE we read no faster, and at most LINES_RATE lines
       a second are handed on to mcpd's own log.
"""

from __future__ import annotations

import os
import re
from collections import deque
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TAIL_LINES = 200
TAIL_BYTES = 64 << 10
"""What a crash report can show of one child, and what the next program is told; `logs` keeps more for operators."""

LINE_MAX = 4 << 10
"""Bytes kept of one line: a traceback line fits ten times; a dumped document does not fill the ring alone."""

WORD_MAX = 512
"""Bytes of a word that a long line is not cut within: half a secret would not be known for one."""

CUT = b" [cut]"
"""Ends a line of which the rest was dropped."""

READ_SIZE = 64 << 10
"""The capacity of the pipe."""

DRAIN_BURST = 8 << 20
DRAIN_RATE = 8 << 20
"""Bytes at once, and bytes a second after that. A child that dumps megabytes of debugging before its reply
is not delayed; one that never stops costs about two per cent of a core instead of all of one."""

LINES_BURST = 200
LINES_RATE = 20.0
"""Lines handed to `on_line`: at once, and a second after that; the log of a machine with a child in a tight
error loop stays readable. What was left out is said in one line."""

CATCH_UP = 1 << 20
"""Bytes of last words that are taken at once: as much as a pipe may hold. A grandchild may write into it for ever."""

_UNPRINTABLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Terminal sequences and control characters: they would colour, or forge, lines of a log."""


class StderrTail:
    """Our end of a child's stderr. Owns the descriptor; somebody runs `run` in a task."""

    def __init__(
        self,
        fd: int,
        *,
        on_line: Callable[[str], None] | None = None,
        say: Callable[[Sequence[bytes]], None] | None = None,
    ) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._on_line = on_line
        self._say = say
        self._heard: list[bytes] = []
        """Lines that were read just now, for `say`."""
        self._lines: deque[bytes] = deque()
        self._kept = 0
        self._partial = bytearray()
        self._tokens = float(LINES_BURST)
        self._tokens_at = 0.0
        self._withheld = 0
        self.received = 0
        """Bytes read since the start."""
        self.dropped = 0
        """Bytes of lines that are no longer, or were never, kept."""

    async def run(self) -> None:
        """Drain until the last holder of the pipe is gone."""
        credit, at = float(DRAIN_BURST), trio.current_time()
        try:
            while self._fd >= 0:
                await trio.lowlevel.wait_readable(self._fd)
                try:
                    data = os.read(self._fd, READ_SIZE)
                except BlockingIOError:
                    continue
                except OSError:
                    break
                if not data:
                    break
                self._take(data)
                now = trio.current_time()
                credit = min(float(DRAIN_BURST), credit + (now - at) * DRAIN_RATE) - len(data)
                at = now
                if credit < 0:
                    await trio.sleep(-credit / DRAIN_RATE)
        except trio.ClosedResourceError:
            pass
        finally:
            self._flush_partial()
            self._tell()
            self._hand_on_withheld()
            self.close()

    def catch_up(self) -> None:
        """Take what was said up to now. Once the child has ended, all of its words are in the pipe."""
        left = CATCH_UP
        while self._fd >= 0 and left > 0:
            try:
                data = os.read(self._fd, READ_SIZE)
            except OSError:
                break  # there is no more just now
            if not data:
                break
            self._take(data)
            left -= len(data)

    def lines(self, count: int = TAIL_LINES) -> list[str]:
        """The last lines, oldest first, printable, an unfinished one included."""
        lines = [*self._lines, bytes(self._partial)] if self._partial else list(self._lines)
        return [printable(line) for line in lines[-count:]] if count > 0 else []

    def tail(self, lines: int = 5, limit: int = 1000, clear: Callable[[str], str] = str) -> str:
        """The last words in one line of at most `limit` characters, for an error message. `clear` removes secrets,
        before the line is cut: what is left of one would not be known for one.
        """
        text = clear(" | ".join(line for line in (each.strip() for each in self.lines(lines)) if line))
        return text if len(text) <= limit else "…" + text[len(text) - limit + 1 :]

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._fd

    def capture(self) -> tuple[tuple[bytes, ...], bytes]:
        """The kept lines, and the beginning of the next one."""
        return tuple(self._lines), bytes(self._partial)

    def recall(self, lines: tuple[bytes, ...], partial: bytes) -> None:
        """Have these as if they had been read here; they were handed on already."""
        self._lines.extend(lines)
        self._kept += sum(map(len, lines))
        self._partial += partial

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        trio.lowlevel.notify_closing(fd)
        os.close(fd)

    def _take(self, data: bytes) -> None:
        self.received += len(data)
        first, *rest = data.split(b"\n")
        self._extend(first)
        if not rest:
            return
        self._flush_partial(ended=True)
        for line in rest[:-1]:
            self._keep(line)
        self._extend(rest[-1])
        self._tell()

    def _extend(self, data: bytes) -> None:
        # One byte more than LINE_MAX is kept as the sign that the line is too long.
        room = max(0, LINE_MAX + 1 - len(self._partial))
        self._partial += data[:room]
        self.dropped += max(0, len(data) - room)

    def _flush_partial(self, *, ended: bool = False) -> None:
        if self._partial or ended:
            line = bytes(self._partial)
            self._partial.clear()
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        if len(line) > LINE_MAX:
            whole = line.rfind(b" ", LINE_MAX - WORD_MAX, LINE_MAX)
            end = whole if whole > 0 else LINE_MAX
            self.dropped += len(line) - end
            line = line[:end] + CUT
        self._lines.append(line)
        if self._say is not None:
            self._heard.append(line)
        self._kept += len(line)
        while len(self._lines) > TAIL_LINES or self._kept > TAIL_BYTES:
            old = self._lines.popleft()
            self._kept -= len(old)
            self.dropped += len(old)
        if self._on_line is not None and line:
            self._hand_on(line)

    def _tell(self) -> None:
        if self._heard and self._say is not None:
            self._say(self._heard)
            self._heard.clear()

    def _hand_on(self, line: bytes) -> None:
        assert self._on_line is not None
        now = trio.current_time()
        if self._tokens_at:
            self._tokens = min(float(LINES_BURST), self._tokens + (now - self._tokens_at) * LINES_RATE)
        self._tokens_at = now
        if self._tokens < 1:
            self._withheld += 1
            return
        self._tokens -= 1
        self._hand_on_withheld()
        self._on_line(printable(line))

    def _hand_on_withheld(self) -> None:
        if self._withheld and self._on_line is not None:
            count, self._withheld = self._withheld, 0
            self._on_line(f"[{count} lines left out]")


def printable(line: bytes) -> str:
    """A line without what would steer a terminal."""
    return _UNPRINTABLE.sub("", line.decode("utf-8", "replace"))
