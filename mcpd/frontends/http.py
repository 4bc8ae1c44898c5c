"""Streamable HTTP at /mcp: for clients that open a session by initialize (2025-03-26 to 2025-11-25), and the way to
`modern` for requests that stand alone.

Which of the two a POST belongs to is decided first; GET and DELETE exist for sessions only. In a session POST carries
messages in and answers them, GET opens the stream for news that belongs to no call or resumes a stream, DELETE ends
the session. Unlike most servers a second GET replaces the first instead of being refused: the first one is nearly
always the half-open remains of a connection that the client has lost, and a client that is refused here stays deaf.

Source: "Streamable HTTP" of 2025-03-26 to 2025-11-25; which era a message belongs to: `era`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from mcpd.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    REQUEST_CANCELLED,
    ProtocolError,
    RpcError,
)
from mcpd.frontends.batch import run_batch
from mcpd.frontends.era import MARK, refuse_mixed
from mcpd.frontends.exchange import Exchange, Terms
from mcpd.frontends.modern import ModernHttp
from mcpd.frontends.notifications import take
from mcpd.frontends.replies import ANSWERED, EVENTS, JSON, refuse, send_error, send_parts
from mcpd.frontends.streams import EventOutlet, GetStream, Streams
from mcpd.protocol import envelope, jsonrpc
from mcpd.protocol.exchange import (
    ALLOW,
    State,
    parse_event_id,
    prefers_stream,
    read_body,
    refusal,
    version_refusal,
)
from mcpd.protocol.handshake import Event, read_initialize
from mcpd.protocol.versions import BATCH, has

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.config.model import Config
    from mcpd.frontends.endpoint import Verdict
    from mcpd.gateway import handover
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Request

log = logging.getLogger("mcpd.frontends")

LOCAL = ""
"""The principal of everybody who reaches the loopback port: there is no authentication in mcpd itself yet."""


CANCELLED = (REQUEST_CANCELLED, "Request cancelled")
STOPPED = (INTERNAL_ERROR, "mcpd was stopped before this call was done (shutdown.grace); it may have been executed")
"""Why a call has no result: its client did not want it any more, or there was no more time."""


class Notes:
    """What a head means to this front, derived once from its exact bytes."""

    __slots__ = ("mirrored", "prefers_stream", "principal", "refusal", "session_id", "version_refusal")

    def __init__(self, request: Request, principal: str) -> None:
        head = request.head
        self.principal = principal
        """Who asks. Heads are remembered for one connection, and a connection is one client's."""
        self.refusal = refusal(head.method, head.headers)
        self.version_refusal = version_refusal(head.headers)
        """Also: the header names a version without a handshake, or an unknown one."""
        self.prefers_stream = prefers_stream(head.headers)
        id = head.headers.get(b"mcp-session-id")
        self.session_id = id.decode("latin-1") if id else ""
        self.mirrored: tuple[str, bytes, str] | None = None
        """What the body of a modern request said that this head agrees with."""


def nobody(request: Request) -> str:
    """Who asks over the loopback port."""
    return LOCAL


class StreamableHttp:
    """The front at /mcp."""

    def __init__(
        self, gateway: Gateway, config: Config, deadlines: Deadlines, *, principal: Callable[[Request], str] = nobody
    ) -> None:
        """`principal` says of a request who sent it."""
        self._principal = principal
        self._gateway = gateway
        self._sessions = gateway.sessions
        self._config = config
        self._deadlines = deadlines
        self._terms = Terms(config, deadlines)
        self._modern = ModernHttp(gateway, self._terms)
        self.resumed = 0
        """Streams that clients went on with after a loss, since the start."""

    def configure(self, config: Config) -> None:
        """Go by other settings from now on."""
        self._config = config
        self._terms.configure(config)
        for session in self._sessions:
            if isinstance(session.streams, Streams):
                session.streams.limits = config.limits

    def forget(self, session: Session) -> None:
        """A session ended or left memory: its streams end."""
        if isinstance(session.streams, Streams):
            session.streams.close()

    def inherit(self, session: Session, left: handover.Streams) -> None:
        """A session of an earlier run of mcpd goes on with its streams."""
        self._terms.streams_of(session).inherit(left)

    def handle(self, request: Request, verdict: Verdict) -> Awaitable[None]:
        """Answer one request: what this returns does, when it is awaited."""
        notes = verdict.notes
        if not isinstance(notes, Notes):
            notes = verdict.notes = Notes(request, self._principal(request))
        if notes.refusal is not None:
            status, reason = notes.refusal
            refuse(request, status, reason, ALLOW if status == 405 else b"")
            return ANSWERED
        post = request.head.method == b"POST"
        if post and (notes.version_refusal is not None or MARK in request.body):
            message = self._modern_message(request, notes)
            if message is not None:
                return self._modern.take(request, message, notes.principal, notes)
        try:
            session = self._sessions.find(notes.session_id, notes.principal) if notes.session_id else None
        except RpcError as error:  # it left memory, which is now full of sessions in use
            send_error(request, error, None)
            return ANSWERED
        if post:
            return self._post(request, notes, session)
        if session is None or notes.version_refusal is not None:
            self._refuse(request, notes, session)
        elif request.head.method == b"GET":
            return self._get(request, session)
        else:
            self._sessions.end(session)
            request.answer(200, b"")
        return ANSWERED

    def _modern_message(self, request: Request, notes: Notes) -> Message | None:
        """The message of a POST that modern rules are for; None: legacy rules, also to say what is wrong with it."""
        try:
            [message], _ = read_body(request.body, batches=False)
            if not isinstance(message, jsonrpc.Message) or message.method is None:
                return None
            if envelope.is_modern(message.params):
                return message
            # Only the header speaks for a modern request; a session speaks against it.
            if notes.version_refusal is None or message.method == "initialize":
                return None
            known = notes.session_id and self._sessions.find(notes.session_id, notes.principal) is not None
        except RpcError:
            return None
        return None if known else message

    def _refuse(self, request: Request, notes: Notes, session: Session | None) -> None:
        """Say what is wrong with the session that the head names, or with the version."""
        if not notes.session_id:
            refuse(request, 400, "Mcp-Session-Id is missing; send initialize first and then the id it returned")
        elif session is None:
            refuse(request, 404, "unknown or ended session; send initialize for a new one")
        elif notes.version_refusal is not None:
            refuse(request, 400, notes.version_refusal)

    # ---- POST --------------------------------------------------------------------------------------------

    def _post(self, request: Request, notes: Notes, session: Session | None) -> Awaitable[None]:
        try:
            batches = session is not None and has(session.caller.version, BATCH)
            messages, batch = read_body(request.body, batches=batches)
            if batch:
                refuse_mixed(request.body, messages)
        except ProtocolError as error:
            send_error(request, error, None)
            return ANSWERED
        first = messages[0]
        if isinstance(first, jsonrpc.Message) and not batch and first.method == "initialize" and first.id:
            return self._initialize(request, first, notes.principal)
        if session is None or notes.version_refusal is not None:
            self._refuse(request, notes, session)
            return ANSWERED
        if batch:
            return self._batch(request, session, messages)
        assert isinstance(first, jsonrpc.Message)
        if first.is_request:
            return self._call(request, session, first, notes)
        take(self._gateway, session, first)
        request.answer(202, b"")
        return ANSWERED

    async def _initialize(self, request: Request, message: Message, principal: str) -> None:
        assert message.id is not None
        try:
            hello = read_initialize(message.params)
            session = self._sessions.begin(hello, principal)
        except ProtocolError as error:
            error.http_status = 200 if error.code == INVALID_PARAMS else error.http_status
            send_error(request, error, message.id)
            return
        except RpcError as error:
            send_error(request, error, message.id)
            return
        result = await self._gateway.initialize(hello.version)
        headers = b"Mcp-Session-Id: %b\r\n" % session.id.encode()
        log.info("event=session_opened client=%r version=%s", hello.client, hello.version.text)
        send_parts(request, 200, JSON + headers, jsonrpc.result(message.id, result))

    async def _call(self, request: Request, session: Session, message: Message, notes: Notes) -> None:
        id = message.id
        assert id is not None
        exchange = Exchange(session, request, self._terms, prefers_stream=notes.prefers_stream)
        try:
            session.register(id, exchange, self._config.limits.calls_per_session)
        except RpcError as error:
            self._gateway.refuse(session.caller, message, error)
            exchange.abandon()
            send_error(request, error, id)
            return
        outcome: tuple[Buffer, ...]
        try:
            session.handshake(Event.REQUEST)
            result, extra = await self._gateway.serve(session, message, exchange.emit, exchange.ask, exchange.part)
            outcome = jsonrpc.result(id, result, extra)
        except RpcError as error:
            if error.http_status == 503 and exchange.state is State.WAITING:
                exchange.abandon()
                send_error(request, error, id)
                return
            outcome = jsonrpc.error(id, error.encode())
        except trio.Cancelled:
            # One last word, so that the stream does not dangle.
            why = CANCELLED if exchange.cancelled else STOPPED
            exchange.finish(jsonrpc.error(id, RpcError(*why).encode()))
            raise
        except Exception:
            log.exception("event=internal_error method=%s", message.method)
            outcome = jsonrpc.error(
                id, RpcError(INTERNAL_ERROR, "internal error in mcpd; its log has the details").encode()
            )
        finally:
            session.calls.pop(id, None)
        exchange.finish(outcome)

    async def _batch(self, request: Request, session: Session, messages: list[Message | ProtocolError]) -> None:
        requests: list[Message] = []
        errors: list[tuple[Buffer, ...]] = []
        for message in messages:
            if isinstance(message, ProtocolError):
                errors.append(jsonrpc.error(None, message.encode()))
            elif message.method == "initialize":
                error = ProtocolError(INVALID_REQUEST, "initialize must not be part of a batch")
                errors.append(jsonrpc.error(message.id, error.encode()))
            elif message.is_request:
                requests.append(message)
            else:
                take(self._gateway, session, message)
        if not requests and not errors:
            request.answer(202, b"")
            return
        outlet = EventOutlet(request.open_stream(200, EVENTS), self._config.streams.keepalive, self._deadlines)
        await run_batch(self._gateway, session, outlet, requests, errors, self._config.limits.calls_per_session)

    # ---- GET ---------------------------------------------------------------------------------------------

    async def _get(self, request: Request, session: Session) -> None:
        streams = self._terms.streams_of(session)
        last = request.head.headers.get(b"last-event-id")
        # To a stream that another program opened everything was sent before.
        position = parse_event_id(last) if last is not None and not request.opened else None
        if position is not None and position[0] != 0:
            await self._resume(request, streams, *position)
            return
        if streams.listening is not None:
            streams.listening.close()
        stream = request.open_stream(200, EVENTS)
        request.endure()
        outlet = GetStream(streams, request, stream, self._config.streams.keepalive, self._deadlines)
        streams.listening = outlet
        if position is not None:
            self.resumed += 1
            outlet.replay(position[1])
        session.listen(outlet)
        request.carry(bytes)
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
        self.resumed += 1
        exchange.resume(request, stream, event)
        if stream.ended:
            return
        # The exchange ends the stream and then cancels this task, which only watches for the client leaving.
        await request.wait_gone()
        exchange.gone(request)
