"""Peers of a WebSocket that speak in bytes: what the library would never send can be sent, and nothing is answered by
itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import generate_accept_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def upgrade_head(*more: bytes, target: bytes = b"/ws", host: bytes = b"localhost") -> bytes:
    """A request for a WebSocket."""
    lines = [
        b"GET %b HTTP/1.1" % target,
        b"Host: " + host,
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + KEY,
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class RawPeer:
    """One end of a connection whose handshake is done, or is the test's to do."""

    def __init__(self, stream: trio.abc.Stream, side: ConnectionType) -> None:
        self.stream = stream
        self.frames = Connection(side)
        self.ended = False
        self._events: AsyncIterator[Event] | None = None

    async def read_head(self) -> bytes:
        """A request or an answer without body; what follows is kept for `next`."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = await self.receive()
            assert more, data
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        self.frames.receive_data(rest)
        return head

    async def receive(self) -> bytes:
        """Some bytes; b"" at the end, also when it came as a reset."""
        try:
            return bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError:
            return b""

    async def send(self, *events: Event | bytes) -> None:
        """Send events, and bytes as they are."""
        parts = [event if isinstance(event, bytes) else self.frames.send(event) for event in events]
        await self.stream.send_all(b"".join(parts))

    async def say(self, text: str) -> None:
        """Send one message."""
        await self.send(TextMessage(data=text))

    async def next(self, *, pings: bool = False) -> Event | None:
        """The next event, None at the end of the connection. Nothing is answered; pings are shown on demand."""
        if self._events is None:
            self._events = self._read()
        async for event in self._events:
            if pings or not isinstance(event, Ping):
                return event
        return None

    async def hear(self) -> str:
        """The next message."""
        text = ""
        while True:
            event = await self.next()
            assert isinstance(event, TextMessage), event
            text += event.data
            if event.message_finished:
                return text

    async def closed(self) -> tuple[int, str | None]:
        """The close frame that comes next, and then the end; it is the server that closes first."""
        event = await self.next()
        assert isinstance(event, CloseConnection), event
        if self.frames.state is ConnectionState.REMOTE_CLOSING:
            await self.send(event.response())
        if self.frames.client:
            assert await self.next() is None
        await self.stream.aclose()
        return int(event.code), event.reason

    async def _read(self) -> AsyncIterator[Event]:
        while True:
            for event in self.frames.events():
                yield event
            data = await self.receive()
            if not data:
                self.ended = True
                return
            if self.frames.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                self.frames.receive_data(data)


async def connect(port: int, *more: bytes, target: bytes = b"/ws", early: bytes = b"") -> RawPeer:
    """A client whose handshake was accepted; `early` goes out with its request."""
    peer = RawPeer(await trio.open_tcp_stream("127.0.0.1", port), ConnectionType.CLIENT)
    await peer.stream.send_all(upgrade_head(*more, target=target) + early)
    head = await peer.read_head()
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert generate_accept_token(KEY) in head
    return peer
