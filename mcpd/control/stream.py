"""An event stream to an operator who follows something: as fast as they read, and to an orderly end.

Rules.
1. Nothing waits for who follows. What is sent is taken from where it is kept when there is room for it; whoever reads
   too slowly misses some of it, which the keeper's gap says.
2. A stream has a cursor from its first moment on, also when there is nothing to send: what comes while its reader
   connects anew is not lost.
3. When mcpd stops or becomes another program the stream ends by its last chunk, after all there is to say.

Source: HTML Living Standard, "Server-sent events": a block with nothing but an id sets it, and is no event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.control.ask import STREAMED, Streamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from mcpd.gateway.gateway import Gateway
    from mcpd.wire.http_server import Request, Stream

HEAD: Final = b"Content-Type: text/event-stream\r\nCache-Control: no-store\r\n"

KEEPALIVE: Final = 15.0
"""Seconds of silence after which a comment says that somebody is there."""

TOGETHER: Final = 0.05
"""Seconds for which what happens is collected, so that a busy mcpd is not woken by every call of its clients."""

ROOM: Final = 64 * 1024
"""Bytes that may wait for a slow reader before it is left alone (rule 1)."""

ROOM_LOOK: Final = 0.1
"""Seconds between two looks whether it has read."""


class Source:
    """What is followed. `read` gives what came after a cursor, as events of name and content, and the cursor then;
    `wait` returns when there may be more."""

    def __init__(
        self,
        read: Callable[[str], tuple[list[tuple[str, dict[str, object]]], str]],
        wait: Callable[[str], Awaitable[None]],
    ) -> None:
        self.read = read
        self.wait = wait


async def follow(request: Request, gateway: Gateway, source: Source, cursor: str) -> Streamed:
    """Answer with a stream of what comes after the cursor, until the client leaves or mcpd parts from it."""
    stream = request.open_stream(200, HEAD)
    if request.head.method == b"HEAD":
        stream.end()
        return STREAMED
    request.endure()
    following = _Following(stream, gateway, source, cursor)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave_with, request, nursery.cancel_scope)
            await following.run()
            nursery.cancel_scope.cancel()
    finally:
        # Also when there is no time for an orderly end: that mcpd stops was said just now.
        following.send()
        stream.end()
    return STREAMED


async def _leave_with(request: Request, scope: trio.CancelScope) -> None:
    await request.wait_gone()
    scope.cancel()


class _Following:
    """One reader, and how far it has come."""

    def __init__(self, stream: Stream, gateway: Gateway, source: Source, cursor: str) -> None:
        self._stream = stream
        self._gateway = gateway
        self._source = source
        self._cursor = cursor
        self._head = b"id: %b\n\n" % cursor.encode()  # rule 2

    async def run(self) -> None:
        """Send what comes, until mcpd parts from its readers."""
        events, stream = self._gateway.events, self._stream
        partings = events.partings
        while not stream.closed:
            parting = events.partings != partings
            more = self.send()
            while stream.queued > ROOM:  # noqa: ASYNC110 - who reads tells nobody, and a slow one can wait
                await trio.sleep(ROOM_LOOK)
            if more:
                await trio.lowlevel.checkpoint()
            elif parting:
                return
            else:
                await self._wait()

    def send(self) -> bool:
        """Send a piece of what there is; whether there may be more."""
        events, after = self._source.read(self._cursor)
        more, self._cursor = after != self._cursor and bool(events), after
        data = self._head + _encoded(events, self._cursor, self._gateway.secrets.redact)
        self._head = b""
        if data:
            self._stream.write(data)
        return more

    async def _wait(self) -> None:
        with trio.move_on_after(KEEPALIVE) as silence:
            await self._source.wait(self._cursor)
            await trio.sleep(TOGETHER)
        if silence.cancelled_caught:
            # With what was left out by a filter behind it: it will not be asked for again.
            self._stream.write(b": still here\nid: %b\n\n" % self._cursor.encode())


def _encoded(events: Iterable[tuple[str, dict[str, object]]], cursor: str, redact: Callable[[str], str]) -> bytes:
    """Events on the wire, each with the cursor behind it."""
    parts = []
    for name, about in events:
        id = about.pop("cursor", cursor)
        data = msgspec.json.encode(cleared(about, redact))
        parts.append(b"id: %b\nevent: %b\ndata: %b\n\n" % (str(id).encode(), name.encode(), data))
    return b"".join(parts)


def cleared(value: object, redact: Callable[[str], str]) -> object:
    """The same without secrets, whatever it is made of."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: cleared(each, redact) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleared(each, redact) for each in value]
    return value
