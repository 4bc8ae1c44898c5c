"""What the tests of this folder share: a server on a loopback port, and a client that speaks in bytes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import h11
import trio

from mcpd.wire.deadlines import Deadlines
from mcpd.wire.http_server import Handler, HttpLimits, HttpServer, serve_http
from mcpd.wire.listeners import open_listeners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TEXT = b"Content-Type: text/plain\r\n"


class Serving:
    """A running server and its address."""

    def __init__(self, server: HttpServer, port: int, nursery: trio.Nursery, deadlines: Deadlines) -> None:
        self.server = server
        self.port = port
        self.nursery = nursery
        self.deadlines = deadlines
        self.over = trio.Event()

    async def ended(self) -> None:
        """Returns when `serve_http` has."""
        with trio.fail_after(20):
            await self.over.wait()

    async def connect(self) -> trio.SocketStream:
        """A client's connection."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def serving(handler: Handler, limits: HttpLimits | None = None) -> AsyncIterator[Serving]:
    """A server for the duration of the block."""
    listeners = await open_listeners("127.0.0.1", 0)
    deadlines = Deadlines()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(deadlines.run)

            async def serve(task_status: trio.TaskStatus[HttpServer]) -> None:
                await serve_http(
                    listeners,
                    handler,
                    limits=limits or HttpLimits(),
                    deadlines=deadlines,
                    task_status=task_status,
                )
                at.over.set()

            server = await nursery.start(serve)
            at = Serving(server, listeners[0].getsockname()[1], nursery, deadlines)
            yield at
            nursery.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.close()


class Client:
    """Reads answers with h11 from a connection on which the test writes bytes by itself."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.left = b""

    async def send(self, data: bytes) -> None:
        """Exactly these bytes."""
        await self.stream.send_all(data)

    async def answer(self, method: bytes = b"GET") -> tuple[int, dict[bytes, bytes], bytes]:
        """The next final answer: status, headers, body."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(self.left) if self.left else None
        response = None
        body = b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await self.receive())
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.left = parser.trailing_data[0]
                assert response is not None
                return response.status_code, dict(response.headers), body

    async def receive(self) -> bytes:
        """Some bytes; b"" at the end, also when it came as a reset."""
        try:
            return bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError:
            return b""

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        parts = [self.left]
        while data := await self.receive():
            parts.append(data)
        return b"".join(parts)


def post(body: bytes, *more: bytes, target: bytes = b"/mcp") -> bytes:
    """A POST request with Content-Length."""
    lines = [b"POST %b HTTP/1.1" % target, b"Host: localhost", b"Content-Length: %d" % len(body), *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
