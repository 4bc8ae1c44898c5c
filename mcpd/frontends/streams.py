"""The event streams of one Streamable HTTP session: exchanges that can be resumed, and the stream for everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from mcpd.protocol.exchange import EventLog, State
from mcpd.protocol.sse import encode_comment, encode_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.config.model import Limits
    from mcpd.frontends.exchange import Exchange
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Request, Stream

KEEP_ENDED: Final = 60.0
"""Seconds for which the log of an exchange that ended can be resumed: a client that lost its connection comes back within its
retry time, a sleeping laptop does not."""

COMMENT: Final = encode_comment(b"keep-alive")


class Streams:
    """Numbers, logs and the open GET stream of a session."""

    __slots__ = ("_last", "exchanges", "limits", "listening", "log")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.exchanges: dict[int, Exchange] = {}
        self.log = EventLog(0)
        """What the GET stream said; its stream number is 0."""
        self.listening: GetStream | None = None
        self._last = 0

    def open(self, exchange: Exchange) -> EventLog:
        """A new stream for an exchange. The oldest ended ones make room."""
        self._last += 1
        if len(self.exchanges) >= self.limits.streams_per_session:
            self.drop(lambda exchange: exchange.state is State.ENDED, most=1)
        self.exchanges[self._last] = exchange
        return EventLog(self._last)

    def keep(self, log: EventLog, message: bytes) -> bytes:
        """Put a message into a log and return its event id; `limits.replay_*` hold for each stream."""
        return log.keep(message, events_max=self.limits.replay_events, bytes_max=self.limits.replay_bytes)

    def sweep(self) -> None:
        """Forget what ended long enough ago."""
        horizon = trio.current_time() - KEEP_ENDED
        self.drop(lambda exchange: exchange.state is State.ENDED and exchange.ended_at < horizon)

    def drop(self, which: Callable[[Exchange], bool], most: int = 1 << 30) -> None:
        """Forget exchanges that `which` is true of, the oldest first."""
        for number in [number for number, exchange in self.exchanges.items() if which(exchange)][:most]:
            del self.exchanges[number]


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

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def end(self) -> None:
        """Nothing more will be sent."""
        self._deadlines.discard(self)
        self._stream.end()

    def close(self) -> None:
        """End the stream and, from another task, the handler that watches it."""
        self.end()
        self._request.cancel()
