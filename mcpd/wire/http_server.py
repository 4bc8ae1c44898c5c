"""The HTTP/1.1 server: accepts connections and serves each in a task of its own."""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from mcpd.wire.credentials import peer_credentials
from mcpd.wire.http_carrying import ConnectionState, capture, take_up
from mcpd.wire.http_connection import JSON, Connection, Handler, error_body
from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_request import CLOSE, Buffer, Request, Stream, status_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mcpd.wire.deadlines import Deadlines

__all__ = ["Buffer", "Handler", "HttpLimits", "HttpServer", "Request", "Stream", "serve_http"]

logger = logging.getLogger(__name__)

ACCEPT_BACKOFF = 0.1
"""Seconds until accept is tried again when the process or the machine is out of something: connections end,
so it passes."""
SETTLE = 1.0
"""Seconds for which a connection is kept after its last answer when the server drains. To close it while its client's
next request is on the way loses that request: for the microseconds that takes, a client that was silent for a second
is as good as silent, and one that is not gets an answer that says that it is the last."""
REQUEST_SIZE = 64 * 1024
"""Bytes of a request that is refused unread."""
COMPLAINT = 1.0
"""Seconds between two lines in the log about refused connections: there may be thousands of them."""
ACCEPT_BATCH = 64
"""Connections taken before the accepting task lets others run."""

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_LISTENER_CLOSED = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


@dataclass(frozen=True, slots=True)
class HttpServerStatistics:
    """Now open, and since the start."""

    connections: int
    accepted: int
    refused: int
    requests: int
    dropped: int
    """Connections whose clients did not read."""
    queued: int
    """Bytes that clients have not read yet."""


class HttpServer:
    """What `serve_http` is doing. Others ask `statistics`, and may `drain` it and have it `leave`."""

    def __init__(
        self,
        handler: Handler,
        *,
        limits: HttpLimits,
        deadlines: Deadlines,
        nursery: trio.Nursery,
        explain: Callable[[int, str], bytes] = error_body,
        descends: Callable[[int, int], bool] | None = None,
    ) -> None:
        self._handler = handler
        self._explain = explain
        self._descends = descends
        self._limits = limits
        self._deadlines = deadlines
        # The nursery is serve_http's own, which this object does not outlive in any useful way.
        self._nursery = nursery
        self._connections: set[Connection] = set()
        self._users: Counter[int] = Counter()
        """How many of them each user has, where that is bounded."""
        self._user: dict[Connection, int] = {}
        self._accepting = trio.CancelScope()
        self._listeners = 0
        self._heard = 0
        self._wanted = trio.Event()
        self._wanted.set()
        self._draining = False
        self._left = False
        self._accepted = 0
        self._refused = 0
        self._complain_from = -math.inf
        self._requests = 0
        self._dropped = 0

    def statistics(self) -> HttpServerStatistics:
        """Connections and requests, now and in all."""
        requests = self._requests + sum(connection.requests for connection in self._connections)
        queued = sum(connection.out.queued for connection in self._connections)
        return HttpServerStatistics(
            len(self._connections), self._accepted, self._refused, requests, self._dropped, queued
        )

    def ailment(self) -> str | None:
        """What is wrong when it should accept connections and somewhere does not; None when all is well."""
        deaf = self._listeners - self._heard
        if deaf <= 0 or self._draining:
            return None
        return f"{deaf} of {self._listeners} listening sockets have nobody who accepts"

    def adjust(self, limits: HttpLimits) -> None:
        """Go by other limits: connections accepted from now on do."""
        self._limits = limits

    def drain(self) -> None:
        """Stop without a client losing anything: accept no more, and have every answer from now on say that it is the
        last of its connection. `leave` ends it, when there is nothing `unsettled` any more.
        """
        self._draining = True
        self.accept_on(False)
        for connection in self._connections:
            connection.draining = True

    def accept_on(self, wanted: bool) -> None:
        """Accept again, or no more: an old request may need a new connection to come to its end."""
        if not wanted:
            self._accepting.cancel()
            if self._wanted.is_set():
                self._wanted = trio.Event()
        elif not self._left:
            self._wanted.set()

    def unsettled(self) -> int:
        """Connections whose clients wait for an answer, or have had one less than SETTLE ago."""
        horizon = trio.current_time() - SETTLE
        return sum(connection.unsettled(horizon) for connection in self._connections)

    def leave(self) -> None:
        """End what lasts, close what is idle now, and the others after their current request; then `serve_http`
        returns.
        """
        self._draining = self._left = True
        self._accepting.cancel()
        self._wanted.set()
        for connection in list(self._connections):
            connection.leave()

    def busy(self) -> int:
        """Connections on which a handler is at work that no other program could go on with."""
        return sum(not each.out.broken and each.lasting is None and capture(each) is None for each in self._connections)

    def part(self) -> int:
        """End what lasts and no other program can go on with; how many there are."""
        lasting = [each.lasting for each in self._connections if each.lasting is not None and capture(each) is None]
        for each in lasting:
            each.leave()
        return len(lasting)

    def capture(self) -> tuple[ConnectionState, ...]:
        """All connections that another program can go on with, as they are now. Changes nothing."""
        states = (capture(connection) for connection in self._connections)
        return tuple(state for state in states if state is not None)

    def take_up(self, states: Iterable[ConnectionState]) -> None:
        """Go on with the connections of another program."""
        for state in states:
            sock = socket.socket(fileno=state.fd)
            sock.setblocking(False)
            self._serve(sock, state)

    async def accept(self, listener: socket.socket) -> None:
        """Accept from one listener until cancelled."""
        try:
            while True:
                await self._accept(listener)
        finally:
            self._heard -= 1

    async def _accept(self, listener: socket.socket) -> None:
        try:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(ACCEPT_BATCH):
                sock, _address = listener.accept()
                self._begin(sock)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _LISTENER_CLOSED:
                raise
            if error.errno in _OUT_OF_RESOURCES:
                logger.warning("event=accept-failed reason=%r retry=%gs", os.strerror(error.errno), ACCEPT_BACKOFF)
                await trio.sleep(ACCEPT_BACKOFF)
            # Anything else is the fate of that one connection (ECONNABORTED, EPROTO, network errors: accept(2)).

    async def accept_all(self, listeners: Sequence[socket.socket]) -> None:
        """Accept from all listeners until it is over."""
        self._listeners = len(listeners)
        while True:
            await self._wanted.wait()
            if self._left:
                return
            if not self._wanted.is_set():
                continue  # it was wanted for a moment
            with trio.CancelScope() as self._accepting:
                async with trio.open_nursery() as nursery:
                    for listener in listeners:
                        self._heard += 1
                        nursery.start_soon(self.accept, listener)

    def _begin(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if len(self._connections) >= self._limits.connections:
            self._refused += 1
            self._refuse(sock, f"all {self._limits.connections} connections are in use ({self._limits.setting})")
            return
        who = peer_credentials(sock, self._descends)
        user = who.uid if who is not None and self._limits.per_user else None
        if user is not None and self._users[user] >= self._limits.per_user:
            self._refused += 1
            self._refuse(sock, f"all {self._limits.per_user} connections that user {user} may have are in use")
            return
        self._accepted += 1
        if sock.family != socket.AF_UNIX:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                pass  # gone again already: its task will see
        connection = self._serve(sock)
        connection.credentials = who
        if user is not None:
            self._users[user] += 1
            self._user[connection] = user

    def _refuse(self, sock: socket.socket, reason: str) -> None:
        now = trio.current_time()
        if now >= self._complain_from:
            self._complain_from = now + COMPLAINT
            logger.warning("event=connection-refused reason=%r refused=%d", reason, self._refused)
        body = self._explain(503, reason)
        head = b"%b%bRetry-After: 1\r\n%bContent-Length: %d\r\n\r\n" % (status_line(503), JSON, CLOSE, len(body))
        try:
            sock.send(head + body)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(REQUEST_SIZE)  # what is left unread would be told by a reset, which overtakes the answer
        except OSError:
            pass
        sock.close()

    def _serve(self, sock: socket.socket, state: ConnectionState | None = None) -> Connection:
        connection = Connection(
            sock,
            self._handler,
            limits=self._limits,
            deadlines=self._deadlines,
            nursery=self._nursery,
            at_end=self._end,
            explain=self._explain,
        )
        if state is not None:
            take_up(connection, state)
        connection.draining = self._draining
        self._connections.add(connection)
        self._deadlines.add(connection)
        self._nursery.start_soon(connection.run)
        return connection

    def _end(self, connection: Connection) -> None:
        self._connections.discard(connection)
        user = self._user.pop(connection, None)
        if user is not None:
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]
        self._requests += connection.requests
        self._dropped += connection.dropped


async def serve_http(
    listeners: Sequence[_HasFileno],
    handler: Handler,
    *,
    limits: HttpLimits,
    deadlines: Deadlines,
    explain: Callable[[int, str], bytes] = error_body,
    descends: Callable[[int, int], bool] | None = None,
    task_status: trio.TaskStatus[HttpServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled, or until `HttpServer.leave` (the value given to `task_status`) has let every
    request end.

    `listeners` are listening sockets (the standard library's, trio's, or `trio.SocketListener`); they stay
    the caller's to close. `handler` runs in the connection's task; if it raises or gives no answer, that
    request is answered 500 and that connection closed. `explain` writes the body of what HTTP itself refuses, from its
    status and reason. `descends` says of a process and its user whether it is one of ours (`Credentials.ours`).

    Cancellation: ends all connections at once, whatever they do.
    """
    socks = []
    try:
        for listener in listeners:
            inner = getattr(listener, "socket", listener)
            # A duplicate, because neither trio's socket nor its listener gives the plain socket away.
            sock = socket.socket(fileno=os.dup(inner.fileno()))
            sock.setblocking(False)
            socks.append(sock)
        async with trio.open_nursery() as nursery:
            server = HttpServer(
                handler, limits=limits, deadlines=deadlines, nursery=nursery, explain=explain, descends=descends
            )
            nursery.start_soon(server.accept_all, socks)
            task_status.started(server)
    finally:
        for sock in socks:
            trio.lowlevel.notify_closing(sock)
            sock.close()
