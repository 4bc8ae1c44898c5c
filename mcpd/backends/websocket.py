"""A remote server over a WebSocket: one message a text frame, both ways on one connection.

Theory of operation. The connection is the session: a call parks as on a pipe, and when the connection ends, the link is
lost and the restart policy says when to connect again. The server's headers go with the request for the upgrade, and
nowhere but to its own origin.

Source: RFC 6455; "Custom Transports" of every version; the rules of messages are those of "stdio".
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import trio

from mcpd.backends.replies import REDIRECTS, REDIRECTS_MAX, messages_of, named, refusal_of_all
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
from mcpd.wire.http_url import WEBSOCKET, Url, parse_url
from mcpd.wire.websocket import Terms, WebSocket, request_upgrade
from mcpd.wire.websocket_handshake import HandshakeRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.config.model import Secrets, ServerSpec
    from mcpd.protocol.handshake import ServerHello
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_client import HttpClient

log = logging.getLogger("mcpd.backends")

SUBPROTOCOL: Final = "mcp"

PING: Final = 15.0
"""Seconds between pings: what is between us cuts a silent connection after 30 to 125 s. A server that is busy with a
call may not answer them, so it has `timeouts.call_idle` for that."""

QUEUE_MAX: Final = 4 << 20
"""Unsent bytes toward one server before those who need no answer wait for it to read."""

JUNK_SHOWN: Final = 20
"""Messages of one connection that could not be read and are logged one by one."""

_SAME = {"http": "ws", "https": "wss"}
"""How a server that thinks in HTTP names its own origin in a redirect."""


class SocketEnded(BackendCrashed):
    """The connection ended, by itself or by the server."""


class WebSocketCarrier:
    """Moves the messages of one connection."""

    shared = True

    def __init__(self, name: str, socket: WebSocket, link: Link, secrets: Secrets) -> None:
        self._name = name
        self._socket = socket
        self._link = link
        self._secrets = secrets

    def carry(self, waiter: Waiter, parts: tuple[Buffer, ...]) -> Awaitable[Message]:
        # What cannot be sent yet is queued: a wait for room here would outlast the deadline.
        try:
            self._socket.write(b"".join(parts))
        except TransportError as error:
            return self._refuse(error)
        return waiter.wait()

    async def _refuse(self, error: TransportError) -> Message:
        raise self._refusal(error) from None

    async def post(self, parts: tuple[Buffer, ...]) -> None:
        try:
            self._socket.write(b"".join(parts))
            if self._socket.queued > QUEUE_MAX:
                await self._socket.room(QUEUE_MAX)
        except TransportError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: TransportError) -> Exception:
        if self._socket.failure is None:
            return BackendUnavailable(self._name, str(error), remedy="it hangs, or is called faster than it works")
        self.lost(self._socket.failure)
        return self._link.reason or error

    def lost(self, error: TransportError) -> None:
        """The connection has ended: everybody who waits for the server is told why."""
        if isinstance(error, LimitExceeded):
            self._link.fail(BackendMisbehaved(self._name, str(error), remedy="raise limits.message"))
        else:
            reason = f"its connection ended: {self._secrets.redact(str(error))}"
            self._link.fail(SocketEnded(self._name, reason, remedy="it is connected to again; call again"))

    def forgo(self, waiter: Waiter) -> None:
        """Nothing to break off: the connection is shared."""

    def opened(self, hello: ServerHello) -> None:
        """Messages carry nothing of the handshake."""

    def reset(self) -> None:
        """There is no session but the connection."""


@asynccontextmanager
async def connect(
    spec: ServerSpec,
    client: HttpClient,
    link: Link,
    nursery: trio.Nursery,
    *,
    message_max: int,
    deadlines: Deadlines,
    secrets: Secrets,
) -> AsyncIterator[WebSocketCarrier]:
    """Connect, open the link and read while the block runs; then take leave.

    `nursery` is the link's own. Raises: BackendError.
    """
    init = spec.timeouts.init
    terms = Terms(message_max, "limits.message", PING, max(PING, spec.timeouts.call_idle), deadlines)
    try:
        with trio.fail_after(init):
            socket = await _open(spec, client, nursery, terms)
    except trio.TooSlowError:
        reason = f"its handshake was not done in {init:g} s"
        raise BackendUnavailable(spec.name, reason, remedy=f"check servers.{spec.name}.url") from None
    carrier = WebSocketCarrier(spec.name, socket, link, secrets)
    try:
        link.attach(carrier)
        nursery.start_soon(_read, spec.name, carrier, socket, link)
        await link.open_within(init)
        yield carrier
    finally:
        # Shielded inside, and bounded.
        await socket.aclose()


async def _open(spec: ServerSpec, client: HttpClient, nursery: trio.Nursery, terms: Terms) -> WebSocket:
    """A WebSocket that is open; it lives in the nursery. Raises: BackendError."""
    assert spec.url is not None
    url: Url | None = parse_url(spec.url, WEBSOCKET)
    for _redirect in range(REDIRECTS_MAX + 1):
        assert url is not None
        try:
            socket = request_upgrade(await client.open_link(url), url, spec.headers, SUBPROTOCOL, terms)
            await nursery.start(socket.run)
            return socket
        except HandshakeRefused as refused:
            url = _redirect_target(url, refused)
            if url is None:
                raise _unavailable(spec, refused) from None
        except ConnectFailed as error:
            raise named(spec.name, error) from None
        except TransportError as error:
            raise BackendUnavailable(spec.name, str(error), remedy=f"check servers.{spec.name}.url") from None
    raise BackendUnavailable(spec.name, "it redirects in circles", remedy=f"check servers.{spec.name}.url")


def _redirect_target(url: Url, refused: HandshakeRefused) -> Url | None:
    """Where a redirect leads, if it may be followed: inside the same origin, as our headers may hold credentials."""
    location = refused.headers.get(b"location", b"").decode("latin-1")
    if refused.status not in REDIRECTS or not location:
        return None
    scheme, separator, rest = urljoin(str(url), location).partition("://")
    try:
        target = parse_url(_SAME.get(scheme, scheme) + separator + rest, WEBSOCKET)
    except ValueError:
        return None
    return target if target.origin == url.origin else None


def _unavailable(spec: ServerSpec, refused: HandshakeRefused) -> BackendError:
    """What a status means that is no 101."""
    name, where = spec.name, f"HTTP {refused.status}"
    failure = refusal_of_all(name, refused)
    if failure is not None:
        return failure
    if refused.status in REDIRECTS:
        remedy = f"set servers.{name}.url to the final URL"
        return BackendUnavailable(name, f"{where}: it redirects to another origin", remedy=remedy)
    return BackendUnavailable(
        name, f"{where} to the request for a WebSocket", remedy=f"check servers.{name}.url and transport"
    )


async def _read(name: str, carrier: WebSocketCarrier, socket: WebSocket, link: Link) -> None:
    """Feed the link until the connection ends; then the link is lost."""
    junk = 0
    while True:
        try:
            data = await socket.receive()
        except TransportError as error:
            carrier.lost(error)
            return
        try:
            for message in messages_of(data):
                link.receive(message)
        except ProtocolError as error:
            junk += 1
            if junk <= JUNK_SHOWN:
                log.warning("backend=%s event=junk_on_socket reason=%r", name, error.message)
