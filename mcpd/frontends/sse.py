"""HTTP+SSE, the transport of 2024-11-05: GET /sse is the stream, POST /messages?session=… carries what the
client says.

The stream is the session: when it ends, so does the session. There is no resumption. Any handshake version
may travel on it.

Source: "HTTP with SSE" of 2024-11-05.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import trio

from mcpd.errors import ProtocolError, RpcError
from mcpd.frontends.conversation import Conversation
from mcpd.frontends.http import LOCAL
from mcpd.frontends.replies import EVENTS, refuse, send_error
from mcpd.frontends.streams import EventOutlet
from mcpd.protocol.sse import encode_event

if TYPE_CHECKING:
    from mcpd.config.model import Config
    from mcpd.frontends.endpoint import Verdict
    from mcpd.gateway.gateway import Gateway
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Request

log = logging.getLogger("mcpd.frontends")

MESSAGES = b"/messages"


class HttpSse:
    """The front at /sse and /messages."""

    def __init__(self, gateway: Gateway, config: Config, deadlines: Deadlines) -> None:
        self._gateway = gateway
        self._config = config
        self._deadlines = deadlines
        self._conversations: dict[str, Conversation] = {}

    def configure(self, config: Config) -> None:
        """Go by other settings: sessions that begin from now on do."""
        self._config = config

    async def stream(self, request: Request, verdict: Verdict) -> None:
        """GET: open a session and be its stream until the client leaves."""
        if request.head.method != b"GET":
            refuse(
                request,
                405,
                "GET opens the stream; messages are POSTed to the endpoint it names",
                b"Allow: GET\r\n",
            )
            return
        try:
            session = self._gateway.sessions.connect(LOCAL)
        except RpcError as error:
            send_error(request, error, None)
            return
        # Unguessable: whoever knows it may speak for the client.
        token = secrets.token_urlsafe(24)
        stream = request.open_stream(200, EVENTS)
        request.endure()
        outlet = EventOutlet(stream, self._config.streams.keepalive, self._deadlines)
        stream.write(encode_event((MESSAGES + b"?session=" + token.encode(),), event=b"endpoint"))
        try:
            async with trio.open_nursery() as nursery:
                self._conversations[token] = Conversation(
                    self._gateway, session, outlet, nursery, self._config.limits.calls_per_session
                )
                session.listen(outlet)
                await request.wait_gone()
                nursery.cancel_scope.cancel()
        finally:
            self._conversations.pop(token, None)
            self._gateway.sessions.disconnect(session)
            outlet.end()

    async def message(self, request: Request, verdict: Verdict) -> None:
        """POST: one message of a session; its answer comes on the stream."""
        if request.head.method != b"POST":
            refuse(request, 405, "messages are POSTed", b"Allow: POST\r\n")
            return
        token = parse_qs(request.head.query.decode("latin-1")).get("session", [""])[0]
        conversation = self._conversations.get(token)
        if conversation is None:
            reason = (
                "unknown session; open GET /sse first" if token else "?session= is missing; it is in the endpoint event"
            )
            refuse(request, 404 if token else 400, reason)
            return
        try:
            messages = conversation.read(request.body)
        except ProtocolError as error:
            send_error(request, error, None)
            return
        # Accepted is answered at once; what comes of it is said on the stream.
        request.answer(202, b"Content-Type: text/plain\r\n", b"Accepted")
        await conversation.take(messages)
