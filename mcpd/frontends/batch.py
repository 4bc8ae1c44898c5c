"""A batch of requests (2025-03-26 only): run side by side, everything about them on one event stream.

Source: "Batching" of 2025-03-26. Streams of batches are not resumable; the version that has batches rarely uses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from mcpd.frontends.conversation import RequestTask
from mcpd.protocol import jsonrpc
from mcpd.protocol.sse import encode_event

if TYPE_CHECKING:
    from mcpd.errors import ProtocolError
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.wire.http_server import Stream


class Batch:
    """The requests of one batch and the stream that answers them."""

    def __init__(self, session: Session, stream: Stream, gateway: Gateway, calls_max: int) -> None:
        self._session = session
        self._stream = stream
        self._gateway = gateway
        self._calls_max = calls_max

    async def run(self, requests: list[Message], errors: list[ProtocolError]) -> None:
        """Answer all, in the order in which they are done, and end the stream."""
        for error in errors:
            self._send(jsonrpc.error(None, error.encode()))
        async with trio.open_nursery() as nursery:
            for message in requests:
                task = RequestTask(self._gateway, self._session, message, self._send, self._calls_max)
                nursery.start_soon(task.run)
        self._stream.end()

    def _send(self, parts: tuple[Buffer, ...]) -> bool:
        return self._stream.write(encode_event(parts))
