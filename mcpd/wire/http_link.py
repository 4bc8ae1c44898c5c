"""One connection to an origin, plain or TLS, behind the same few methods; and how it is made."""

from __future__ import annotations

import math
import os
import socket
from typing import TYPE_CHECKING, Protocol

import trio

from mcpd import failures
from mcpd.errors import ConnectFailed, ConnectionBroken
from mcpd.wire.outgoing import JOIN_MAX, PARTS_MAX

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from mcpd.wire.http_request import Buffer
    from mcpd.wire.http_url import Url


class Link(Protocol):
    """What the client asks of a connection. It is also an entry of `Deadlines` while it is idle."""

    deadline: float
    idle: bool
    used: bool
    closed: bool
    at_expiry: Callable[[Link], None]

    def send_nowait(self, data: bytes) -> int:
        """Bytes that could be sent at once. Raises: ConnectionBroken"""

    async def send(self, parts: tuple[Buffer, ...], size: int) -> None:
        """Send everything. Raises: ConnectionBroken"""

    async def receive(self, most: int) -> bytes:
        """At least a byte; b"" at the end. Raises: ConnectionBroken"""

    def is_stale(self) -> bool:
        """Whether an idle connection was closed, or said something nobody asked for."""

    def close(self) -> None:
        """Close at once; a task that waits here gets ConnectionBroken. Nothing happens the second time."""

    def expire(self) -> None:
        """Its idle time is over, or it is in use."""


class _Base:
    def __init__(self, at_expiry: Callable[[Link], None]) -> None:
        self.deadline = math.inf
        self.idle = False
        self.used = False
        self.closed = False
        self.at_expiry = at_expiry


class PlainLink(_Base):
    """A raw non-blocking socket: half the cost of trio's streams."""

    def __init__(self, sock: socket.socket, at_expiry: Callable[[Link], None]) -> None:
        super().__init__(at_expiry)
        self._sock = sock

    def send_nowait(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except (OSError, ValueError) as error:
            raise ConnectionBroken(_reason("sending failed", error, self.closed)) from None

    async def send(self, parts: tuple[Buffer, ...], size: int) -> None:
        sock = self._sock
        try:
            views = [memoryview(part).cast("B") for part in parts if part]
            first = 0
            while first < len(views):
                try:
                    sent = sock.sendmsg(views[first : first + PARTS_MAX])
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(sock)
                    continue
                while first < len(views) and sent >= len(views[first]):
                    sent -= len(views[first])
                    first += 1
                if sent:
                    views[first] = views[first][sent:]
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise ConnectionBroken(_reason("sending failed", error, self.closed)) from None

    async def receive(self, most: int) -> bytes:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                try:
                    return self._sock.recv(most)
                except BlockingIOError:
                    continue
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise ConnectionBroken(_reason("receiving failed", error, self.closed)) from None

    def is_stale(self) -> bool:
        return _is_readable(self._sock)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def expire(self) -> None:
        self.at_expiry(self)


class TlsLink(_Base):
    """trio's TLS stream over its socket stream."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], at_expiry: Callable[[Link], None]) -> None:
        super().__init__(at_expiry)
        self._stream = stream

    def send_nowait(self, data: bytes) -> int:
        return 0  # a record is encrypted whole, and trio's stream sends it by waiting

    async def send(self, parts: tuple[Buffer, ...], size: int) -> None:
        try:
            if size <= JOIN_MAX:
                await self._stream.send_all(b"".join(parts))
            else:
                for part in parts:
                    await self._stream.send_all(part)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionBroken(_reason("sending failed", error, self.closed)) from None

    async def receive(self, most: int) -> bytes:
        try:
            return bytes(await self._stream.receive_some(most))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionBroken(_reason("receiving failed", error, self.closed)) from None

    def is_stale(self) -> bool:
        # A record that OpenSSL has not looked at yet is not seen here; only a backend that talks out of turn
        # has one, and it harms its own next answer.
        sock = self._stream.transport_stream.socket
        return bool(self._stream.pending()) or _is_readable(sock)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            # Without close_notify: it would need a task, and HTTP's own framing says whether an answer was
            # whole.
            self._stream.transport_stream.socket.close()

    def expire(self) -> None:
        self.at_expiry(self)


def _is_readable(sock: socket.socket | trio.socket.SocketType) -> bool:
    """Data, end or error: an idle connection should have none of them."""
    try:
        if isinstance(sock, socket.socket):
            sock.recv(1, socket.MSG_PEEK)
            return True
        fd = sock.fileno()
        if fd < 0:
            return True
        with socket.socket(fileno=os.dup(fd)) as plain:
            plain.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def _reason(what: str, error: BaseException, closed: bool) -> str:
    if closed:
        return "aborted by mcpd"
    cause = error.__cause__ or error
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause) or type(cause).__name__
    return f"{what}: {text}"


async def connect(url: Url, timeout: float, context: ssl.SSLContext | None, at_expiry: Callable[[Link], None]) -> Link:
    """A new connection to the URL's origin.

    Raises: ConnectFailed, with the reason and what to check.
    """
    where = f"{url.host} port {url.port}"
    stage = "connecting"
    with trio.move_on_after(timeout):
        try:
            tcp = await trio.open_tcp_stream(url.host, url.port)
        except (OSError, UnicodeError) as error:  # the latter for a name that DNS cannot hold
            why = failures.of_connect(error)
            raise ConnectFailed(f"cannot connect to {where}: {why.reason}", kind=why.kind, remedy=why.remedy) from None
        if context is None:
            sock = socket.socket(fileno=tcp.socket.detach())
            sock.setblocking(False)
            return PlainLink(sock, at_expiry)
        stage = "TLS handshake"
        stream = trio.SSLStream(tcp, context, server_hostname=url.host, https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            tcp.socket.close()
            why = failures.of_tls(error)
            raise ConnectFailed(f"TLS with {where} failed: {why.reason}", kind=why.kind, remedy=why.remedy) from None
        except BaseException:
            tcp.socket.close()
            raise
        return TlsLink(stream, at_expiry)
    raise ConnectFailed(
        f"cannot connect to {where}: {stage} took over {timeout:g} s",
        kind=failures.Kind.CONNECT_TIMED_OUT,
        remedy="is a firewall in between?",
    )
