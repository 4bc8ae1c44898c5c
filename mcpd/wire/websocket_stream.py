"""What trio-websocket reads from and writes to: a line to the peer, and between the two a stream that keeps the bounds.

Theory of operation. The line is a connection of our HTTP server that was handed over, or one of our HTTP client's; it
stays its owner's, and the library can end neither. The stream shows the library a handshake that cannot fail
(`websocket_handshake`), and then what comes in, counted (`websocket_frames`). Rules:

1. A refusal of ours looks to the library like the end of the connection; `refused` and `broken` say what it was.
2. Pieces of one message are gathered before the library sees them: it keeps each as a string of its own, and a peer can
   send its bytes one by one.
3. What was cut off is followed by nothing.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

import trio

from mcpd.errors import ConnectionBroken, TransportError
from mcpd.wire.http_reader import RECEIVE_SIZE
from mcpd.wire.websocket_frames import FrameRefused

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

    from mcpd.wire.http_connection import Connection
    from mcpd.wire.http_link import Link
    from mcpd.wire.http_url import Url
    from mcpd.wire.websocket_frames import Frames
    from mcpd.wire.websocket_handshake import AnswerReader, Upgrade

GATHER: Final = 16 * 1024
"""Bytes of an unfinished frame that are gathered before the library sees them: a message of 64 MiB is 4096 then."""

PIECE: Final = 64 * 1024
"""Bytes sent to a server at once, so that a slow one is seen to take them."""

QUEUE: Final = 0
"""Messages that the library keeps for us: what nobody takes is not read."""

CLOSE: Final = b"\x88"
"""How a close frame begins."""


class Line(Protocol):
    """The connection under a WebSocket."""

    @property
    def progress(self) -> int:
        """Grows when the peer takes what waited for it."""

    @property
    def torn(self) -> bool:
        """A frame was cut off, or is being sent: nothing can be said after it."""

    @property
    def waiting(self) -> bool:
        """Whether the peer does not take what it is sent right now."""

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end. Raises: ConnectionBroken."""

    async def send(self, data: bytes) -> None:
        """Send all of it, and return when it has left. Raises: ConnectionBroken."""

    def say(self, data: bytes) -> None:
        """Send it without waiting, if that is possible, after what is on its way. Never raises."""

    def half_close(self) -> None:
        """Nothing more will be said, which the peer may learn now. Never raises."""

    def abort(self, reason: str) -> None:
        """Break it off, whatever is on its way."""

    def close(self) -> None:
        """Close it, if that is not its owner's to do."""


class ServerLine:
    """A connection that our HTTP server has handed over. Its close is the server's."""

    torn = False
    """What was begun is the server's to finish."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def progress(self) -> int:
        return self._connection.out.progress

    @property
    def waiting(self) -> bool:
        return self._connection.out.queued > 0

    async def receive(self) -> bytes:
        connection = self._connection
        if connection.pending:
            await trio.lowlevel.checkpoint()
            data, connection.pending = connection.pending, b""
            return data
        while True:
            try:
                await trio.lowlevel.wait_readable(connection.sock)
                return connection.sock.recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue
            except (OSError, ValueError, trio.ClosedResourceError) as error:
                raise ConnectionBroken(f"the connection broke: {error}") from None

    async def send(self, data: bytes) -> None:
        out = self._connection.out
        out.send(data)
        while out.queued:
            await out.wait_drained()
        if out.broken:
            raise ConnectionBroken("the connection broke while something was sent")

    def say(self, data: bytes) -> None:
        self._connection.out.send(data)

    def half_close(self) -> None:
        try:
            self._connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is closed already

    def abort(self, reason: str) -> None:
        self._connection.drop(reason)

    def close(self) -> None:
        """The server does when the handler ends."""


class ClientLine:
    """A connection that our HTTP client has opened for this alone."""

    def __init__(self, link: Link) -> None:
        self.progress = 0
        self.torn = False
        self._link = link

    @property
    def waiting(self) -> bool:
        return self.torn

    async def receive(self) -> bytes:
        return await self._link.receive(RECEIVE_SIZE)

    async def send(self, data: bytes) -> None:
        self.torn = True
        view = memoryview(data)
        for at in range(0, len(data), PIECE):
            piece = view[at : at + PIECE]
            await self._link.send((piece,), len(piece))
            if at:
                self.progress += 1
        self.torn = False

    def say(self, data: bytes) -> None:
        try:
            self.torn = self._link.send_nowait(data) < len(data)
        except ConnectionBroken:
            self.torn = True

    def half_close(self) -> None:
        """It is the server that closes first (RFC 6455 7.1.1)."""

    def abort(self, reason: str) -> None:
        self._link.close()

    def close(self) -> None:
        self._link.close()


class GuardedStream(trio.abc.Stream):
    """What both sides have in common once the handshake is done."""

    client: bool

    def __init__(self, line: Line, frames: Frames) -> None:
        self.line = line
        self.frames = frames
        self.received = 0
        """Bytes that came from the peer."""
        self.reading = False
        """The library waits for the peer."""
        self.close_sent = False
        """The library has sent a close frame."""
        self.refused: FrameRefused | None = None
        self.broken: TransportError | None = None
        self.opening: trio.CancelScope | None = None
        """Around the handshake: ended when nothing more will come."""
        self._left = b""

    async def shake(self, nursery: trio.Nursery, message_max: int) -> WebSocketConnection:
        """Have the library do the handshake; its reader runs in the nursery. May wait for ever."""
        raise NotImplementedError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes for the library; b"" at the end."""
        self.reading = True
        try:
            data = await self._open() or await self._gather()
        except FrameRefused as refused:
            self.refused = refused
            data = b""
        except TransportError as error:
            self.broken = error
            data = b""
        finally:
            self.reading = False
        if not data:
            self._give_up()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send what the library says."""
        whole = bytes(data)
        if whole.startswith(CLOSE):
            self.close_sent = True
        try:
            await self.line.send(whole)
        except TransportError as error:
            self.broken = self.broken or error
            self._give_up()  # the library reads nothing more, and whoever shakes hands would not hear of it
            raise trio.BrokenResourceError from None

    async def wait_send_all_might_not_block(self) -> None:
        """Unused by the library, and asked for by trio's interface."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """The library is done; the line has another owner."""
        self._give_up()
        await trio.lowlevel.checkpoint()

    def _give_up(self) -> None:
        if self.opening is not None:
            self.opening.cancel()

    async def _open(self) -> bytes:
        """What the library is to see of the peer's handshake; b"" when it has seen it. Raises: TransportError."""
        raise NotImplementedError

    async def _gather(self) -> bytes:
        frames = self.frames
        held: list[bytes] = []
        size = 0
        while True:
            data, self._left = self._left or await self.line.receive(), b""
            begun = frames.begun
            self.received += len(data)
            size += len(data)
            held.append(data)
            frames.feed(data)
            if not data or frames.begun != begun or not frames.inside or size >= GATHER:
                return held[0] if len(held) == 1 else b"".join(held)


class ServerStream(GuardedStream):
    """The server's side."""

    client = False

    def __init__(self, line: Line, frames: Frames, upgrade: Upgrade) -> None:
        super().__init__(line, frames)
        self._subprotocol = upgrade.subprotocol
        self._request = upgrade.replay()
        self._accepted = trio.Event()

    async def shake(self, nursery: trio.Nursery, message_max: int) -> WebSocketConnection:
        # Inside, as in `websocket`: the library takes 2.3 MiB and 30 ms, which only those who use it should pay.
        from trio_websocket import wrap_server_stream

        request = await wrap_server_stream(nursery, self, QUEUE, message_max, receive_buffer_size=None)
        return await request.accept(subprotocol=self._subprotocol)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._accepted.set()
        await super().send_all(data)

    async def _open(self) -> bytes:
        request, self._request = self._request, b""
        if not request:
            # The library loses what it reads before it has accepted.
            await self._accepted.wait()
        return request


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for."""

    url: Url
    headers: list[tuple[bytes, bytes]]
    subprotocol: str


class ClientStream(GuardedStream):
    """The client's side."""

    client = True

    def __init__(self, line: Line, frames: Frames, asked: Asked, answer: AnswerReader) -> None:
        super().__init__(line, frames)
        self._asked = asked
        self._answer: AnswerReader | None = answer

    async def shake(self, nursery: trio.Nursery, message_max: int) -> WebSocketConnection:
        from trio_websocket import wrap_client_stream

        url = self._asked.url
        return await wrap_client_stream(
            nursery,
            cast("trio.SocketStream", self),  # the library says so, and asks for nothing but a stream
            url.authority.decode(),
            url.target.decode(),
            subprotocols=[self._asked.subprotocol],
            extra_headers=self._asked.headers,
            message_queue_size=QUEUE,
            max_message_size=message_max,
            receive_buffer_size=None,
        )

    async def _open(self) -> bytes:
        answer = self._answer
        if answer is None:
            return b""
        while (head := answer.feed(await self.line.receive())) is None:
            pass
        self._left, self._answer = answer.rest, None
        return head
