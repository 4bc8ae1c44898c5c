"""Modern requests over Streamable HTTP: each stands alone, so each is checked from its head to its envelope.

Theory of operation. What the head alone decides came before (path, Origin, Host, Content-Type, method, Accept), and
so did JSON and the question of the era. Here follow the rungs that compare the headers with the body, each with its
code and status; then the request is a turn of a call, or a stream of news. Neither leaves anything behind.

Rules.
1. The first rung that fails answers, with the request's id and as plain JSON.
2. Session ids and Last-Event-ID mean nothing here, and are given to nobody.
3. A notification is accepted and dropped: the only one that a client could mean is that it cancels, and over HTTP it
   does so by closing the connection.
4. What a client mirrors of a tool's arguments is checked by the schema it was shown. A tool that nobody knows is the
   gateway's to refuse.

Source: 2026-07-28 "Streamable HTTP" (Sending messages, Standard and custom headers), "Subscriptions".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.errors import INTERNAL_ERROR, ProtocolError, RpcError
from mcpd.frontends.era import LISTEN, caller_of, open_envelope
from mcpd.frontends.replies import ANSWERED, EVENTS, send_error
from mcpd.frontends.streams import EventOutlet
from mcpd.frontends.turn import HttpTurn
from mcpd.protocol import jsonrpc, mirror
from mcpd.protocol.envelope import require_supported
from mcpd.protocol.exchange import repeated_routing
from mcpd.protocol.mirror import NAMED
from mcpd.protocol.modern import status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mcpd.frontends.exchange import Terms
    from mcpd.frontends.http import Notes
    from mcpd.gateway.catalog import Route
    from mcpd.gateway.gateway import Gateway
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.wire.http_server import Request

log = logging.getLogger("mcpd.frontends")

MIRRORED_MAX: Final = 1024
"""Bytes of a name that a head is remembered to agree with. It stays as long as the head does, and what stands in the
place of a name can be as large as a body."""


class ModernHttp:
    """The modern half of the front at /mcp."""

    def __init__(self, gateway: Gateway, terms: Terms) -> None:
        self._gateway = gateway
        self._terms = terms

    def take(self, request: Request, message: Message, principal: str, notes: Notes) -> Awaitable[None]:
        """Answer one modern message, a request or a notification: what this returns does, when it is awaited."""
        id = message.id
        if id is None:
            request.answer(202, b"")
            return ANSWERED
        assert message.method is not None
        head = request.head
        method = message.method
        try:
            repeated = repeated_routing(head.repeated) if head.repeated else None
            if repeated is not None:
                raise mirror.HeaderMismatch(f"{repeated} header comes more than once")
            members, envelope = open_envelope(message)
            version = envelope.version_text
            named = NAMED.get(method)
            name = b"" if named is None else bytes(members.get(named, b""))
            said = method, name, version
            if said != notes.mirrored:
                mirror.check(head.headers, head.repeated, method=method, members=members, version=version)
                require_supported(envelope)
                if len(name) <= MIRRORED_MAX:
                    notes.mirrored = said
        except ProtocolError as error:
            send_error(request, error, id)
            return ANSWERED
        caller = caller_of(envelope, principal, self._gateway.modern.relayed(envelope.extensions))
        if method == LISTEN:
            return self._listen(request, id, caller, members)
        return self._call(request, id, caller, message, members, notes.prefers_stream)

    async def _call(
        self, request: Request, id: bytes, caller: Caller, message: Message, members: Members, prefers_stream: bool
    ) -> None:
        turn = HttpTurn(request, id, self._terms, prefers_stream=prefers_stream)
        try:
            if message.method == "tools/call":
                route = self._tool(members)
                if route is None:
                    await self._gateway.settled()  # it may be about to become known
                    route = self._tool(members)
                if route is not None and route.parameters and message.params is not None:
                    jsonrpc.refuse_repeated(message.params, members, b'"arguments"')
                    head = request.head
                    mirror.check_parameters(head.headers, head.repeated, route.parameters, members.get("arguments"))
            await self._gateway.modern.serve(caller, message, members, turn)
        except RpcError as error:
            turn.settle(error)
        except trio.Cancelled:
            # The daemon ends: one last word, which a client that is gone does not get.
            turn.settle(RpcError(INTERNAL_ERROR, "mcpd is stopping; send the request again", http_status=503))
            raise
        except Exception:
            log.exception("event=internal_error method=%s", message.method)
            turn.settle(_bug())
        finally:
            turn.close()

    def _tool(self, members: Members) -> Route | None:
        """The tool that a call names, if it is known."""
        tools = self._gateway.catalog.tools
        name = bytes(members.get("name", b""))
        route = tools.by_text.get(name)
        if route is None:
            try:
                route = tools.routes.get(msgspec.json.decode(name, type=str))
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                return None
        return route

    async def _listen(self, request: Request, id: bytes, caller: Caller, members: Members) -> None:
        outlet = ListenStream(request, id, self._terms)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_gone, request, nursery.cancel_scope)
                try:
                    await self._gateway.listens.listen(caller, id, members, outlet)
                except RpcError as error:
                    outlet.refuse(error)
                except Exception:
                    log.exception("event=internal_error method=%s", LISTEN)
                    outlet.refuse(_bug())
                nursery.cancel_scope.cancel()
        finally:
            outlet.end()


class ListenStream:
    """The answer to `subscriptions/listen`: begun by the first message, so that a refusal before it is plain JSON.
    Implements `Feed`.
    """

    __slots__ = ("_id", "_outlet", "_request", "_terms")

    def __init__(self, request: Request, id: bytes, terms: Terms) -> None:
        self._id = id
        self._request = request
        self._terms = terms
        self._outlet: EventOutlet | None = None

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Write one message; False when the client is gone or too slow."""
        if self._outlet is None:
            stream = self._request.open_stream(200, EVENTS)
            self._request.endure()
            self._outlet = EventOutlet(stream, self._terms.times.keepalive, self._terms.deadlines)
            self._request.carry(bytes)
            if self._request.opened:
                return True  # another program has acknowledged it
        return self._outlet.send(parts)

    @property
    def queued(self) -> int:
        """Bytes that the client has not taken yet."""
        return 0 if self._outlet is None else self._outlet.queued

    def refuse(self, error: RpcError) -> None:
        """An error is the answer: in the stream if that has begun."""
        if self._outlet is None:
            send_error(self._request, error, self._id, status_of(error))
        else:
            self._outlet.send(jsonrpc.error(self._id, error.encode()))

    def end(self) -> None:
        """Nothing more will be sent."""
        if self._outlet is not None:
            self._outlet.end()


async def _cancel_when_gone(request: Request, scope: trio.CancelScope) -> None:
    await request.wait_gone()
    scope.cancel()


def _bug() -> RpcError:
    return RpcError(INTERNAL_ERROR, "internal error in mcpd; its log has the details")
