"""The two pipes that carry a child's messages. This is the hot path of every call to a stdio backend.

Theory of operation
    1. A write goes straight to the file descriptor while nothing is queued: no task switch, no lock. What
       the pipe does not take is queued, and one flusher task sends it. A write never interleaves with
       another: either nothing was queued and the rest of this one is the first thing in the queue, or it is
       queued as a whole.
    2. A read always waits for readiness first, which is a checkpoint: a child that floods cannot starve the
       others.
    3. Bytes only: lines and messages are the reader's affair.
"""

from __future__ import annotations

import fcntl
import math
import os
import sys
import termios
import time
from collections import deque
from typing import TYPE_CHECKING

import trio

from mcpd.errors import ConnectionBroken, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

PIPE_SIZE = 1 << 20
"""Wanted capacity in bytes: what unprivileged users may ask for (fs.pipe-max-size). A default pipe holds 64
KiB, so that 1 MiB costs sixteen switches between child and us."""

PIPE_PAGES_FILE = "/proc/sys/fs/pipe-user-pages-soft"

WRITE_QUEUE_MAX = 64 << 20
"""Bytes queued for one child that does not read. Owners wait with `room` long before; beyond this `write`
refuses, so that one stuck child cannot take the daemon's memory."""

READ_MIN = 64 << 10
READ_MAX = 1 << 20
"""The read size doubles while reads fill it, up to the pipe's capacity, and falls back when they no longer
do: a 1 MiB buffer costs page faults that a small reply need not pay."""

READ_SHRINK_AFTER = 16
"""Small reads in a row before the read size is halved."""

WRITE_PARTS_MAX = 512
"""Parts given to one writev; the kernel's limit is 1024 (IOV_MAX)."""


class PipeBudget:
    """How many bytes of enlarged pipes we may hold.

    A user who is over fs.pipe-user-pages-soft gets pipes of two pages from then on, which would harm every
    other pipe of that user; so we take at most half of it and leave the default size to the rest.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._left = _soft_limit() // 2 if limit is None else limit

    def enlarge(self, fd: int) -> int:
        """Try to give this pipe PIPE_SIZE; returns the bytes taken from the budget (0 when it stays as it
        is)."""
        if self._left < PIPE_SIZE:
            return 0
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            return 0  # the pipe works as it is, only with more switches
        self._left -= PIPE_SIZE
        return PIPE_SIZE

    def give_back(self, taken: int) -> None:
        self._left += taken


def _soft_limit() -> int:
    try:
        with open(PIPE_PAGES_FILE, "rb") as file:
            pages = int(file.read())
    except (OSError, ValueError):
        return 0
    # 0 means no limit; a thousand children are then the bound.
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else 2000 * PIPE_SIZE


GATHER = 0.00005
"""Seconds: a write so soon after another waits for the tasks that are about to write as well, and one system call takes
them all. A lone caller's next request comes later than this, and goes out at once."""


class PipeWriter:
    """Our end of a child's stdin. Owns the descriptor. Its owner runs `run` in a task."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._queue: deque[memoryview] = deque()
        self._flusher = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._last_write = -math.inf
        self.queued = 0
        """Bytes accepted but not yet in the pipe."""
        self.written = 0
        """Bytes accepted since the start."""

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._fd

    def unsent(self) -> bytes:
        """What was accepted but is not in the pipe yet."""
        return b"".join(self._queue)

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        """Send the parts as one piece.

        Raises: ConnectionBroken when the pipe is closed on either side; LimitExceeded when WRITE_QUEUE_MAX
        would be passed (then nothing of it is sent).
        """
        now = time.perf_counter()
        busy, self._last_write = now - self._last_write < GATHER, now
        if self.queued or busy or self._fd < 0:
            self._write_queued(parts)
            return
        try:
            if len(parts) == 1:
                part = parts[0]
                size = len(part)
                sent = os.write(self._fd, part)
            else:
                size = sum(map(len, parts))
                sent = os.writev(self._fd, parts[:WRITE_PARTS_MAX])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.close()
            raise ConnectionBroken("the child closed its stdin") from error
        self.written += size
        if sent < size:
            self._enqueue(parts, sent)

    async def run(self) -> None:
        """Send what is queued, for ever; parked while nothing is. Returns when the pipe is closed."""
        while self._fd >= 0:
            if not self._queue:
                await self._flusher.park()
                continue
            try:
                # Tried before it is waited for: what was gathered finds room nearly always.
                self._flush()
            except BlockingIOError:
                try:
                    await trio.lowlevel.wait_writable(self._fd)
                except trio.ClosedResourceError:
                    return
            except OSError:
                # The child no longer reads. Its exit, or the end of its stdout, says so to the owner.
                self.close()

    async def room(self, limit: int) -> None:
        """Wait until at most `limit` bytes are queued.

        Raises: ConnectionBroken when the pipe is closed meanwhile.
        """
        if self._fd >= 0 and self.queued <= limit:
            await trio.lowlevel.checkpoint()
        while self._fd >= 0 and self.queued > limit:
            await self._room.park()
        if self._fd < 0:
            raise ConnectionBroken("the child closed its stdin")

    def close(self) -> None:
        """Close our end: the child sees the end of its input. What is still queued is dropped."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        trio.lowlevel.notify_closing(fd)
        os.close(fd)
        self._queue.clear()
        self.queued = 0
        self._flusher.unpark_all()
        self._room.unpark_all()

    def _write_queued(self, parts: tuple[bytes | bytearray | memoryview, ...]) -> None:
        if self._fd < 0:
            raise ConnectionBroken("the child's stdin is closed")
        size = sum(map(len, parts))
        if self.queued + size > WRITE_QUEUE_MAX:
            raise LimitExceeded(f"the child does not read: {self.queued} bytes wait for it already")
        self.written += size
        self._enqueue(parts, 0)

    def _enqueue(self, parts: tuple[bytes | bytearray | memoryview, ...], skip: int) -> None:
        for part in parts:
            size = len(part)
            if skip >= size:
                skip -= size
                continue
            # bytes never change, so they need no copy; everything else belongs to the caller and may.
            rest = memoryview(part if type(part) is bytes else bytes(part))[skip:]
            skip = 0
            self._queue.append(rest)
            self.queued += len(rest)
        self._flusher.unpark()

    def _flush(self) -> None:
        while self._queue:
            parts = [self._queue[index] for index in range(min(len(self._queue), WRITE_PARTS_MAX))]
            sent = os.writev(self._fd, parts)
            self.queued -= sent
            for part in parts:
                if sent < len(part):
                    self._queue[0] = part[sent:]
                    break
                sent -= len(part)
                self._queue.popleft()
            self._room.unpark_all()


class PipeReader:
    """Our end of a child's stdout. Owns the descriptor, and closes it at the end of the stream."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._size = READ_MIN
        self._small = 0
        self._draining = False
        self.received = 0
        """Bytes since the start, drained ones included."""
        self.on_first: Callable[[], None] | None = None
        """Called once, before the first bytes (or the end) are returned."""

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._fd

    @property
    def pending(self) -> int:
        """Bytes that have come and were not received yet."""
        if self._fd < 0:
            return 0
        return int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder)

    async def receive_some(self) -> bytes:
        """The next bytes, at most READ_MAX; b"" at the end, after `close`, or when a stop has taken over
        (see `drain`)."""
        if self._draining:
            await trio.lowlevel.checkpoint()
            return b""
        return await self._receive()

    def take_over(self) -> None:
        """Only `drain` gets bytes from now on; who waits in `receive_some` sees the end of the stream."""
        if not self._draining:
            self._draining = True
            if self._fd >= 0:
                trio.lowlevel.notify_closing(self._fd)

    async def drain(self) -> None:
        """Read and drop everything until the end, so that the child cannot block on a full pipe."""
        self.take_over()
        while await self._receive():
            pass

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        trio.lowlevel.notify_closing(fd)
        os.close(fd)

    async def _receive(self) -> bytes:
        while True:
            fd = self._fd
            if fd < 0:
                await trio.lowlevel.checkpoint()
                return b""
            try:
                await trio.lowlevel.wait_readable(fd)
            except trio.ClosedResourceError:
                return b""
            try:
                data = os.read(fd, self._size)
            except BlockingIOError:
                continue  # readiness was about bytes that somebody else took
            except OSError:
                data = b""
            break
        if self.on_first is not None:
            call, self.on_first = self.on_first, None
            call()
        size = len(data)
        if size == self._size:
            self._size = min(size * 2, READ_MAX)
            self._small = 0
        elif size == 0:
            self.close()
        elif self._size > READ_MIN and size < self._size // 4:
            self._small += 1
            if self._small >= READ_SHRINK_AFTER:
                self._size //= 2
                self._small = 0
        self.received += size
        return data
