"""A client on a connection that carries everything: stdio, or the pair of HTTP+SSE. Messages in, messages out.

Source: "stdio" of every version, "HTTP with SSE" of 2024-11-05.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

import trio

from mcpd.errors import INTERNAL_ERROR, INVALID_REQUEST, ProtocolError, RpcError
from mcpd.frontends.notifications import take
from mcpd.protocol import jsonrpc
from mcpd.protocol.handshake import Event, read_initialize
from mcpd.protocol.versions import BATCH, has

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Buffer, Message

    Send: TypeAlias = Callable[[tuple[Buffer, ...]], bool]

log = logging.getLogger("mcpd.frontends")


class RequestTask:
    """One request that is worked on in a task of its own, because its connection goes on reading."""

    __slots__ = ("_calls_max", "_gateway", "_message", "_scope", "_send", "_session")

    def __init__(self, gateway: Gateway, session: Session, message: Message, send: Send, calls_max: int) -> None:
        self._gateway = gateway
        self._session = session
        self._message = message
        self._send = send
        self._calls_max = calls_max
        self._scope = trio.CancelScope()

    def cancel(self) -> None:
        """The client cancels the request: it gets no answer."""
        self._scope.cancel()

    async def run(self) -> None:
        """Work on the request and send its answer."""
        id = self._message.id
        assert id is not None
        session = self._session
        try:
            session.register(id, self, self._calls_max)
        except RpcError as error:
            self._send(jsonrpc.error(id, error.encode()))
            return
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
            answer = jsonrpc.error(id, RpcError(INTERNAL_ERROR, "internal error in mcpd; its log has the details").encode())
        finally:
            session.calls.pop(id, None)
        if answer is not None:
            self._send(answer)

    def _emit(self, method: str, params: Buffer) -> None:
        self._send(jsonrpc.notification(method.encode(), params))

    async def _ask(self, method: str, params: Buffer) -> Buffer:
        return await self._session.ask(self._send, method, params)


class Conversation:
    """What a connection says, message by message. Requests run in the given nursery, which the connection's task owns."""

    def __init__(self, gateway: Gateway, session: Session, send: Send, nursery: trio.Nursery, calls_max: int) -> None:
        self._gateway = gateway
        self._session = session
        self._send = send
        self._nursery = nursery
        self._calls_max = calls_max

    async def receive(self, data: bytes) -> None:
        """Take the bytes of one message. A bad one is answered with an error and harms nothing else."""
        try:
            if jsonrpc.is_array(data):
                if not has(self._session.caller.version, BATCH):
                    raise ProtocolError(INVALID_REQUEST, "batches exist in protocol version 2025-03-26 only")
                for message in jsonrpc.decode_many(data):
                    if isinstance(message, ProtocolError):
                        self._send(jsonrpc.error(None, message.encode()))
                    else:
                        await self._take(message)
                return
            await self._take(jsonrpc.decode_from_client(data))
        except ProtocolError as error:
            self._send(jsonrpc.error(None, error.encode()))

    async def _take(self, message: Message) -> None:
        if not message.is_request:
            take(self._gateway, self._session, message)
        elif message.method == "initialize":
            await self._initialize(message)
        else:
            task = RequestTask(self._gateway, self._session, message, self._send, self._calls_max)
            self._nursery.start_soon(task.run)

    async def _initialize(self, message: Message) -> None:
        assert message.id is not None
        try:
            hello = read_initialize(message.params)
            self._gateway.sessions.agree(self._session, hello)
        except RpcError as error:
            self._send(jsonrpc.error(message.id, error.encode()))
            return
        log.info("event=session_opened client=%r version=%s", hello.client_name, hello.version.text)
        self._send(jsonrpc.result(message.id, await self._gateway.initialize(hello.version)))


def _keep() -> None:
    """A connection that carries everything is not let go when a backend lets go of one of its streams."""


