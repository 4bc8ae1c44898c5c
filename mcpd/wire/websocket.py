"""A WebSocket on either side: text messages in and out over trio-websocket, signs of life, and an end that is bounded.

Theory of operation. `run` is the life of a connection: the handshake, then the library's reader and our writer until
something ends it, then the leave-taking. Others wait in `receive`, and `write` what the writer sends, without waiting.
Rules:

1. The end has one reason, the first. Who waits for the connection gets it as an error.
2. The library sends no close frame for text that is not UTF-8 or for broken frames, and cannot for what it never sees;
   so the close frame is ours wherever the peer has not taken leave first.
3. The peer gets `CLOSING` to take leave; then the connection is closed.
4. The peer is pinged every `Terms.every` seconds. When nothing has come from it for `Terms.patience` it is gone, unless
   it is we who do not listen, or it takes what it is sent, however slowly.

There is no permessage-deflate: each connection would hold a third of a megabyte for it.

Source: RFC 6455 5 "Data Framing", 7 "Closing the Connection".
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import h11
import trio

from mcpd.errors import ConnectionBroken, LimitExceeded, TransportError
from mcpd.wire.websocket_frames import TOO_BIG, Frames
from mcpd.wire.websocket_handshake import AnswerReader
from mcpd.wire.websocket_stream import Asked, ClientLine, ClientStream, ServerLine, ServerStream

if TYPE_CHECKING:
    from trio_websocket import CloseReason, WebSocketConnection

    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_link import Link
    from mcpd.wire.http_request import Request
    from mcpd.wire.http_url import Url
    from mcpd.wire.websocket_handshake import Upgrade
    from mcpd.wire.websocket_stream import GuardedStream

CLOSING: Final = 2.0
"""Seconds for the peer to take leave after we have. What it sends meanwhile is read and dropped: to close with unread
bytes resets, and the close frame is lost."""

WRITE_QUEUE_MAX: Final = 64 << 20
"""Bytes queued for one peer. Owners wait with `room` long before."""

HEAD_MAX: Final = 64 * 1024
"""Bytes of the head of a server's answer, as for other answers (`ClientLimits.head`)."""

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
RESTART: Final = 1012
"""Not in RFC 6455, but in IANA's registry of codes."""
BAD_TEXT: Final = 1007
ABNORMAL: Final = 1006
UNSAID: Final = frozenset({1005, ABNORMAL, 1015})
"""Codes that no close frame holds."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a peer is held to."""

    message_max: int
    """Bytes of one message from it."""
    setting: str
    """The name of that limit, for people."""
    every: float
    """Seconds between pings."""
    patience: float
    """Seconds without a sign of life after which it is gone."""
    deadlines: Deadlines
    succeeded: bool = False
    """Our server's sockets stay open when it ends: another one serves them then."""


class WebSocket:
    """One connection. Its owner runs `run` in a task. Implements `Expiring`."""

    def __init__(self, stream: GuardedStream, terms: Terms) -> None:
        self.queued = 0
        """Bytes of messages that the peer has not taken yet."""
        self.failure: TransportError | None = None
        """Why it ended."""
        self.deadline = math.inf
        self._stream = stream
        self._terms = terms
        self._connection: WebSocketConnection | None = None
        self._nursery: trio.Nursery | None = None
        self._queue: deque[bytes] = deque()
        self._writer = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._ending = trio.Event()
        self._ended = trio.Event()
        self._code = ABNORMAL
        self._gone = False
        self._mark = (-1, -1)
        self._silence = 0.0
        self._pinging = False

    # ---- its life ------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open it, say so to `task_status`, and return when it has ended.

        Raises: HandshakeRefused, ConnectionBroken, LimitExceeded: it did not open. Cancellation: takes leave without
        waiting for the peer.
        """
        opened = False
        try:
            try:
                # The nursery is for the library's reader, the writer and a ping; none of them outlives the connection.
                async with trio.open_nursery() as self._nursery:
                    opened = await self._open(self._nursery)
                    if opened:
                        task_status.started()
                        await self._ending.wait()
                    self._nursery.cancel_scope.cancel()
            except* _faults() as group:
                self._fault(group)
            finally:
                self._terms.deadlines.discard(self)
            if opened:
                await self._take_leave()
        except BaseException:
            self._end(ConnectionBroken("ended by mcpd"), GOING_AWAY)
            if opened and (frame := self._close_frame()) is not None:
                self._stream.line.say(frame)
            raise
        finally:
            self._ended.set()
            self._stream.line.close()
        if not opened:
            assert self.failure is not None
            raise self.failure

    async def _open(self, nursery: trio.Nursery) -> bool:
        stream = self._stream
        # The library waits for ever for a handshake that does not come.
        with trio.CancelScope() as stream.opening:
            self._connection = await stream.shake(nursery, self._terms.message_max)
        if self._connection is None:
            self._end(stream.broken or ConnectionBroken("the connection ended before the handshake was done"))
            return False
        nursery.start_soon(self._write, self._connection)
        self.deadline = trio.current_time() + self._terms.every
        self._terms.deadlines.add(self)
        return True

    async def _take_leave(self) -> None:
        """Send the close frame, if none was sent, and wait until the peer closes."""
        line = self._stream.line
        if self._gone:
            line.abort(str(self.failure))
        frame = self._close_frame()
        if frame is None:
            return
        with trio.move_on_after(CLOSING):
            try:
                await line.send(frame)
                line.half_close()
                while await line.receive():
                    pass
            except TransportError:
                return

    def _close_frame(self) -> bytes | None:
        """Our part of the leave-taking; None when it was taken, or there is nobody to take it from."""
        stream = self._stream
        if self._code in UNSAID or stream.close_sent or stream.line.torn:
            return None
        return _encode_close(self._code, str(self.failure), client=stream.client)

    def _end(self, failure: TransportError, code: int = ABNORMAL) -> None:
        """It is over, for the first reason that is given. `code` goes into the close frame."""
        if self.failure is None:
            self.failure = failure
            self._code = code
            self._ending.set()
            self._room.unpark_all()

    def _noticed(self, told: CloseReason | None) -> None:
        """The library says that it is over: find out why."""
        stream = self._stream
        refused = stream.refused
        if refused is not None:
            kind = LimitExceeded if refused.code == TOO_BIG else ConnectionBroken
            self._end(kind(refused.reason), refused.code)
        elif stream.broken is not None:
            self._end(stream.broken)
        elif told is None or told.code == ABNORMAL:
            self._end(ConnectionBroken("the connection ended without a close frame"))
        elif stream.frames.closing:
            words = f" {told.reason!r}" if told.reason else ""
            self._end(ConnectionBroken(f"the peer closed it with code {told.code}{words}"), told.code)
        elif told.code == BAD_TEXT:
            self._end(ConnectionBroken("text that is not UTF-8"), BAD_TEXT)
        else:
            self._end(ConnectionBroken(f"broken frames: {told.reason}"), told.code)

    def _fault(self, group: BaseExceptionGroup[Exception]) -> None:
        """Something of the library's failed: what was sent on a connection that has ended, or a thing it cannot do."""
        from trio_websocket import ConnectionClosed

        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, ConnectionClosed):
            self._noticed(error.reason)
        else:
            self._end(ConnectionBroken(f"this is no WebSocket as in RFC 6455: {error}"), PROTOCOL_ERROR)

    # ---- messages ------------------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """The next message. Raises: ConnectionBroken, or LimitExceeded for a message that is too large: it is over."""
        from trio_websocket import ConnectionClosed

        assert self._connection is not None, "it is used when it is open"
        if self.failure is None:
            try:
                message = await self._connection.get_message()
                return message.encode() if isinstance(message, str) else message
            except ConnectionClosed as closed:
                if closed.reason is None:
                    await self._ending.wait()  # the reader was cancelled, or failed: whoever did that knows why
                self._noticed(closed.reason)
        raise self._failed()

    def write(self, data: bytes) -> None:
        """Queue a message, which is UTF-8 or becomes it.

        Raises: ConnectionBroken; LimitExceeded when WRITE_QUEUE_MAX would be passed (then nothing of it is sent).
        """
        if self.failure is not None:
            raise self._failed()
        if self.queued and self.queued + len(data) > WRITE_QUEUE_MAX:
            raise LimitExceeded(f"the peer does not read: {self.queued} bytes wait for it already")
        self._queue.append(data)
        self.queued += len(data)
        self._writer.unpark_all()

    async def room(self, limit: int) -> None:
        """Wait until at most `limit` bytes are queued. Raises: ConnectionBroken."""
        while self.failure is None and self.queued > limit:
            await self._room.park()
        if self.failure is not None:
            raise self._failed()

    def end(self, code: int, reason: str) -> None:
        """Take leave with this code, unless it is over already; `run` returns when that is done."""
        self._end(ConnectionBroken(reason), code)

    def leave(self) -> None:
        """Our server stops: the peer may connect again where another one goes on with its sockets."""
        terms = self._terms
        self.end(*(RESTART, "mcpd is being restarted") if terms.succeeded else (GOING_AWAY, "mcpd is stopping"))

    async def aclose(self) -> None:
        """Take leave and wait for it; bounded, and shielded because it runs when everything is being ended."""
        self.end(NORMAL, "ended by mcpd")
        with trio.move_on_after(2 * CLOSING, shield=True):
            await self._ended.wait()

    async def _write(self, connection: WebSocketConnection) -> None:
        while True:
            while not self._queue:
                await self._writer.park()
            data = self._queue.popleft()
            # One byte of a backend's that is not UTF-8 would cost the peer its connection.
            await connection.send_message(str(data, "utf-8", "replace"))
            self.queued -= len(data)
            self._room.unpark_all()

    def _failed(self) -> TransportError:
        """The reason of the end, for one of those who wait: an error collects the frames of everybody who raises it."""
        assert self.failure is not None
        return type(self.failure)(str(self.failure))

    # ---- signs of life -------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Time for a ping, and for a look at what came of the last."""
        if self.failure is not None:
            return
        stream, line = self._stream, self._stream.line
        mark = (stream.received, line.progress)
        if mark != self._mark or not (stream.reading or line.waiting):
            self._mark = mark
            self._silence = 0.0
        else:
            self._silence += self._terms.every
        if self._silence >= self._terms.patience:
            self._gone = True
            self._end(ConnectionBroken(f"no sign of life for {self._silence:g} s, though it was pinged"))
            return
        if not self._pinging:
            assert self._nursery is not None
            self._pinging = True
            self._nursery.start_soon(self._ping)
        self.deadline = trio.current_time() + self._terms.every
        self._terms.deadlines.add(self)

    async def _ping(self) -> None:
        assert self._connection is not None
        await self._connection.ping()
        self._pinging = False


def accept(request: Request, upgrade: Upgrade, terms: Terms) -> WebSocket:
    """The server's side: `request` becomes a WebSocket, which lasts no longer than its handler."""
    connection = request.hand_over()
    stream = ServerStream(ServerLine(connection), Frames(terms.message_max, terms.setting), upgrade)
    socket = WebSocket(stream, terms)

    connection.lasting = socket
    if connection.leaving:
        socket.leave()
    return socket


def request_upgrade(link: Link, url: Url, headers: dict[str, str], subprotocol: str, terms: Terms) -> WebSocket:
    """The client's side, on a connection to the origin of `url`, which belongs to the WebSocket from now on."""
    asked = Asked(
        url, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()], subprotocol
    )
    frames = Frames(terms.message_max, terms.setting)
    return WebSocket(ClientStream(ClientLine(link), frames, asked, AnswerReader(HEAD_MAX)), terms)


def _encode_close(code: int, reason: str, *, client: bool) -> bytes:
    # In here, as in the other functions: the library takes 2.3 MiB and 30 ms, which only those who use it should pay.
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import CloseConnection

    side = ConnectionType.CLIENT if client else ConnectionType.SERVER
    return Connection(side).send(CloseConnection(code=code, reason=reason))


def _faults() -> tuple[type[Exception], ...]:
    """What the library raises where a connection ends in a way it does not know."""
    from trio_websocket import ConnectionClosed, HandshakeError
    from wsproto.utilities import ProtocolError

    return ConnectionClosed, HandshakeError, ProtocolError, h11.ProtocolError
