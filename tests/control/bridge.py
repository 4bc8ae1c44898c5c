"""A TCP port in front of a control socket, for programs that know no other kind."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def bridged(path: Path) -> AsyncIterator[str]:
    """The URL of a port on loopback whose connections are the socket's."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            async with stream, await trio.open_unix_socket(str(path)) as inner, trio.open_nursery() as nursery:
                nursery.start_soon(copy, stream, inner)
                await copy(inner, stream)
                nursery.cancel_scope.cancel()
        except (OSError, trio.BrokenResourceError, BaseExceptionGroup):
            pass  # one side is gone

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://localhost:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
    """Bytes from one to the other, until they end."""
    try:
        async for chunk in source:
            await target.send_all(chunk)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
