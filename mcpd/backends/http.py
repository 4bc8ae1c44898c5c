"""A remote server over Streamable HTTP: every message a POST, answers as JSON or as an event stream.

Theory of operation. A call's own task does its I/O; `protocol.exchange_client` says what a reply means and
when a broken stream may be resumed. A task beside it keeps the GET stream open, on which the backend says
what belongs to no request.

Rules.
1. A message on a request's own stream belongs to that request.
2. The session id comes from the answer to initialize alone, and goes with everything after it, with the
   version agreed.
3. Redirects are followed inside the same origin only: headers may hold credentials.

Source: "Streamable HTTP" of 2025-03-26 to 2025-11-25.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends.carrier import SessionLost
from mcpd.backends.listening import Listening
from mcpd.backends.opening import Era
from mcpd.backends.replies import (
    REDIRECTS_MAX,
    answered_by_server,
    answers,
    dispose,
    error_in,
    messages_of,
    named,
    redirect_target,
    refusal,
)
from mcpd.backends.resumption import Position
from mcpd.errors import (
    BackendCrashed,
    BackendMisbehaved,
    BackendUnavailable,
    ConnectFailed,
    ConnectionBroken,
    ProtocolError,
    TransportError,
)
from mcpd.protocol.exchange_client import Event, Reply, State, classify, step
from mcpd.protocol.sse import EventDecoder
from mcpd.protocol.versions import MODERN
from mcpd.wire.http_client import Abortable, header_block
from mcpd.wire.http_url import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.config.model import ServerSpec
    from mcpd.protocol.handshake import ServerHello
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.wire.http_client import HttpClient, Response, Url

log = logging.getLogger("mcpd.backends")

GOODBYE: Final = 2.0
"""Seconds for DELETE at the end of a session; a backend that does not answer it forgets the session by
itself."""

DRAIN: Final = 1.0
"""Seconds that a stream may stay open after the response that ends it; then its connection is closed instead
of reused."""

STREAM_WAIT: Final = 0.25
"""Seconds that a new session waits for the backend to answer the first GET before it is used. Many servers put their
questions on that stream, and one that is asked before it is open loses them. A server that sends no head before it has
something to say costs this once a session."""

PROBE: Final = b'{"jsonrpc":"2.0","id":"mcpd-probe","method":"ping"}'
"""Sent when a status leaves open whether the session is known. Our other ids are numbers, so this one is
free."""

UNKNOWN_SESSION: Final = frozenset({400, 404})
"""What servers answer for a session that they do not know: 404 as the specification has it, 400 as official
examples do."""


class HttpCarrier:
    """Moves the messages of one link. Tasks that outlive a call (draining a stream) run in the link's
    nursery.
    """

    def __init__(
        self, spec: ServerSpec, client: HttpClient, link: Link, nursery: trio.Nursery, message_max: int
    ) -> None:
        assert spec.url is not None
        self.shared = False
        self._spec = spec
        self._client = client
        self._link = link
        self._message_max = message_max
        self._url: Url = parse_url(spec.url)
        self._base = header_block(
            [
                *spec.headers.items(),
                ("Content-Type", "application/json"),
                ("Accept", "application/json, text/event-stream"),
            ]
        )
        self._headers = self._base
        self._session: bytes | None = None
        self._nursery = nursery

    # ---- Carrier -------------------------------------------------------------------------------------------

    async def carry(self, waiter: Waiter, parts: tuple[Buffer, ...]) -> Message:
        handle = Abortable()
        waiter.abort = handle.abort
        try:
            for _redirect in range(REDIRECTS_MAX + 1):
                # What goes out now: another task may open a new session before the answer is there.
                headers = self._headers + waiter.headers
                has_session = self._session is not None
                response = await self._client.request(self._url, b"POST", headers, parts, handle=handle)
                kind = response.headers.get(b"content-type", b"")
                reply = classify(response.status, kind, expects_response=True, has_session=has_session)
                if waiter.method == "initialize" and reply in (Reply.JSON, Reply.STREAM):
                    self._session = response.headers.get(b"mcp-session-id")
                if reply is Reply.JSON:
                    body = response.whole(self._message_max)
                    return self._message(await response.read(self._message_max) if body is None else body, waiter)
                if reply is Reply.STREAM:
                    return await self._follow(waiter, response, handle)
                if reply is Reply.REDIRECT and (target := redirect_target(self._url, response)) is not None:
                    self._url = target
                    await dispose(response)
                    continue
                return await self._refused(waiter, reply, response, headers if has_session else None)
        except TransportError as error:
            if waiter.outcome is not None:
                return waiter.result()
            failure = self.named(error)
            if isinstance(error, ConnectFailed) and self._link.in_flight <= 1:
                # Nobody is served any more, and without a GET stream nothing else would notice.
                self._link.fail(failure)
            raise failure from None
        finally:
            waiter.abort = None
        raise BackendUnavailable(
            self._spec.name, "it redirects in circles", remedy=f"check servers.{self._spec.name}.url"
        )

    async def post(self, parts: tuple[Buffer, ...]) -> None:
        try:
            await dispose(await self._client.request(self._url, b"POST", self._headers, parts))
        except TransportError as error:
            raise self.named(error) from None

    def forgo(self, waiter: Waiter) -> None:
        """The task that carries the request is being cancelled or settled, which ends its I/O."""

    def opened(self, hello: ServerHello) -> None:
        if hello.version >= MODERN:
            return  # each request says it all by itself
        pairs = [("MCP-Protocol-Version", hello.version.text)]
        if self._session is not None:
            pairs.append(("Mcp-Session-Id", self._session.decode("latin-1")))
        self._headers = self._base + header_block(pairs)

    def reset(self) -> None:
        self._session = None
        self._headers = self._base

    # ---- a request -----------------------------------------------------------------------------------------

    async def _follow(self, waiter: Waiter, response: Response, handle: Abortable) -> Message:
        """Read a stream to the response, across reconnections. The state says what may come next."""
        state = step(State.POSTED, Event.STREAM)
        at = Position()
        while True:
            answer = await self._read(waiter, response, at)
            if answer is not None:
                step(state, Event.RESPONSE)
                return answer
            if at.last_id is None:
                step(state, Event.END)
                raise ConnectionBroken("the event stream ended without the response")
            state = step(state, Event.END_RESUMABLE)
            if waiter.call is not None:
                waiter.call.part()
            while state is not State.READING:
                await self._pause(waiter, at.pause())
                state = step(state, Event.RETRY)
                resumed = await self._resume(at.last_id, handle)
                state = step(state, Event.END_RESUMABLE if resumed is None else Event.STREAM)
                response = resumed or response

    async def _read(self, waiter: Waiter, response: Response, at: Position) -> Message | None:
        """Read until the response, or return None when the stream ends or breaks before it."""
        decoder = EventDecoder(self._message_max)
        resumable = self._link.era is not Era.MODERN  # whatever ids it gives its events
        try:
            while data := await response.receive_some():
                decoder.receive_data(data)
                while (event := decoder.next_event()) is not None:
                    if resumable:
                        at.note(event)
                    answer = self._event(event.data, waiter)
                    if answer is not None:
                        self._release(response)
                        return answer
        except ConnectionBroken:
            if at.last_id is None or waiter.outcome is not None:
                raise
        except BaseException:
            response.close()
            raise
        return None

    async def _pause(self, waiter: Waiter, delay: float) -> None:
        """Wait before resuming, but not beyond the moment in which the outcome is known otherwise."""
        with trio.move_on_after(delay):
            await waiter.wait()
        if waiter.outcome is not None:
            raise ConnectionBroken("settled")

    async def _resume(self, last_id: str, handle: Abortable) -> Response | None:
        """The rest of a stream; None when no connection came about, which may pass."""
        try:
            response = await self.get(header_block([("Last-Event-ID", last_id)]), handle)
        except (ConnectFailed, ConnectionBroken):
            if handle.aborted:
                raise
            return None  # asking for the rest of a stream executes nothing, so it may be asked for again
        kind = response.headers.get(b"content-type", b"")
        reply = classify(response.status, kind, expects_response=True, has_session=True)
        if reply is Reply.STREAM:
            return response
        response.close()
        if reply is Reply.BUSY:
            return None
        raise ConnectionBroken(
            f"the event stream ended without the response, and resuming it was answered with HTTP {response.status}"
        )

    def _event(self, data: bytes, waiter: Waiter) -> Message | None:
        """Take one event of a request's stream; the response if it is that. Empty data only carries an id."""
        if not data:
            return None
        found: Message | None = None
        try:
            for message in messages_of(data):
                if message.method is None and found is None and answers(message, waiter):
                    found = message
                else:
                    self._link.receive(message, waiter)
        except ProtocolError as error:
            log.warning("backend=%s event=junk_on_stream reason=%r", self._spec.name, error.message)
        return found

    def _message(self, body: bytes, waiter: Waiter) -> Message:
        """The response in a JSON body."""
        found: Message | None = None
        try:
            for message in messages_of(body):
                if message.method is None and found is None and answers(message, waiter):
                    found = message
                else:
                    self._link.receive(message, waiter)
        except ProtocolError as error:
            reason = f"its answer is not JSON-RPC: {error.message}"
            raise BackendMisbehaved(self._spec.name, reason, remedy="see the server's own log") from None
        if found is None:
            reason = "its answer holds no response to the request"
            raise BackendMisbehaved(self._spec.name, reason, remedy="see the server's own log")
        return found

    async def _refused(self, waiter: Waiter, reply: Reply, response: Response, sent: bytes | None) -> Message:
        """Turn a reply that is no answer into an error, or into the JSON-RPC error that its body holds.

        `sent`: the headers of the request, if they named a session.
        """
        status = response.status
        body = await dispose(response)
        if reply is Reply.SESSION_LOST or (status == 400 and sent and not await self.session_lives(sent)):
            raise SessionLost
        if answered_by_server(waiter.method, reply, status):
            error = error_in(body, waiter)
            if error is not None:
                return error
        raise refusal(self._spec.name, waiter.method, reply, response)

    # ---- beside requests -----------------------------------------------------------------------------------

    async def get(self, more: bytes, handle: Abortable | None = None) -> Response:
        """A GET within the session, with more header lines. Raises: TransportError."""
        return await self._client.request(self._url, b"GET", self._headers + more, handle=handle)

    async def session_lives(self, headers: bytes | None = None) -> bool:
        """Whether the backend knows the session that these headers name: a ping tells, whatever it is
        answered otherwise.

        Raises: TransportError.
        """
        with trio.move_on_after(self._spec.timeouts.list):
            response = await self._client.request(self._url, b"POST", headers or self._headers, PROBE)
            await dispose(response)
            return response.status not in UNKNOWN_SESSION
        return True  # it does not answer at all, which is not what was asked

    # ---- the end -------------------------------------------------------------------------------------------

    async def goodbye(self) -> None:
        """End the session at the backend; bounded, and shielded because it runs when everything is being
        ended.
        """
        if self._session is None:
            return
        with trio.move_on_after(GOODBYE, shield=True):
            try:
                await dispose(await self._client.request(self._url, b"DELETE", self._headers))
            except TransportError as error:
                log.debug("backend=%s event=delete_failed reason=%s", self._spec.name, error)

    @property
    def has_session(self) -> bool:
        """Whether the backend keeps a session; one that does not can be shared by everybody."""
        return self._session is not None

    def _release(self, response: Response) -> None:
        """The response was there; let the stream end by itself, so that the connection can be used again."""
        if response.complete:
            return
        self._nursery.start_soon(_drain, response)

    def named(self, error: TransportError) -> BackendCrashed | BackendUnavailable | BackendMisbehaved:
        """What went wrong below, with the backend's name and a remedy."""
        return named(self._spec.name, error)


async def _drain(response: Response) -> None:
    with trio.move_on_after(DRAIN):
        try:
            while await response.receive_some():
                pass
        except TransportError:
            pass
    response.close()


@asynccontextmanager
async def connect(
    spec: ServerSpec, client: HttpClient, link: Link, nursery: trio.Nursery, *, message_max: int
) -> AsyncIterator[HttpCarrier]:
    """Open a session and keep its GET stream while the block runs; then end it at the backend.

    `nursery` is the link's own. Raises: NotHere, BackendError.
    """
    carrier = HttpCarrier(spec, client, link, nursery, message_max)
    link.attach(carrier)
    try:
        await link.open_within(spec.timeouts.init)
        if link.era is Era.LEGACY:
            listening = Listening(spec.name, carrier, link, message_max)
            nursery.start_soon(listening.run)
            with trio.move_on_after(STREAM_WAIT):
                await listening.tried.wait()
        yield carrier
    finally:
        await carrier.goodbye()
