"""A remote server over HTTP+SSE, the transport of 2024-11-05: one event stream down, POSTs up.

Theory of operation. GET opens the stream; its first event, `endpoint`, names the URL for POSTs. Everything
the backend says comes on the stream, answers included, so a call parks like on a pipe. The stream is the
session: when it ends, the link is lost.

Source: "HTTP with SSE" of 2024-11-05; the endpoint must be of the same origin.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import trio

from mcpd.backends.replies import (
    REDIRECTS_MAX,
    NotHere,
    dispose,
    is_stream,
    messages_of,
    named,
    redirect_target,
    refusal_of_all,
)
from mcpd.errors import (
    BackendCrashed,
    BackendError,
    BackendMisbehaved,
    BackendUnavailable,
    ConnectFailed,
    LimitExceeded,
    ProtocolError,
    TransportError,
)
from mcpd.protocol.sse import EventDecoder
from mcpd.wire.http_client import Abortable, header_block
from mcpd.wire.http_url import Url, parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.config.model import ServerSpec
    from mcpd.protocol.handshake import ServerHello
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.wire.http_client import HttpClient, Response

log = logging.getLogger("mcpd.backends")


class SseCarrier:
    """Moves the messages of one session."""

    def __init__(self, spec: ServerSpec, client: HttpClient, link: Link, endpoint: Url) -> None:
        self._spec = spec
        self._client = client
        self._link = link
        self._endpoint = endpoint
        self.shared = True
        self._base = header_block([*spec.headers.items(), ("Content-Type", "application/json")])
        self._headers = self._base

    async def carry(self, waiter: Waiter, parts: tuple[Buffer, ...]) -> Message:
        # The answer may overtake the reply to its POST, and a deadline must not wait for a POST that hangs.
        handle = Abortable()
        waiter.abort = handle.abort
        try:
            await self._post(parts, handle)
        except BackendError:
            if waiter.outcome is None:
                raise
        finally:
            waiter.abort = None
        return await waiter.wait()

    async def post(self, parts: tuple[Buffer, ...]) -> None:
        await self._post(parts, None)

    async def _post(self, parts: tuple[Buffer, ...], handle: Abortable | None) -> None:
        name = self._spec.name
        try:
            response = await self._client.request(self._endpoint, b"POST", self._headers, parts, handle=handle)
            status = response.status
            await dispose(response)
        except TransportError as error:
            raise named(name, error) from None
        if not 200 <= status < 300:
            failure = BackendUnavailable(name, f"HTTP {status} to a message", remedy="see the server's own log")
            if status in (404, 410):
                self._link.fail(failure)  # it does not know the session; only a new stream gives a new one
            raise failure

    def forgo(self, waiter: Waiter) -> None:
        """Nothing to break off: the stream is shared."""

    def opened(self, hello: ServerHello) -> None:
        # Not asked for by 2024-11-05, but servers that speak later versions on this transport look at it.
        self._headers = self._base + header_block([("MCP-Protocol-Version", hello.version.text)])

    def reset(self) -> None:
        self._headers = self._base


@asynccontextmanager
async def connect(
    spec: ServerSpec, client: HttpClient, link: Link, nursery: trio.Nursery, *, message_max: int
) -> AsyncIterator[SseCarrier]:
    """Open the stream, do the handshake and read the stream while the block runs.

    `nursery` is the link's own. Raises: NotHere: nothing speaks HTTP+SSE here either; BackendError.
    """
    assert spec.url is not None
    url = parse_url(spec.url)
    headers = header_block([*spec.headers.items(), ("Accept", "text/event-stream")])
    decoder = EventDecoder(message_max)
    try:
        with trio.fail_after(spec.timeouts.init):
            url, response = await _get(client, url, headers)
            try:
                endpoint = await _endpoint(spec, url, response, decoder)
            except BaseException:
                response.close()
                raise
    except trio.TooSlowError:
        raise BackendUnavailable(spec.name, f"no endpoint event in {spec.timeouts.init:g} s") from None
    except ConnectFailed as error:
        raise named(spec.name, error) from None
    except TransportError as error:
        raise BackendUnavailable(spec.name, str(error)) from None
    carrier = SseCarrier(spec, client, link, endpoint)
    try:
        link.attach(carrier)
        nursery.start_soon(_read, spec, response, decoder, link)
        await link.open_within(spec.timeouts.init)
        yield carrier
    finally:
        response.close()


async def _get(client: HttpClient, url: Url, headers: bytes) -> tuple[Url, Response]:
    """The stream, and the URL where it is. Raises: TransportError."""
    for _redirect in range(REDIRECTS_MAX):
        response = await client.request(url, b"GET", headers)
        target = redirect_target(url, response)
        if target is None:
            return url, response
        await dispose(response)
        url = target
    return url, await client.request(url, b"GET", headers)


async def _endpoint(spec: ServerSpec, url: Url, response: Response, decoder: EventDecoder) -> Url:
    """The URL that the first event names. Raises: NotHere, BackendUnavailable, BackendMisbehaved."""
    refused = refusal_of_all(spec.name, response)
    if refused is not None:
        raise refused
    if response.status != 200 or not is_stream(response):
        raise NotHere(
            spec.name,
            f"HTTP {response.status} to GET, no event stream",
            remedy=f"check servers.{spec.name}.url and transport",
        )
    while data := await response.receive_some():
        decoder.receive_data(data)
        while (event := decoder.next_event()) is not None and not event.data:
            pass  # an event that carries an id or a retry time alone
        if event is None:
            continue
        if event.event != "endpoint":
            raise NotHere(spec.name, "its event stream does not begin with an endpoint", remedy="check its url")
        try:
            target = parse_url(urljoin(str(url), event.data.decode("utf-8", "replace").strip()))
        except ValueError as error:
            raise BackendMisbehaved(spec.name, f"its endpoint is no URL: {error}") from None
        if target.origin != url.origin:
            raise BackendMisbehaved(
                spec.name,
                "its endpoint is of another origin, which would receive our credentials",
                remedy="do not use it",
            )
        return target
    raise NotHere(spec.name, "its event stream ended before the endpoint event", remedy="check its url")


async def _read(spec: ServerSpec, response: Response, decoder: EventDecoder, link: Link) -> None:
    """Feed the link from the stream until it ends; then the link is lost."""
    reason = "its event stream ended"
    try:
        data = b""
        while True:
            if data:
                decoder.receive_data(data)
            while (event := decoder.next_event()) is not None:
                if event.data:
                    _take(spec, link, event.data)
            data = await response.receive_some()
            if not data:
                break
    except LimitExceeded as error:
        reason = f"{error} (limits.message)"
    except TransportError as error:
        reason = f"its event stream broke: {error}"
    link.fail(BackendCrashed(spec.name, reason, remedy="it is connected to again; call again"))


def _take(spec: ServerSpec, link: Link, data: bytes) -> None:
    try:
        for message in messages_of(data):
            link.receive(message)
    except ProtocolError as error:
        log.warning("backend=%s event=junk_on_stream reason=%r", spec.name, error.message)
