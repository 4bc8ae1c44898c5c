"""A remote server over Streamable HTTP: every message a POST, answers as JSON or as an event stream.

Theory of operation. A call's own task does its I/O; `protocol.exchange_client` says what a reply means and when a broken stream may
be resumed. A task beside it keeps the GET stream open, on which the backend says what belongs to no request.

Rules.
1. A message on a request's own stream belongs to that request.
2. The session id comes from the answer to initialize alone, and goes with everything after it, with the version agreed.
3. Redirects are followed inside the same origin only: headers may hold credentials.

Source: "Streamable HTTP" of 2025-03-26 to 2025-11-25.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends.link import SessionLost
from mcpd.errors import (
    BackendCrashed,
    BackendMisbehaved,
    BackendUnavailable,
    ConnectFailed,
    ConnectionBroken,
    LimitExceeded,
    ProtocolError,
    TransportError,
)
from mcpd.protocol import jsonrpc
from mcpd.protocol.exchange_client import Event, Reply, State, classify, retry_delay, step
from mcpd.protocol.sse import EventDecoder
from mcpd.wire.http_client import Abortable, header_block
from mcpd.wire.http_url import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.config.model import ServerSpec
    from mcpd.protocol.handshake import ServerHello
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.protocol.sse import Event as ServerSentEvent
    from mcpd.wire.http_client import HttpClient, Response, Url

log = logging.getLogger("mcpd.backends")

GOODBYE: Final = 2.0
"""Seconds for DELETE at the end of a session; a backend that does not answer it forgets the session by itself."""

DRAIN: Final = 1.0
"""Seconds that a stream may stay open after the response that ends it; then its connection is closed instead of reused."""

REDIRECTS_MAX: Final = 3

ERROR_BODY_MAX: Final = 64 * 1024
"""Bytes of an error's body that are read to find a JSON-RPC error in it."""


class NotHere(BackendUnavailable):
    """Nothing speaks Streamable HTTP at this URL; an older HTTP+SSE server might."""


class Position:
    """How far a stream was read, and when its server wants to be asked for the rest."""

    __slots__ = ("last_id", "retry")

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry: int | None = None

    def note(self, event: ServerSentEvent) -> None:
        """Remember what an event says about resuming."""
        self.last_id = event.id or self.last_id
        self.retry = event.retry if event.retry is not None else self.retry


class HttpCarrier:
    """Moves the messages of one session. Tasks that outlive a call (draining a stream) run in the link's nursery."""

    def __init__(
        self, spec: ServerSpec, client: HttpClient, link: Link, nursery: trio.Nursery, message_max: int
    ) -> None:
        assert spec.url is not None
        self._spec = spec
        self._client = client
        self._link = link
        self._message_max = message_max
        self._url: Url = parse_url(spec.url)
        self._base = header_block(
            [*spec.headers.items(), ("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
        )
        self._headers = self._base
        self._session: bytes | None = None
        self._nursery = nursery

    # ---- Carrier ------------------------------------------------------------------------------------------------------

    async def carry(self, waiter: Waiter, parts: tuple[Buffer, ...]) -> Message:
        handle = Abortable()
        waiter.abort = handle.abort
        try:
            return await self._exchange(waiter, parts, handle)
        except TransportError as error:
            if waiter.outcome is not None:
                return waiter.result()
            raise self._named(error) from None
        finally:
            waiter.abort = None

    async def post(self, parts: tuple[Buffer, ...]) -> None:
        try:
            response = await self._client.request(self._url, b"POST", self._headers, parts)
            await self._dispose(response)
        except TransportError as error:
            raise self._named(error) from None

    def forgo(self, waiter: Waiter) -> None:
        """The task that carries the request is being cancelled or settled, which ends its I/O."""

    def opened(self, hello: ServerHello) -> None:
        pairs = [("MCP-Protocol-Version", hello.version.text)]
        if self._session is not None:
            pairs.append(("Mcp-Session-Id", self._session.decode("latin-1")))
        self._headers = self._base + header_block(pairs)

    def reset(self) -> None:
        self._session = None
        self._headers = self._base

    # ---- a request ----------------------------------------------------------------------------------------------------

    async def _exchange(self, waiter: Waiter, parts: tuple[Buffer, ...], handle: Abortable) -> Message:
        for _redirect in range(REDIRECTS_MAX):
            response = await self._client.request(self._url, b"POST", self._headers, parts, handle=handle)
            reply = classify(
                response.status,
                response.headers.get(b"content-type", b""),
                expects_response=True,
                has_session=self._session is not None,
            )
            if reply is Reply.JSON:
                if waiter.method == "initialize":
                    self._session = response.headers.get(b"mcp-session-id")
                return self._message(await response.read(self._message_max), waiter)
            if reply is Reply.STREAM:
                if waiter.method == "initialize":
                    self._session = response.headers.get(b"mcp-session-id")
                return await self._follow(waiter, response, handle)
            if reply is Reply.REDIRECT and await self._redirected(response):
                continue
            return await self._refused(waiter, reply, response)
        raise BackendUnavailable(self._spec.name, "it redirects in circles", remedy=f"check servers.{self._spec.name}.url")

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
                await self._pause(waiter, retry_delay(at.retry))
                state = step(state, Event.RETRY)
                resumed = await self._resume(at.last_id, handle)
                state = step(state, Event.END_RESUMABLE if resumed is None else Event.STREAM)
                response = resumed or response

    async def _read(self, waiter: Waiter, response: Response, at: Position) -> Message | None:
        """Read until the response, or return None when the stream ends or breaks before it."""
        decoder = EventDecoder(self._message_max)
        try:
            while data := await response.receive_some():
                decoder.receive_data(data)
                while (event := decoder.next_event()) is not None:
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
        headers = self._headers + header_block([("Last-Event-ID", last_id)])
        try:
            response = await self._client.request(self._url, b"GET", headers, handle=handle)
        except ConnectFailed:
            if handle.aborted:
                raise
            return None
        kind = response.headers.get(b"content-type", b"")
        if classify(response.status, kind, expects_response=True, has_session=True) is Reply.STREAM:
            return response
        response.close()
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
                if message.method is None and found is None and _answers(message, waiter):
                    found = message
                else:
                    self._link.receive(message, waiter)
        except ProtocolError as error:
            log.warning("backend=%s event=junk_on_stream reason=%r", self._spec.name, error.message)
        return found

    def _message(self, body: bytes, waiter: Waiter) -> Message:
        """The response in a JSON body. An error is correlated by the POST it answers: servers send odd ids with it."""
        try:
            for message in messages_of(body):
                if message.method is None:
                    return message
                self._link.receive(message, waiter)
        except ProtocolError as error:
            raise BackendMisbehaved(self._spec.name, f"its answer is not JSON-RPC: {error.message}") from None
        raise BackendMisbehaved(self._spec.name, "its answer holds no response")

    async def _refused(self, waiter: Waiter, reply: Reply, response: Response) -> Message:
        """Turn a reply that is no answer into an error, or into the JSON-RPC error that its body holds for this request."""
        name = self._spec.name
        status = response.status
        retry_after = _seconds(response.headers.get(b"retry-after"))
        body = await self._dispose(response)
        if reply is not Reply.SESSION_LOST or status == 400:
            answer = _own_error(body, waiter)
            if answer is not None:
                return answer
        where = f"HTTP {status}"
        match reply:
            case Reply.SESSION_LOST:
                raise SessionLost
            case Reply.NOT_HERE if waiter.method == "initialize":
                raise NotHere(name, where, remedy=f"check servers.{name}.url", needs_operator=status == 404)
            case Reply.UNAUTHORIZED:
                raise BackendUnavailable(
                    name, f"{where}: it wants credentials", remedy=f"set servers.{name}.headers", needs_operator=True
                )
            case Reply.GONE:
                raise BackendUnavailable(name, f"{where}: it is gone for good", remedy="remove it", needs_operator=True)
            case Reply.BUSY:
                raise BackendUnavailable(name, f"{where}: it is busy", remedy="try later", retry_after=retry_after)
            case Reply.REDIRECT:
                raise BackendUnavailable(
                    name, f"{where}: it redirects to another origin", remedy=f"set servers.{name}.url to the final URL"
                )
            case Reply.GARBAGE:
                kind = response.headers.get(b"content-type", b"nothing").decode("latin-1")
                raise BackendMisbehaved(name, f"{where} with {kind} is not an answer", remedy=f"check servers.{name}.url")
            case _:
                raise BackendUnavailable(name, f"{where} to {waiter.method}", retry_after=retry_after)

    async def _redirected(self, response: Response) -> bool:
        location = response.headers.get(b"location", b"").decode("latin-1")
        await self._dispose(response)
        if response.status not in (301, 302, 307, 308) or not location:
            return False
        try:
            url = parse_url(location if "://" in location else f"{_base_of(self._url)}{location}")
        except ValueError:
            return False
        if url.origin != self._url.origin:
            return False
        self._url = url
        return True

    # ---- the GET stream -----------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Hear what belongs to no request, for as long as the session lives. A backend without a GET stream ends this."""
        at = Position()
        while True:
            headers = self._headers
            if at.last_id is not None:
                headers += header_block([("Last-Event-ID", at.last_id)])
            try:
                response = await self._client.request(self._url, b"GET", headers)
                reply = classify(
                    response.status,
                    response.headers.get(b"content-type", b""),
                    expects_response=True,
                    has_session=self._session is not None,
                )
                if reply is not Reply.STREAM:
                    response.close()
                    return
                try:
                    decoder = EventDecoder(self._message_max)
                    while data := await response.receive_some():
                        decoder.receive_data(data)
                        while (event := decoder.next_event()) is not None:
                            at.note(event)
                            self._unrelated(event.data)
                finally:
                    response.close()
            except ConnectFailed as error:
                self._link.fail(self._named(error))
                return
            except TransportError as error:
                log.debug("backend=%s event=get_stream_broken reason=%s", self._spec.name, error)
            await trio.sleep(retry_delay(at.retry))

    def _unrelated(self, data: bytes) -> None:
        if not data:
            return
        try:
            for message in messages_of(data):
                self._link.receive(message)
        except ProtocolError as error:
            log.warning("backend=%s event=junk_on_stream reason=%r", self._spec.name, error.message)

    # ---- the end ------------------------------------------------------------------------------------------------------

    async def goodbye(self) -> None:
        """End the session at the backend; bounded, and shielded because it runs when everything is being ended."""
        if self._session is None:
            return
        with trio.move_on_after(GOODBYE, shield=True):
            try:
                response = await self._client.request(self._url, b"DELETE", self._headers)
                await self._dispose(response)
            except TransportError as error:
                log.debug("backend=%s event=delete_failed reason=%s", self._spec.name, error)

    @property
    def has_session(self) -> bool:
        """Whether the backend keeps a session; one that does not can be shared by everybody."""
        return self._session is not None

    async def _dispose(self, response: Response) -> bytes:
        try:
            return await response.read(ERROR_BODY_MAX)
        except (ConnectionBroken, LimitExceeded):
            return b""
        finally:
            response.close()

    def _release(self, response: Response) -> None:
        """The response was there; let the stream end by itself, so that the connection can be used again."""
        if response.complete:
            return
        self._nursery.start_soon(_drain, response)

    def _named(self, error: TransportError) -> BackendCrashed | BackendUnavailable | BackendMisbehaved:
        name = self._spec.name
        if isinstance(error, ConnectFailed):
            return BackendUnavailable(name, str(error), remedy=f"is it running? check servers.{name}.url")
        if isinstance(error, LimitExceeded):
            return BackendMisbehaved(name, str(error), remedy="raise limits.message")
        return BackendCrashed(name, f"the connection broke: {error}", remedy="the call may have been executed")


async def _drain(response: Response) -> None:
    with trio.move_on_after(DRAIN):
        try:
            while await response.receive_some():
                pass
        except TransportError:
            pass
    response.close()


def messages_of(data: bytes) -> list[Message]:
    """The messages of one body or event: one, or those of an array. Raises: ProtocolError."""
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    if jsonrpc.is_array(data):
        return [message for message in jsonrpc.decode_many(data) if isinstance(message, jsonrpc.Message)]
    return [jsonrpc.decode(data)]


def _answers(message: Message, waiter: Waiter) -> bool:
    """Whether a response on the request's own stream is the request's: by its id, or an error that could not read one."""
    id = (message.id or b"null").strip(b'"')
    return id == b"%d" % waiter.id or ("error" in message.members and not id.isdigit())


def _own_error(body: bytes, waiter: Waiter) -> Message | None:
    """The JSON-RPC error in the body of a 4xx, when it names this request."""
    try:
        message = jsonrpc.decode(body)
    except ProtocolError:
        return None
    return message if message.id == b"%d" % waiter.id and "error" in message.members else None


def _seconds(value: bytes | None) -> float | None:
    return float(value) if value is not None and value.strip().isdigit() and len(value) < 9 else None


def _base_of(url: Url) -> str:
    return f"{url.scheme}://{url.authority.decode()}"


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
        await open_within(spec, link)
        nursery.start_soon(carrier.listen)
        yield carrier
    finally:
        await carrier.goodbye()


async def open_within(spec: ServerSpec, link: Link) -> None:
    """Do the handshake within its time. Raises: BackendError."""
    try:
        with trio.fail_after(spec.timeouts.init):
            await link.open()
    except trio.TooSlowError:
        raise BackendUnavailable(
            spec.name,
            f"no answer to initialize in {spec.timeouts.init:g} s",
            remedy=f"raise servers.{spec.name}.timeouts.init if it starts slowly",
        ) from None
    except SessionLost:
        raise BackendUnavailable(spec.name, "it answers initialize with HTTP 404") from None
