"""WebSocket at /ws: one JSON-RPC message a text frame, by the rules of stdio otherwise.

Theory of operation. The connection is the session: messages are read and worked on as they come, and when it ends, so
do the session and its calls. A client that does not read is not read from either: responses wait for room,
notifications are dropped, and a client that takes nothing for two times `streams.keepalive` is gone. What is wrong with
a message is answered; what is wrong with a frame ends the connection, and its close frame says why.

Source: RFC 6455; "Custom Transports" of every version; the rules of messages are those of "stdio".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from mcpd.errors import ConnectionBroken, LimitExceeded, ProtocolError, RpcError, TransportError
from mcpd.frontends.conversation import Conversation
from mcpd.frontends.http import LOCAL
from mcpd.frontends.replies import refuse, send_error
from mcpd.protocol import jsonrpc
from mcpd.wire.websocket import WRITE_QUEUE_MAX, Terms, accept
from mcpd.wire.websocket_handshake import UpgradeRefused, read_upgrade

if TYPE_CHECKING:
    from mcpd.config.model import Config
    from mcpd.frontends.endpoint import Verdict
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Request
    from mcpd.wire.websocket import WebSocket

log = logging.getLogger("mcpd.frontends")

SUBPROTOCOL: Final = "mcp"
"""Wanted from clients that offer any: what another subprotocol would be is not known here."""


class Outlet:
    """The client's end of the connection."""

    def __init__(self, socket: WebSocket, queue_max: int) -> None:
        self._socket = socket
        self._queue_max = queue_max

    @property
    def queued(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._socket.queued

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Send one message; False when the client is gone or reads too slowly."""
        if self._socket.queued > self._queue_max:
            return False
        return self._write(b"".join(parts))

    async def answer(self, parts: tuple[Buffer, ...]) -> None:
        """Send a response when there is room for it."""
        message = b"".join(parts)
        if self._socket.queued:
            try:
                await self._socket.room(max(0, min(self._queue_max, WRITE_QUEUE_MAX - len(message))))
            except TransportError:
                return
        self._write(message)

    async def room(self) -> None:
        """Wait until the client has read enough of what it was sent. Raises: TransportError."""
        await self._socket.room(self._queue_max)

    def _write(self, message: bytes) -> bool:
        try:
            self._socket.write(message)
        except (ConnectionBroken, LimitExceeded):
            return False
        return True


class WebSocketFront:
    """The front at /ws. `succeeded`: another mcpd goes on with its sockets when this one ends."""

    def __init__(self, gateway: Gateway, config: Config, deadlines: Deadlines, *, succeeded: bool = False) -> None:
        self._gateway = gateway
        self._deadlines = deadlines
        self._succeeded = succeeded
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Go by other settings: connections that are opened from now on do."""
        self._limits = config.limits
        every = config.streams.keepalive
        self._terms = Terms(config.limits.body, "limits.body", every, every, self._deadlines, self._succeeded)

    async def handle(self, request: Request, verdict: Verdict) -> None:
        """GET with an upgrade: open a session and serve it until either side leaves."""
        try:
            upgrade = read_upgrade(request.head, SUBPROTOCOL)
            session = self._gateway.sessions.connect(LOCAL)
        except UpgradeRefused as refused:
            refuse(request, refused.status, refused.reason, refused.headers)
            return
        except RpcError as error:
            send_error(request, error, None)
            return
        try:
            socket = accept(request, upgrade, self._terms)
            async with trio.open_nursery() as nursery:
                try:
                    await nursery.start(socket.run)
                except TransportError:
                    return  # the client has left already
                await self._converse(socket, session)
        finally:
            self._gateway.sessions.disconnect(session)

    async def _converse(self, socket: WebSocket, session: Session) -> None:
        outlet = Outlet(socket, self._limits.stream_queue)
        async with trio.open_nursery() as nursery:
            conversation = Conversation(self._gateway, session, outlet, nursery, self._limits.calls_per_session)
            session.listen(outlet)
            await _read(socket, outlet, conversation)
            log.info("event=client_left reason=%r", str(socket.failure))
            nursery.cancel_scope.cancel()
        # Before the farewell, which takes seconds where the client does not answer it.
        self._gateway.sessions.disconnect(session)


async def _read(socket: WebSocket, outlet: Outlet, conversation: Conversation) -> None:
    try:
        while True:
            data = await socket.receive()
            try:
                await conversation.take(conversation.read(data))
            except ProtocolError as error:
                outlet.send(jsonrpc.error(None, error.encode()))
            await outlet.room()
    except TransportError:
        return
