"""One request as its handler sees it, and the stream it may answer with."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

import trio

from mcpd.wire.outgoing import JOIN_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.wire.credentials import Credentials
    from mcpd.wire.http_connection import Connection
    from mcpd.wire.http_head import Head

REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    302: "Found",
    304: "Not Modified",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
"""What mcpd sends; any other status goes out without a reason phrase, which RFC 9112 4 allows."""
STATUS_LINES = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}
CLOSE = b"Connection: close\r\n"
BODILESS = frozenset({204, 304})

PIPELINE_MAX = 256 * 1024
"""Bytes taken from a client that sends while its request is still being handled; beyond, TCP holds it
back."""
GONE_POLL = 1.0
"""Seconds between looks at a client whose pipelined bytes hide the end of its stream."""

_TCP_GONE = frozenset({6, 7, 8, 9, 11})
"""Linux's states of a connection whose peer has closed: TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING."""

Buffer = bytes | bytearray | memoryview


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK` and its line end."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def byte_count(parts: tuple[Buffer, ...]) -> int:
    """Bytes of all parts together."""
    return sum(len(part) if type(part) is not memoryview else part.nbytes for part in parts)


class Lasting(Protocol):
    """What goes on for as long as its client wants."""

    @property
    def queued(self) -> int:
        """Bytes that the client has not taken yet."""

    def leave(self) -> None:
        """The server stops: end it."""


class Stream:
    """An answer that is written bit by bit. Writing never blocks: what the client does not take is queued,
    bounded.
    """

    __slots__ = ("_chunked", "_connection", "_mute", "ended", "last_write")

    def __init__(self, connection: Connection, *, chunked: bool, mute: bool) -> None:
        self._connection = connection
        self._chunked = chunked
        self._mute = mute
        self.ended = False
        """`end` was called."""
        self.last_write = trio.current_time()
        """When the last write succeeded, on trio's clock."""

    @property
    def closed(self) -> bool:
        """Ended, or the client is gone: there is no use in writing."""
        return self.ended or self._connection.out.broken

    @property
    def queued(self) -> int:
        """Bytes the client has not taken yet."""
        return self._connection.out.queued

    def write(self, data: bytes | tuple[Buffer, ...]) -> bool:
        """Send `data` as one chunk. False: the client is gone or too slow; the stream is dead and the
        connection closed.
        """
        connection = self._connection
        out = connection.out
        if self.ended or out.broken:
            return False
        if self._mute or not data:
            return True
        if out.queued > connection.limits.stream_queue:
            # Only what was left over from earlier counts: one message, however large, is no sign of a slow reader.
            connection.drop("a slow reader's queue is full (limits.stream_queue)")
            return False
        if type(data) is bytes and len(data) <= JOIN_MAX:
            sent = out.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        else:
            parts: tuple[Buffer, ...] = (data,) if type(data) is bytes else data  # type: ignore[assignment]
            size = byte_count(parts)
            if not size:
                return True
            if self._chunked:
                opening = b"%x\r\n" % size
                sent = out.send_parts((opening, *parts, b"\r\n"), size + len(opening) + 2)
            else:
                sent = out.send_parts(parts, size)
        if not sent:
            return False
        self.last_write = trio.current_time()
        return True

    def end(self) -> None:
        """Nothing more will be written; nothing happens the second time."""
        if not self.ended:
            self.ended = True
            if self._chunked and not self._mute:
                self._connection.out.send(b"0\r\n\r\n")


class Request:
    """One request, its whole body read. Answer it once: with `answer`, or with `open_stream`."""

    __slots__ = (
        "_connection",
        "_scope",
        "answered",
        "body",
        "cancelled",
        "detached",
        "head",
        "over",
        "stream",
    )

    def __init__(self, connection: Connection, scope: trio.CancelScope, head: Head, body: bytes) -> None:
        self._connection = connection
        self._scope = scope
        self.head = head
        self.body = body
        self.answered = False
        """An answer or a stream was begun."""
        self.cancelled = False
        self.detached = False
        self.over = False
        """The handler has ended."""
        self.stream: Stream | None = None

    @property
    def peer(self) -> str:
        """The client's IP address; `unix` for a socket in the file system."""
        return self._connection.peer

    @property
    def peer_port(self) -> int:
        """The client's port, 0 for a socket in the file system."""
        return self._connection.peer_port

    @property
    def credentials(self) -> Credentials | None:
        """The process that asks, where it came by a socket in the file system."""
        return self._connection.credentials

    @property
    def complete(self) -> bool:
        """Everything that answers this request was handed over."""
        return self.answered and (self.stream is None or self.stream.ended)

    def answer(self, status: int, headers: bytes, body: bytes | tuple[Buffer, ...] = b"") -> None:
        """Answer with a whole body. `headers`: lines with their line ends, without Content-Length.

        Never blocks; when the client is gone the answer is dropped.
        """
        if self._connection.carried is not None and self.opened:
            self.open_stream(status, headers).end()  # it is too late for another answer
            return
        connection = self._begin()
        size = len(body) if type(body) is bytes else byte_count(body)  # type: ignore[arg-type]
        close = CLOSE if connection.closing else b""
        if status in BODILESS:
            connection.out.send(b"%b%b%b\r\n" % (status_line(status), headers, close))
            return
        top = b"%b%b%bContent-Length: %d\r\n\r\n" % (status_line(status), headers, close, size)
        if self.head.method == b"HEAD":
            connection.out.send(top)
        elif type(body) is bytes:
            if size <= JOIN_MAX:
                connection.out.send(top + body)
            else:
                connection.out.send_parts((top, body), len(top) + size)
        else:
            connection.out.send_parts((top, *body), len(top) + size)

    def open_stream(self, status: int, headers: bytes) -> Stream:
        """Begin an answer of unknown length: chunked, or ended by closing for HTTP/1.0."""
        connection = self._begin()
        chunked = self.head.http_version >= b"1.1"
        if not chunked:
            connection.closing = True
        if connection.carried is not None and self.opened:
            self.stream = Stream(connection, chunked=chunked, mute=False)
            return self.stream
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        close = CLOSE if connection.closing else b""
        mute = self.head.method == b"HEAD" or status in BODILESS
        connection.out.send(b"%b%b%b%b\r\n" % (status_line(status), headers, close, framing))
        self.stream = Stream(connection, chunked=chunked, mute=mute)
        return self.stream

    def endure(self) -> None:
        """This request is over when its client leaves: nobody waits for it when the server stops, it is cancelled then.
        To be called when it was answered."""
        self._connection.lasting = self
        if self._connection.leaving:
            self.cancel()

    def leave(self) -> None:
        """The server stops (`Lasting`)."""
        self.cancel()

    @property
    def queued(self) -> int:
        """Bytes the client has not taken yet."""
        return self._connection.out.queued

    # ---- from one program to the next (`http_carrying`) ----------------------------------------------------

    def hold(self) -> None:
        """This request was not begun: another program may do it instead, until `release`."""
        self._connection.carry = (self, None)

    def release(self) -> None:
        """From now on it is this program's."""
        self._connection.carry = None

    def carry(self, say: Callable[[], bytes]) -> None:
        """Another program may go on with the answer, and is told by `carried` what `say` returns then."""
        self._connection.carry = (self, say)

    @property
    def carried(self) -> bytes | None:
        """What the handler in another program said of this request, which it began; None if it is a new one."""
        carried = self._connection.carried
        return carried[2] if carried is not None and carried[0] is self else None

    @property
    def opened(self) -> bool:
        """Whether another program sent the head of a stream already; `open_stream` goes on with that."""
        carried = self._connection.carried
        return carried is not None and carried[0] is self and carried[1]

    def hand_over(self) -> Connection:
        """Give up HTTP for another protocol, which answers in its own way; the connection closes when the handler ends.

        What the client has sent after its head is in `pending`.
        """
        connection = self._begin()
        connection.closing = True
        return connection

    def _begin(self) -> Connection:
        if self.answered:
            raise RuntimeError("this request was answered already")
        self.answered = True
        connection = self._connection
        if not self.head.keep_alive or connection.draining:
            connection.closing = True
        return connection

    def cancel(self) -> None:
        """From any task: cancel this request's handler; nothing happens when it has ended."""
        if not self.over and not self.cancelled:
            self.cancelled = True
            self._scope.cancel()

    def detach(self) -> None:
        """From any task, once the answer is complete: let the connection serve its next request while the
        handler runs on.
        """
        if self.detached or self.over:
            return
        if not self.complete:
            raise RuntimeError("a request can be detached only after its answer is complete")
        self.detached = True
        self._connection.go_on()

    def is_gone(self) -> bool:
        """Whether the client has closed its side, without waiting. A half-close counts: MCP clients do not
        half-close.
        """
        connection = self._connection
        if connection.out.broken or connection.ended:
            return True
        try:
            if not connection.sock.recv(1, socket.MSG_PEEK):
                return True
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            return True
        return connection.sock.family != socket.AF_UNIX and _peer_closed(connection.sock)

    async def wait_gone(self) -> None:
        """Returns when the client has closed its side or the connection broke. One task at a time.

        Bytes that arrive meanwhile are kept for the next request, up to `PIPELINE_MAX`. Once this request is
        over or detached the connection belongs to the next one, and this never returns.
        """
        connection = self._connection
        while not self._left():
            if connection.out.broken or connection.ended:
                return
            room = PIPELINE_MAX - len(connection.pending)
            if room <= 0:
                if self.is_gone():
                    return
                await trio.sleep(GONE_POLL)
                continue
            connection.watchers += 1
            try:
                await trio.lowlevel.wait_readable(connection.sock)
                if self._left():
                    break
                data = connection.sock.recv(room)
            except (BlockingIOError, trio.ClosedResourceError):
                continue
            except (OSError, ValueError):
                return
            finally:
                connection.watchers -= 1
            if not data:
                connection.ended = True
                return
            connection.pending += data
        await trio.sleep_forever()

    def _left(self) -> bool:
        """Whether the connection is no longer this request's."""
        return self.over or self.detached


def _peer_closed(sock: socket.socket) -> bool:
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _TCP_GONE
    except OSError:
        return True


def peer_of(sock: socket.socket) -> tuple[str, int]:
    """IP address and port of the other side; `unix` and 0 for a socket in the file system."""
    if sock.family == socket.AF_UNIX:
        return "unix", 0
    try:
        name = sock.getpeername()
    except OSError:
        return "unknown", 0  # gone again already
    return name[0], name[1]
