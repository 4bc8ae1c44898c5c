"""One client on stdin and stdout: how desktop clients start a server as their child.

Theory of operation. Messages are read and worked on as they come. A client that does not read is not read
from either: responses wait for room, notifications are dropped, and what is in memory stays bounded. When
stdin ends, the calls in flight get a moment to be answered (`echo … | mcpd --transport stdio` is answered),
and then mcpd ends. A call that waits for input, which cannot come any more, gets none.

Source: "stdio" of every version: one message a line; nothing else on stdout; the end of stdin ends the
server.
"""

from __future__ import annotations

import logging
import os
import select
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import trio

from mcpd.errors import INVALID_REQUEST, ConfigError, ConnectionBroken, LimitExceeded, ProtocolError
from mcpd.frontends.conversation import Conversation
from mcpd.frontends.http import LOCAL
from mcpd.protocol import jsonrpc
from mcpd.protocol.lines import LineDecoder, encode_line
from mcpd.supervisor.pipes import WRITE_QUEUE_MAX, PipeReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcpd.config.model import Config
    from mcpd.gateway.gateway import Gateway
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.supervisor.pipes import PipeWriter

log = logging.getLogger("mcpd.frontends")

EOF_GRACE: Final = 15.0
"""Seconds for the calls in flight when stdin ends, and not longer than they take: a server may have to start first. A
client that does not want to wait sends SIGTERM after two."""

READ_SIZE: Final = 64 * 1024


class Reader(Protocol):
    """Where the client's bytes come from."""

    async def receive_some(self) -> bytes:
        """The next bytes; b"" at the end."""


class FileReader:
    """Standard input that cannot be waited for, because it is a file or /dev/null. Owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def receive_some(self) -> bytes:
        """The next bytes; b"" at the end."""
        return await trio.to_thread.run_sync(os.read, self._fd, READ_SIZE)


class Outlet:
    """The client's end of stdout."""

    def __init__(self, writer: PipeWriter, queue_max: int) -> None:
        self._writer = writer
        self._queue_max = queue_max

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Write one message; False when the client is gone or reads too slowly."""
        if self._writer.queued > self._queue_max:
            return False
        return self._write(encode_line(parts))

    async def answer(self, parts: tuple[Buffer, ...]) -> None:
        """Write a response when there is room for it."""
        line = encode_line(parts)
        if self._writer.queued:
            try:
                await self._writer.room(max(0, min(self._queue_max, WRITE_QUEUE_MAX - len(line))))
            except ConnectionBroken:
                return
        self._write(line)

    @property
    def queued(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._writer.queued

    async def room(self) -> None:
        """Wait until the client has read enough of what it was sent. Raises: ConnectionBroken."""
        if self._writer.closed or self._writer.queued > self._queue_max:
            await self._writer.room(self._queue_max)

    async def flushed(self) -> None:
        """Wait until the client has read everything, or is gone."""
        try:
            await self._writer.room(0)
        except ConnectionBroken:
            return

    def _write(self, line: bytes) -> bool:
        try:
            self._writer.write(line)
        except (ConnectionBroken, LimitExceeded):
            return False
        return True


async def serve_stdio(
    gateway: Gateway, config: Config, reader: Reader, writer: PipeWriter, left: trio.Event | None = None
) -> None:
    """Serve the client until it closes stdin, which sets `left`, or no longer takes what it is sent."""
    session = gateway.sessions.connect(LOCAL)
    outlet = Outlet(writer, config.limits.stream_queue)
    try:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                conversation = Conversation(gateway, session, outlet, nursery, config.limits.calls_per_session)
                session.listen(outlet)
                await _read(reader, outlet, conversation, config.limits.message)
                log.info("event=client_left")
                if left is not None:
                    left.set()
                conversation.leave()
                scope.deadline = trio.current_time() + EOF_GRACE
            await outlet.flushed()
    finally:
        gateway.sessions.disconnect(session)


async def _read(reader: Reader, outlet: Outlet, conversation: Conversation, line_max: int) -> None:
    decoder = LineDecoder(line_max)
    try:
        while data := await reader.receive_some():
            decoder.receive_data(data)
            while True:
                try:
                    line = decoder.next_line()
                    if line is None:
                        break
                    await conversation.take(conversation.read(line))
                except LimitExceeded as error:
                    outlet.send(
                        jsonrpc.error(None, ProtocolError(INVALID_REQUEST, f"{error} (limits.message)").encode())
                    )
                except ProtocolError as error:
                    outlet.send(jsonrpc.error(None, error.encode()))
            await outlet.room()
    except ConnectionBroken:
        return


@contextmanager
def standard_streams() -> Iterator[tuple[Reader, int]]:
    """What the client's bytes are read from, and the descriptor to write to, which the caller closes.

    Meanwhile stdin is empty and stdout is stderr for everybody else: a stray print must not end up among the
    messages. At the end the descriptors block again, for they may be a terminal that others use.

    Raises: ConfigError, when one of them is closed.
    """
    try:
        stdin, stdout = os.dup(0), os.dup(1)
    except OSError as error:
        raise ConfigError(f"cannot serve on stdin and stdout: {error.strerror}") from None
    blocking = os.get_blocking(stdin), os.get_blocking(stdout)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    try:
        yield PipeReader(os.dup(stdin)) if _can_wait(stdin) else FileReader(stdin), os.dup(stdout)
    finally:
        for fd, was in zip((stdin, stdout), blocking, strict=True):
            os.set_blocking(fd, was)
            os.close(fd)


def _can_wait(fd: int) -> bool:
    with select.epoll() as epoll:
        try:
            epoll.register(fd)
        except PermissionError:
            return False
    return True
