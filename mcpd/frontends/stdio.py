"""One client on stdin and stdout: how desktop clients start a server as their child.

Source: "stdio" of every version: one message a line; nothing else on stdout; the end of stdin ends the server.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from mcpd.errors import INVALID_REQUEST, ConnectionBroken, LimitExceeded, ProtocolError
from mcpd.frontends.conversation import Conversation
from mcpd.frontends.http import LOCAL
from mcpd.protocol import jsonrpc
from mcpd.protocol.lines import LineDecoder, encode_line

if TYPE_CHECKING:
    from mcpd.config.model import Config
    from mcpd.gateway.gateway import Gateway
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.supervisor.pipes import PipeReader, PipeWriter

log = logging.getLogger("mcpd.frontends")


class Outlet:
    """The client's end of stdout."""

    def __init__(self, writer: PipeWriter, queue_max: int) -> None:
        self._writer = writer
        self._queue_max = queue_max

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Write one message; False when the client is gone, or has not read for longer than the queue lasts."""
        if self._writer.queued > self._queue_max:
            return False
        try:
            self._writer.write(encode_line(parts))
        except ConnectionBroken:
            return False
        return True


async def serve_stdio(gateway: Gateway, config: Config, reader: PipeReader, writer: PipeWriter) -> None:
    """Serve the client until it closes stdin."""
    session = gateway.sessions.connect(LOCAL)
    outlet = Outlet(writer, config.limits.stream_queue + config.limits.message)
    decoder = LineDecoder(config.limits.message)
    try:
        async with trio.open_nursery() as nursery:
            conversation = Conversation(gateway, session, outlet.send, nursery, config.limits.calls_per_session)
            session.listen(outlet)
            while data := await _receive(reader):
                decoder.receive_data(data)
                while True:
                    try:
                        line = decoder.next_line()
                    except LimitExceeded as error:
                        refused = ProtocolError(INVALID_REQUEST, f"{error} (limits.message)")
                        outlet.send(jsonrpc.error(None, refused.encode()))
                        continue
                    if line is None:
                        break
                    await conversation.receive(line)
            log.info("event=client_left")
            nursery.cancel_scope.cancel()
    finally:
        gateway.sessions.disconnect(session)


async def _receive(reader: PipeReader) -> bytes:
    try:
        return await reader.receive_some()
    except ConnectionBroken:
        return b""
