"""Streamable HTTP at /mcp, for clients that open a session by initialize (2025-03-26 to 2025-11-25).

POST carries messages in and answers them, GET opens the stream for news that belongs to no call or resumes a stream, DELETE ends the
session. Unlike most servers a second GET replaces the first instead of being refused: the first one is nearly always the half-open
remains of a connection that the client has lost, and a client that is refused here stays deaf.

Source: "Streamable HTTP" of 2025-03-26 to 2025-11-25.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, REQUEST_CANCELLED, ProtocolError, RpcError
from mcpd.frontends.batch import Batch
from mcpd.frontends.exchange import Exchange
from mcpd.frontends.notifications import take
from mcpd.frontends.replies import EVENTS, JSON, refuse, send_error, send_parts
from mcpd.frontends.streams import GetStream, Streams
from mcpd.protocol import jsonrpc
from mcpd.protocol.exchange import ALLOW, parse_event_id, prefers_stream, read_body, refusal, version_refusal
from mcpd.protocol.handshake import Event, read_initialize
from mcpd.protocol.versions import BATCH, has

if TYPE_CHECKING:
    from mcpd.config.model import Config
    from mcpd.frontends.endpoint import Verdict
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Request

log = logging.getLogger("mcpd.frontends")

LOCAL = ""
"""The principal of everybody who reaches the loopback port: there is no authentication in mcpd itself yet."""


class Notes:
    """What a head means to this front, derived once from its exact bytes."""

    __slots__ = ("prefers_stream", "refusal", "session_id", "version_refusal")

    def __init__(self, request: Request) -> None:
        head = request.head
        self.refusal = refusal(head.method, head.headers)
        self.version_refusal = version_refusal(head.headers)
        self.prefers_stream = prefers_stream(head.headers)
        id = head.headers.get(b"mcp-session-id")
        self.session_id = id.decode("latin-1") if id else ""


class StreamableHttp:
    """The front at /mcp."""

    def __init__(self, gateway: Gateway, config: Config, deadlines: Deadlines) -> None:
        self._gateway = gateway
        self._sessions = gateway.sessions
        self._config = config
        self._deadlines = deadlines

    async def handle(self, request: Request, verdict: Verdict) -> None:
        """Answer one request."""
        notes = verdict.notes
        if not isinstance(notes, Notes):
            notes = verdict.notes = Notes(request)
        if notes.refusal is not None:
            status, reason = notes.refusal
            refuse(request, status, reason, ALLOW if status == 405 else b"")
        elif request.head.method == b"POST":
            await self._post(request, notes)
        else:
            session = self._session(request, notes)
            if session is None:
                return
            if request.head.method == b"GET":
                await self._get(request, session)
            else:
                self._sessions.end(session)
                request.answer(200, b"")

    def _session(self, request: Request, notes: Notes) -> Session | None:
        """The session that the head names; None when there is none and the request was answered so."""
        if not notes.session_id:
            refuse(request, 400, "Mcp-Session-Id is missing; send initialize first and then the id it returned")
            return None
        session = self._sessions.find(notes.session_id, LOCAL)
        if session is None:
            refuse(request, 404, "unknown or ended session; send initialize for a new one")
            return None
        if notes.version_refusal is not None:
            refuse(request, 400, notes.version_refusal)
            return None
        return session

    # ---- POST ---------------------------------------------------------------------------------------------------------

    async def _post(self, request: Request, notes: Notes) -> None:
        session = self._sessions.find(notes.session_id, LOCAL) if notes.session_id else None
        try:
            batches = session is not None and has(session.caller.version, BATCH)
            messages, batch = read_body(request.body, batches=batches)
        except ProtocolError as error:
            send_error(request, error, None)
            return
        first = messages[0]
        if not batch and isinstance(first, jsonrpc.Message) and first.method == "initialize" and first.id is not None:
            await self._initialize(request, first)
            return
        session = self._session(request, notes)
        if session is None:
            return
        if batch:
            await self._batch(request, session, messages)
            return
        assert isinstance(first, jsonrpc.Message)
        if first.is_request:
            await self._call(request, session, first, notes)
            return
        take(self._gateway, session, first)
        request.answer(202, b"")

    async def _initialize(self, request: Request, message: Message) -> None:
        assert message.id is not None
        try:
            hello = read_initialize(message.params)
            session = self._sessions.begin(hello, LOCAL)
        except ProtocolError as error:
            error.http_status = 200 if error.code == INVALID_PARAMS else error.http_status
            send_error(request, error, message.id)
            return
        except RpcError as error:
            send_error(request, error, message.id, b"Retry-After: 5\r\n")
            return
        result = await self._gateway.initialize(hello.version)
        headers = b"Mcp-Session-Id: %b\r\n" % session.id.encode()
        log.info("event=session_opened client=%r version=%s", hello.client_name, hello.version.text)
        send_parts(request, 200, JSON + headers, jsonrpc.result(message.id, result))

    async def _call(self, request: Request, session: Session, message: Message, notes: Notes) -> None:
        id = message.id
        assert id is not None
        exchange = Exchange(
            session, request, self._config, self._deadlines, prefers_stream=notes.prefers_stream
        )
        try:
            session.register(id, exchange, self._config.limits.calls_per_session)
        except RpcError as error:
            self._deadlines.discard(exchange)
            send_error(request, error, id)
            return
        outcome: tuple[Buffer, ...]
        try:
            session.handshake(Event.REQUEST)
            result, extra = await self._gateway.serve(session, message, exchange.emit, exchange.ask, exchange.part)
            outcome = jsonrpc.result(id, result, extra)
        except RpcError as error:
            outcome = jsonrpc.error(id, error.encode())
        except trio.Cancelled:
            # The request was cancelled by its client, or the daemon ends: one last word, so that the stream does not dangle.
            exchange.finish(jsonrpc.error(id, RpcError(REQUEST_CANCELLED, "Request cancelled").encode()))
            raise
        except Exception:
            log.exception("event=internal_error method=%s", message.method)
            outcome = jsonrpc.error(id, RpcError(INTERNAL_ERROR, "internal error in mcpd; its log has the details").encode())
        finally:
            session.calls.pop(id, None)
        exchange.finish(outcome)

    async def _batch(self, request: Request, session: Session, messages: list[Message | ProtocolError]) -> None:
        requests = []
        errors = []
        for message in messages:
            if isinstance(message, ProtocolError):
                errors.append(message)
            elif message.method == "initialize":
                errors.append(ProtocolError(INVALID_REQUEST, "initialize must not be part of a batch"))
            elif message.is_request:
                requests.append(message)
            else:
                take(self._gateway, session, message)
        if not requests and not errors:
            request.answer(202, b"")
            return
        batch = Batch(session, request.open_stream(200, EVENTS), self._gateway, self._config.limits.calls_per_session)
        await batch.run(requests, errors)

    # ---- GET ----------------------------------------------------------------------------------------------------------

    async def _get(self, request: Request, session: Session) -> None:
        streams = session.streams
        if not isinstance(streams, Streams):
            streams = session.streams = Streams(self._config.limits)
        last = request.head.headers.get(b"last-event-id")
        position = parse_event_id(last) if last is not None else None
        if position is not None and position[0] != 0:
            await self._resume(request, streams, *position)
            return
        if streams.listening is not None:
            streams.listening.close()
        stream = request.open_stream(200, EVENTS)
        outlet = GetStream(streams, request, stream, self._config.streams.keepalive, self._deadlines)
        streams.listening = outlet
        if position is not None:
            outlet.replay(position[1])
        session.listen(outlet)
        try:
            await request.wait_gone()
        finally:
            outlet.end()
            if streams.listening is outlet:
                streams.listening = None
            if session.outlet is outlet:
                session.outlet = None

    async def _resume(self, request: Request, streams: Streams, number: int, event: int) -> None:
        exchange = streams.exchanges.get(number)
        if exchange is None:
            refuse(request, 400, "nothing is kept (any more) for this Last-Event-ID; send the request again")
            return
        stream = request.open_stream(200, EVENTS)
        exchange.resume(request, stream, event)
        if stream.ended:
            return
        # The exchange ends the stream and then cancels this task, which only watches for the client leaving.
        await request.wait_gone()
        exchange.gone(request)

