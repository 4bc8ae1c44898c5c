"""A client on a connection that carries everything: stdio, WebSocket, or the pair of HTTP+SSE. Messages in, messages
out, those of a session and those that stand alone side by side.

Source: "stdio" of every version, "HTTP with SSE" of 2024-11-05.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import trio

from mcpd.errors import INTERNAL_ERROR, INVALID_REQUEST, ProtocolError, RpcError
from mcpd.frontends.era import refuse_mixed
from mcpd.frontends.notifications import take
from mcpd.frontends.stateless import Floor
from mcpd.protocol import jsonrpc
from mcpd.protocol.convert import down_notification
from mcpd.protocol.envelope import is_modern
from mcpd.protocol.handshake import Event, read_initialize
from mcpd.protocol.versions import BATCH, has

if TYPE_CHECKING:
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Buffer, Message

log = logging.getLogger("mcpd.frontends")


class Outlet(Protocol):
    """The client's end of the connection."""

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Send one message at once; False when the client is gone or does not read."""

    async def answer(self, parts: tuple[Buffer, ...]) -> None:
        """Send a response, which is not to be lost: may wait until the client reads. Never raises."""

    @property
    def queued(self) -> int:
        """Bytes that the client has not taken yet."""


class RequestTask:
    """One request that is worked on in a task of its own, because its connection goes on reading."""

    __slots__ = ("_calls_max", "_gateway", "_message", "_outlet", "_scope", "_session")

    def __init__(self, gateway: Gateway, session: Session, message: Message, outlet: Outlet, calls_max: int) -> None:
        self._gateway = gateway
        self._session = session
        self._message = message
        self._outlet = outlet
        self._calls_max = calls_max
        self._scope = trio.CancelScope()

    def cancel(self) -> None:
        """The client cancels the request: it gets no answer."""
        self._scope.cancel()

    async def start(self, nursery: trio.Nursery) -> None:
        """Begin, or say why not. The call is noted at once: what cancels it may be the next message."""
        id = self._message.id
        assert id is not None
        try:
            self._session.register(id, self, self._calls_max)
        except RpcError as error:
            self._gateway.refuse(self._session.caller, self._message, error)
            await self._outlet.answer(jsonrpc.error(id, error.encode()))
        else:
            nursery.start_soon(self._run)

    async def _run(self) -> None:
        id = self._message.id
        assert id is not None
        session = self._session
        answer: tuple[Buffer, ...] | None = None
        try:
            with self._scope:
                session.handshake(Event.PING if self._message.method == "ping" else Event.REQUEST)
                result, extra = await self._gateway.serve(session, self._message, self._emit, self._ask, _keep)
                answer = jsonrpc.result(id, result, extra)
        except RpcError as error:
            answer = jsonrpc.error(id, error.encode())
        except Exception:
            log.exception("event=internal_error method=%s", self._message.method)
            answer = jsonrpc.error(
                id, RpcError(INTERNAL_ERROR, "internal error in mcpd; its log has the details").encode()
            )
        finally:
            session.calls.pop(id, None)
        if answer is not None:
            await self._outlet.answer(answer)

    def _emit(self, method: str, params: Buffer) -> None:
        params = down_notification(method, params, self._session.caller.version)
        self._outlet.send(jsonrpc.notification(method.encode(), params))

    async def _ask(self, method: str, params: Buffer) -> Buffer:
        return await self._session.ask(self._outlet.send, method, params)


class Conversation:
    """What a connection says, message by message. Requests run in the given nursery, which the
    connection's task owns.
    """

    def __init__(
        self, gateway: Gateway, session: Session, outlet: Outlet, nursery: trio.Nursery, calls_max: int
    ) -> None:
        self._gateway = gateway
        self._session = session
        self._outlet = outlet
        self._nursery = nursery
        self._calls_max = calls_max
        self._floor = Floor(gateway, session, outlet, nursery, calls_max)

    def read(self, data: bytes) -> list[Message | ProtocolError]:
        """The messages in these bytes: one, or those of a batch. Raises: ProtocolError."""
        if not jsonrpc.is_array(data):
            return [jsonrpc.decode_from_client(data)]
        if not has(self._session.caller.version, BATCH):
            raise ProtocolError(INVALID_REQUEST, "batches exist in protocol version 2025-03-26 only")
        messages = jsonrpc.decode_many(data)
        refuse_mixed(data, messages)
        return messages

    async def take(self, messages: list[Message | ProtocolError]) -> None:
        """Act on messages. A bad one is answered with an error and harms nothing else."""
        for message in messages:
            if isinstance(message, ProtocolError):
                self._outlet.send(jsonrpc.error(None, message.encode()))
            else:
                await self._take(message)

    def leave(self) -> None:
        """The client will say nothing more: what only waits for it ends."""
        self._floor.leave()

    async def _take(self, message: Message) -> None:
        if not message.is_request:
            take(self._gateway, self._session, message)
            return
        if self._gateway.gate.closed:
            await self._gateway.gate.wait()
        if is_modern(message.params):
            await self._floor.take(message)
        elif message.method == "initialize":
            await self._initialize(message)
        else:
            task = RequestTask(self._gateway, self._session, message, self._outlet, self._calls_max)
            await task.start(self._nursery)

    async def _initialize(self, message: Message) -> None:
        assert message.id is not None
        try:
            hello = read_initialize(message.params)
            self._gateway.sessions.agree(self._session, hello)
        except RpcError as error:
            await self._outlet.answer(jsonrpc.error(message.id, error.encode()))
            return
        log.info("event=session_opened client=%r version=%s", hello.client, hello.version.text)
        await self._outlet.answer(jsonrpc.result(message.id, await self._gateway.initialize(hello.version)))


def _keep() -> None:
    """A connection that carries everything is not let go when a backend lets go of one of its streams."""
