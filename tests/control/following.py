"""A follower of a stream on the control socket, byte by byte."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import h11
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LIMIT = 30.0
"""Seconds for whatever is waited for: it excludes what never comes."""


def parsed(block: bytes) -> dict[str, Any]:
    """A block of an event stream; `data` is JSON."""
    found: dict[str, Any] = {}
    for line in block.decode().split("\n"):
        name, _, value = line.partition(": ")
        if name:
            found[name] = json.loads(value) if name == "data" else value
    return found


class Following:
    """An open stream."""

    def __init__(self, stream: trio.SocketStream, connection: h11.Connection) -> None:
        self._stream = stream
        self._connection = connection
        self._pending = b""
        self._ended = False
        self.status = 0
        self.headers: dict[str, str] = {}

    async def head(self) -> None:
        """Read the head of the answer."""
        event = await self._next()
        self.status = event.status_code
        self.headers = {name.decode().lower(): value.decode() for name, value in event.headers}

    async def block(self) -> dict[str, Any]:
        """The next block, an event or not."""
        with trio.fail_after(LIMIT):
            while b"\n\n" not in self._pending:
                event = await self._next()
                assert isinstance(event, h11.Data), event
                self._pending += bytes(event.data)
        block, _, self._pending = self._pending.partition(b"\n\n")
        return parsed(block)

    async def event(self) -> dict[str, Any]:
        """The next event."""
        while "data" not in (block := await self.block()):
            pass
        return block

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The content of the next events."""
        return [(await self.event())["data"] for _ in range(count)]

    async def ends(self) -> bool:
        """Whether the stream ends properly, with nothing more in it."""
        with trio.fail_after(LIMIT):
            return isinstance(await self._next(), h11.EndOfMessage) and not self._pending

    async def body(self) -> bytes:
        """All of an answer that is none."""
        data = b""
        while isinstance(event := await self._next(), h11.Data):
            data += bytes(event.data)
        return data

    async def _next(self) -> Any:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(await self._stream.receive_some(65536))
        return event


@asynccontextmanager
async def following(path: Path, target: str, *, method: str = "GET", **headers: str) -> AsyncIterator[Following]:
    """Ask for a stream. `headers` have `_` for `-`."""
    stream = await trio.open_unix_socket(str(path))
    connection = h11.Connection(h11.CLIENT)
    fields = [("Host", "localhost"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    async with stream:
        data = connection.send(h11.Request(method=method, target=target, headers=fields))
        await stream.send_all((data or b"") + (connection.send(h11.EndOfMessage()) or b""))
        found = Following(stream, connection)
        await found.head()
        yield found
