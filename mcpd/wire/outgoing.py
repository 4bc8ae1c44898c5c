"""What one socket still has to send: sent at once when nothing waits, queued and flushed by a task of its own
otherwise."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

PARTS_MAX = 64
"""Buffers of one sendmsg; Linux takes 1024 (IOV_MAX), but the kernel's buffer is full long before."""

JOIN_MAX = 32 * 1024
"""Up to this size parts are joined: copying is cheaper than handing the kernel a list."""


_NOTHING: deque[memoryview] = deque(maxlen=0)
"""The queue of every connection that has nothing queued, as most: a deque of its own would be most of their size."""


class Outgoing:
    """Owns writing to `sock`, a non-blocking socket. The nursery is the server's: a flusher outlives the
    handler that wrote.
    """

    __slots__ = ("_drained", "_flushing", "_nursery", "_queue", "_sock", "broken", "progress", "queued")

    def __init__(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        self._sock = sock
        self._nursery = nursery
        self._queue: deque[memoryview] = _NOTHING
        self._flushing = False
        self._drained: trio.Event | None = None
        self.queued = 0
        """Bytes that the kernel has not taken yet."""
        self.progress = 0
        """Counts flushes that moved something, so that a stall can be told from a slow reader."""
        self.broken = False

    def send(self, data: bytes) -> bool:
        """Send or queue `data`. False: the connection is broken and the data is gone."""
        if self.broken:
            return False
        if self.queued:
            self._queue.append(memoryview(data))
            self.queued += len(data)
            return True
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.break_off()
            return False
        if sent < len(data):
            self._wait_for([memoryview(data)[sent:]])
        return True

    def send_parts(self, parts: Sequence[bytes | bytearray | memoryview], size: int) -> bool:
        """Like `send`, without joining the parts when they are large. `size` is the sum of their bytes."""
        if size <= JOIN_MAX:
            return self.send(b"".join(parts))
        if self.broken:
            return False
        views = [memoryview(part).cast("B") for part in parts if part]
        if self.queued:
            self._queue.extend(views)
            self.queued += size
            return True
        try:
            sent = self._sock.sendmsg(views[:PARTS_MAX])
        except BlockingIOError:
            sent = 0
        except OSError:
            self.break_off()
            return False
        if sent < size:
            first = 0
            while sent >= len(views[first]):
                sent -= len(views[first])
                first += 1
            views[first] = views[first][sent:]
            self._wait_for(views[first:])
        return True

    def unsent(self) -> bytes:
        """What is queued."""
        return b"".join(self._queue)

    async def wait_drained(self) -> None:
        """Returns when nothing is queued any more, or the connection broke."""
        if not self.queued:
            return
        if self._drained is None:
            self._drained = trio.Event()
        await self._drained.wait()

    def break_off(self) -> None:
        """Drop what is queued; nothing is sent any more. The socket is the owner's to close."""
        self.broken = True
        self._queue = _NOTHING
        self.queued = 0
        self._wake()

    def _wake(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    def _wait_for(self, views: list[memoryview]) -> None:
        self._queue = deque(views)
        self.queued = sum(map(len, views))
        if not self._flushing:
            self._flushing = True
            self._nursery.start_soon(self._flush)

    async def _flush(self) -> None:
        try:
            while self.queued:
                try:
                    await trio.lowlevel.wait_writable(self._sock)
                    if not self.queued:
                        break
                    sent = self._sock.sendmsg(list(islice(self._queue, PARTS_MAX)))
                except trio.ClosedResourceError:
                    # notify_closing also turns waiting readers out; whoever really closes says so by
                    # break_off().
                    await trio.lowlevel.checkpoint()
                    continue
                except BlockingIOError:
                    continue
                except (OSError, ValueError):
                    self.break_off()
                    break
                self._consume(sent)
        finally:
            self._flushing = False
            self._wake()

    def _consume(self, sent: int) -> None:
        self.queued -= sent
        self.progress += 1
        if not self.queued:
            self._queue = _NOTHING
            return
        queue = self._queue
        while sent:
            first = queue[0]
            if sent < len(first):
                queue[0] = first[sent:]
                break
            sent -= len(first)
            queue.popleft()
