"""The HTTP/1.1 client: a pool of keep-alive connections per origin.

Rules:

1. Nothing is ever sent twice: a connection that breaks after something was sent raises ConnectionBroken, and
   whoever knows whether the call may be repeated decides. `fresh=True` asks for a connection that was not
   used before.
2. A connection goes back to the pool only after its answer was read to the end with nothing left over, and is
   looked at (MSG_PEEK) before it is used again.
3. No cancel scope, lock or task per request on a connection that exists; `Abortable` ends a request from
   outside instead. Waiting for a free connection, and connecting, sit in one scope, which `Abortable`
   cancels.
4. Redirects are not followed: status and Location are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from mcpd.errors import ConnectFailed, ConnectionBroken
from mcpd.wire.http_head import header_block
from mcpd.wire.http_limits import ClientLimits
from mcpd.wire.http_link import connect
from mcpd.wire.http_pool import Pool
from mcpd.wire.http_reader import RECEIVE_SIZE
from mcpd.wire.http_request import Buffer, byte_count
from mcpd.wire.http_response import Abortable, Response
from mcpd.wire.http_url import Url, parse_url
from mcpd.wire.outgoing import JOIN_MAX
from mcpd.wire.tls import client_context

if TYPE_CHECKING:
    import ssl

    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_link import Link

__all__ = ["Abortable", "ClientLimits", "HttpClient", "Response", "Url", "header_block", "parse_url"]

ENCRYPTED = frozenset({"https", "wss"})

LENGTHLESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})
"""Methods whose empty body is not announced (RFC 9110 8.6)."""


@dataclass(frozen=True, slots=True)
class HttpClientStatistics:
    """Connections now, and requests since the start."""

    connections: int
    idle: int
    waiting: int
    requests: int
    reused: int
    connects: int


class HttpClient:
    """Requests to any number of origins, connections kept for each."""

    def __init__(
        self, *, limits: ClientLimits | None = None, tls: ssl.SSLContext | None = None, deadlines: Deadlines
    ) -> None:
        self.limits = limits or ClientLimits()
        self._tls = tls
        self._deadlines = deadlines
        self._pools: dict[tuple[str, str, int], Pool] = {}
        self._url: Url | None = None
        self._pool: Pool | None = None
        """The pool of the URL that was asked last: most clients of this class ask one only."""
        self._closed = False
        self._requests = 0

    def adjust(self, limits: ClientLimits) -> None:
        """Go by other limits: what is answered from now on, and how many connections there may be."""
        self.limits = limits
        for pool in self._pools.values():
            pool.limits = limits

    async def request(
        self,
        url: Url,
        method: bytes,
        headers: bytes,
        body: tuple[Buffer, ...] | bytes = b"",
        *,
        fresh: bool = False,
        handle: Abortable | None = None,
    ) -> Response:
        """Send one request and wait for the head of its answer; 1xx answers are skipped.

        `headers` is a block of lines as `header_block` makes it, without Host and Content-Length.

        Raises: ConnectFailed, when nothing was sent; ConnectionBroken; LimitExceeded, for the head.
        Cancellation: closes the connection.
        """
        pool = self._pool
        if pool is None or url is not self._url:
            pool = self._pools.get(url.origin) or self._open_pool(url)
            self._url, self._pool = url, pool
        response = Response(pool, self.limits)
        if handle is not None:
            if handle.aborted:
                raise ConnectFailed("aborted by mcpd before it was sent")
            handle.attach(response)
        link = None if fresh else pool.reuse()
        if link is None:
            link = await response.acquire(fresh=fresh)
        self._requests += 1
        if type(body) is bytes:
            parts: tuple[Buffer, ...] = (body,)
            size = len(body)
        else:
            parts = body  # type: ignore[assignment]
            size = byte_count(parts)
        length = b"Content-Length: %d\r\n" % size if size or method not in LENGTHLESS else b""
        top = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (method, url.target, url.authority, headers, length)
        try:
            response.attach(link)
            size += len(top)
            parts = (top, *parts)
            if size <= JOIN_MAX:
                # A small request goes out at once and whole nearly always; only what is left over is waited for.
                text = b"".join(parts)
                sent = link.send_nowait(text)
                parts, size = (memoryview(text)[sent:],), size - sent
            if size:
                await link.send(parts, size)
            data = await link.receive(RECEIVE_SIZE)
            if not response.take_head(link, method, data):
                await response.parse_head(link, method, data)
        except ConnectionBroken as error:
            response.close()
            raise ConnectionBroken(f"{url.host} port {url.port}: {error}") from None
        except BaseException:
            response.close()
            raise
        return response

    async def open_link(self, url: Url) -> Link:
        """A connection of its own to the origin of `url`, for a protocol that begins as HTTP. The caller closes it.

        Raises: ConnectFailed
        """
        if self._closed:
            raise ConnectFailed("mcpd is stopping")
        context = await self._context() if url.scheme in ENCRYPTED else None
        return await connect(url, self.limits.connect_timeout, context, _keep)

    async def aclose(self) -> None:
        """Close every connection; whoever waits for one gets an error, and new requests fail."""
        self._closed = True
        self._pool = None
        for pool in self._pools.values():
            pool.close()
        await trio.lowlevel.checkpoint_if_cancelled()

    def statistics(self) -> HttpClientStatistics:
        """Sums over all origins."""
        pools = self._pools.values()
        return HttpClientStatistics(
            connections=sum(pool.count for pool in pools),
            idle=sum(len(pool.idle) for pool in pools),
            waiting=sum(len(pool.waiters) for pool in pools),
            requests=self._requests,
            reused=sum(pool.reused for pool in pools),
            connects=sum(pool.connects for pool in pools),
        )

    def _open_pool(self, url: Url) -> Pool:
        """Pools are never forgotten: origins come from the configuration, so there are few."""
        if self._closed:
            raise ConnectFailed("mcpd is stopping")
        pool = Pool(url, limits=self.limits, deadlines=self._deadlines, context=self._context)
        self._pools[url.origin] = pool
        return pool

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            # In a thread: it reads the system's certificates, tens of milliseconds.
            self._tls = await trio.to_thread.run_sync(client_context)
        return self._tls


def _keep(link: Link) -> None:
    """A connection of its own is not in a pool, which would end it when it is idle."""
