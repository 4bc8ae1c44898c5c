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
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave_with, request, nursery.cancel_scope)
            await _send(stream, gateway, source, cursor)
            nursery.cancel_scope.cancel()
    finally:
        stream.end()
    return STREAMED


async def _leave_with(request: Request, scope: trio.CancelScope) -> None:
    await request.wait_gone()
    scope.cancel()


async def _send(stream: Stream, gateway: Gateway, source: Source, cursor: str) -> None:
    partings = gateway.events.partings
    head = b"id: %b\n\n" % cursor.encode()  # rule 2
    while True:
        parting = gateway.events.partings != partings
        events, after = source.read(cursor)
        more, cursor = after != cursor and bool(events), after
        data, head = head + _encoded(events, cursor, gateway.secrets.redact), b""
        if data and not stream.write(data):
            return
        while stream.queued > ROOM:  # noqa: ASYNC110 - who reads tells nobody, and a slow one can wait
            await trio.sleep(ROOM_LOOK)
        if more:
            await trio.lowlevel.checkpoint()
            continue
        if parting:
            return
        with trio.move_on_after(KEEPALIVE) as silence:
            await source.wait(cursor)
            await trio.sleep(TOGETHER)
        # With what was left out by a filter behind it: it will not be asked for again.
        if silence.cancelled_caught and not stream.write(b": still here\nid: %b\n\n" % cursor.encode()):
            return


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
