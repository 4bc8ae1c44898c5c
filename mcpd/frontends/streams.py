"""The event streams of one Streamable HTTP session: exchanges that can be resumed, and the stream for
everything else.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

import trio

from mcpd.gateway import handover
from mcpd.protocol.exchange import EventLog, State
from mcpd.protocol.sse import encode_comment, encode_event

if TYPE_CHECKING:
    from mcpd.config.model import Limits
    from mcpd.frontends.exchange import Exchange
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Request, Stream

KEEP_ENDED: Final = 60.0
"""Seconds for which the log of an exchange that ended can be resumed: a client that lost its connection comes
back within its retry time, a sleeping laptop does not."""

KEPT_MAX: Final = 64 * 1024 * 1024
"""Bytes in the logs of ended exchanges of all sessions together: a message of the largest size, or half a
million small ones."""

COMMENT: Final = encode_comment(b"keep-alive")


class Resumable(Protocol):
    """An exchange as its session's streams know it."""

    log: EventLog | None
    state: State
    ended_at: float

    def resume(self, request: Request, stream: Stream, number: int) -> None:
        """The client came back after event `number`; the rest goes to this stream."""

    def gone(self, request: Request) -> None:
        """The connection that carries the answer is lost."""


class Bequest:
    """An exchange that ended in an earlier run of mcpd: only its log is left. Implements `Resumable`."""

    __slots__ = ("ended_at", "log", "state")

    def __init__(self, log: EventLog) -> None:
        self.log: EventLog | None = log
        self.state = State.ENDED
        self.ended_at = trio.current_time()

    def resume(self, request: Request, stream: Stream, number: int) -> None:
        """Everything that is left to say."""
        assert self.log is not None
        for id, message in self.log.after(number):
            stream.write(encode_event((message,), id=id))
        stream.end()

    def gone(self, request: Request) -> None:
        """Nothing waits for it."""


class Kept:
    """The logs of exchanges that ended, of all sessions: the oldest make room. The newest stays, however
    large.
    """

    def __init__(self, bytes_max: int = KEPT_MAX) -> None:
        self.size = 0
        self._bytes_max = bytes_max
        self._owners: dict[EventLog, Streams] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, log: EventLog, owner: Streams) -> None:
        """The exchange that wrote `log` ended."""
        self._owners[log] = owner
        self.size += log.size
        while self.size > self._bytes_max and len(self._owners) > 1:
            oldest, streams = next(iter(self._owners.items()))
            streams.drop(oldest.stream)

    def discard(self, log: EventLog) -> None:
        """The log is no longer kept."""
        if self._owners.pop(log, None) is not None:
            self.size -= log.size


class Streams:
    """Numbers, logs and the open GET stream of a session.

    Numbers begin at the time of day, so that an event id of an earlier run of mcpd, or from before the
    session left memory, is never taken for one of another stream.
    """

    __slots__ = ("_closed", "_kept", "_last", "exchanges", "limits", "listening", "log")

    def __init__(self, limits: Limits, kept: Kept) -> None:
        now = int(time.time() * 1000)
        self.limits = limits
        self.exchanges: dict[int, Resumable] = {}
        self.log = EventLog(0)
        """What the GET stream said; its stream number is 0."""
        self.log.first = now
        self.listening: GetStream | None = None
        self._kept = kept
        self._last = now
        self._closed = False

    def inherit(self, left: handover.Streams) -> None:
        """Go on where an earlier run of mcpd stopped."""
        self.log = EventLog.of(0, left.news.first, left.news.messages)
        self._last = max(self._last, left.last)
        for each in left.ended:
            log = EventLog.of(each.stream, each.first, each.messages)
            self.exchanges[each.stream] = Bequest(log)
            self._kept.add(log, self)

    def capture(self) -> handover.Streams | None:
        """What the next run needs to go on; None when nothing is kept."""
        ended = [
            handover.Log(log.stream, log.first, log.messages)
            for each in self.exchanges.values()
            if each.state is State.ENDED and (log := each.log) is not None
        ]
        if not ended and not len(self.log):
            return None
        return handover.Streams(self._last, handover.Log(0, self.log.first, self.log.messages), ended)

    def open(self, exchange: Exchange) -> EventLog:
        """A new stream for an exchange. The oldest ended ones make room."""
        self._last += 1
        spare = len(self.exchanges) - self.limits.streams_per_session + 1
        if spare > 0:
            ended = [number for number, other in self.exchanges.items() if other.state is State.ENDED]
            for number in ended[:spare]:
                self.drop(number)
        self.exchanges[self._last] = exchange
        return EventLog(self._last)

    def keep(self, log: EventLog, message: bytes) -> bytes:
        """Put a message into a log and return its event id; `limits.replay_*` hold for each stream."""
        return log.keep(message, events_max=self.limits.replay_events, bytes_max=self.limits.replay_bytes)

    def retire(self, log: EventLog) -> None:
        """The exchange ended: from now on its log is kept only while there is room."""
        if not self._closed and log.stream in self.exchanges:
            self._kept.add(log, self)

    def drop(self, number: int) -> None:
        """Forget an exchange; it cannot be resumed any more."""
        log = self.exchanges.pop(number).log
        if log is not None:
            self._kept.discard(log)

    def sweep(self) -> None:
        """Forget what ended long enough ago."""
        horizon = trio.current_time() - KEEP_ENDED
        old = [number for number, each in self.exchanges.items() if each.ended_at < horizon]
        for number in old:
            self.drop(number)

    def close(self) -> None:
        """The session is over: nothing is kept, and the GET stream ends."""
        self._closed = True
        if self.listening is not None:
            self.listening.close()
        for number in list(self.exchanges):
            self.drop(number)


class GetStream:
    """The stream a client opened by GET: news that belongs to no call. Implements `Outlet` and `Expiring`."""

    def __init__(
        self, streams: Streams, request: Request, stream: Stream, keepalive: float, deadlines: Deadlines
    ) -> None:
        self._deadlines = deadlines
        self._streams = streams
        self._request = request
        self._stream = stream
        self._keepalive = keepalive
        self.deadline = trio.current_time() + keepalive
        deadlines.add(self)

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Log a message and write it; False when the client is gone."""
        if self._stream.closed:
            return False  # not into the log either: whoever sends keeps it, and a message is delivered once
        message = b"".join(parts)
        id = self._streams.keep(self._streams.log, message)
        return self._stream.write(encode_event((message,), id=id))

    def replay(self, number: int) -> None:
        """Send what the log has after this event."""
        for id, message in self._streams.log.after(number):
            self._stream.write(encode_event((message,), id=id))

    def expire(self) -> None:
        """Time for a sign of life."""
        if self._stream.write(COMMENT):
            self.deadline = trio.current_time() + self._keepalive
            self._deadlines.add(self)

    def end(self) -> None:
        """Nothing more will be sent."""
        self._deadlines.discard(self)
        self._stream.end()

    def close(self) -> None:
        """End the stream and, from another task, the handler that watches it."""
        self.end()
        self._request.cancel()


class EventOutlet:
    """An event stream without numbers, which is not resumed: HTTP+SSE, batches. Implements `Outlet` and
    `Expiring`.
    """

    def __init__(self, stream: Stream, keepalive: float, deadlines: Deadlines) -> None:
        self._stream = stream
        self._keepalive = keepalive
        self._deadlines = deadlines
        self.deadline = trio.current_time() + keepalive
        deadlines.add(self)

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Write one message; False when the client is gone or too slow."""
        return self._stream.write(encode_event(parts))

    async def answer(self, parts: tuple[Buffer, ...]) -> None:
        """Write a response. Who reads too slowly loses the stream, so there is nothing to wait for."""
        self.send(parts)

    @property
    def queued(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._stream.queued

    def expire(self) -> None:
        """Time for a sign of life."""
        if self._stream.write(COMMENT):
            self.deadline = trio.current_time() + self._keepalive
            self._deadlines.add(self)

    def end(self) -> None:
        """Nothing more will be sent."""
        self._deadlines.discard(self)
        self._stream.end()
