"""One client connection of the HTTP server: its requests one after another, its deadline, its end.

Theory of operation. One task and one cancel scope a connection, whatever the number of requests: a scope, a
nursery or a lock each would cost more than the rest of the work. Rules:

1. The handler runs in this task. `Request.cancel` cancels the scope, which ends the handler; the connection
   opens a new scope and goes on when the answer was complete.
2. `Request.detach` starts a second task that goes on with the connection. The first one keeps its scope and
   touches nothing any more: each task knows its `turn`, and only the current turn owns the socket.
3. The deadline of whatever the connection waits for is one attribute (`deadline`), which moves; `expire`
   cancels the scope.
4. A request that is whole in one receive, with a remembered head, is served from the loop itself; all else
   goes through `RequestReader`.
"""

from __future__ import annotations

import enum
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import trio

from mcpd.wire.http_head import Head, HttpRefused, Memo
from mcpd.wire.http_reader import RECEIVE_SIZE, RequestReader
from mcpd.wire.http_request import CLOSE, Lasting, Request, peer_of, status_line
from mcpd.wire.outgoing import Outgoing

if TYPE_CHECKING:
    from mcpd.wire.credentials import Credentials
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_limits import HttpLimits

Handler = Callable[[Request], Awaitable[None]]

logger = logging.getLogger(__name__)

LINGER = 2.0
"""Seconds a refused client's bytes are still read and dropped: closing with unread bytes resets, and the
answer is lost."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Phase(enum.Enum):
    """What the connection waits for, hence what its deadline means."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    HANDLER = enum.auto()
    FLUSH = enum.auto()
    LINGER = enum.auto()


_IDLE = Phase.IDLE
_HANDLER = Phase.HANDLER


class Connection:
    """One accepted socket, non-blocking, owned from here to its close."""

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        *,
        limits: HttpLimits,
        deadlines: Deadlines,
        nursery: trio.Nursery,
        at_end: Callable[[Connection], None],
        explain: Callable[[int, str], bytes],
    ) -> None:
        self.sock = sock
        self.limits = limits
        self.peer, self.peer_port = peer_of(sock)
        self.credentials: Credentials | None = None
        # The nursery is the server's: flushers and detached turns end with the server at the latest.
        self.out = Outgoing(sock, nursery)
        self.pending = b""
        """Received, but after the current request."""
        self.watchers = 0
        """Tasks in `Request.wait_gone`, which have to leave the socket before the next request is read."""
        self.ended = False
        """The client has closed its side."""
        self.closing = False
        """This answer is the last."""
        self.draining = False
        """The server stops: the next answer is the last."""
        self.leaving = False
        """It closes as soon as nothing is to be done."""
        self.lasting: Lasting | None = None
        """A request, or the protocol that took over from HTTP, that would never be over by itself."""
        self.carry: tuple[Request, Callable[[], bytes] | None] | None = None
        """A request that can be captured: with the handler's word about its answer, or None where it has not begun."""
        self.carried: tuple[Request, bool, bytes] | None = None
        """A request that another program began to answer: whether it opened a stream, and the handler's word."""
        self.requests = 0
        self.dropped = False
        self.deadline = trio.current_time() + limits.idle
        self.handler = handler
        """What the serving loop calls; it looks here each time that it begins anew."""
        self._deadlines = deadlines
        self._nursery = nursery
        self._at_end = at_end
        self._explain = explain
        self._memo: Memo[Head] = Memo(limits.body)
        self._phase = _IDLE
        self._timed_out = False
        self._request: Request | None = None
        self._reader: RequestReader | None = None
        self._scope = trio.CancelScope()
        self._turn = 0
        self._closed = False

    def expire(self) -> None:
        """The deadline of the current phase has passed."""
        if self._phase is _HANDLER:
            # A handler has its own deadlines; ours counts again when it is done.
            self.deadline = trio.current_time() + self.limits.idle
            self._deadlines.add(self)
        else:
            self._timed_out = True
            self._scope.cancel()

    def unsettled(self, horizon: float) -> bool:
        """Whether its client waits for something, or was answered after `horizon` and may be about to go on."""
        if self._phase is _IDLE:
            return self.deadline - self.limits.idle > horizon
        if self._phase is _HANDLER and self.lasting is not None:
            return self.lasting.queued > 0
        return self._phase is not Phase.LINGER

    def leave(self) -> None:
        """End what would last, and close: now when idle, after the current request otherwise."""
        self.draining = self.leaving = True
        if self.lasting is not None:
            self.lasting.leave()
        elif self._phase is _IDLE and not self._received():
            self.close()

    def _received(self) -> bool:
        """Whether a request is here that was not looked at yet: its client would lose it."""
        if self.pending:
            return True
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError):
            return False

    def drop(self, reason: str) -> None:
        """Break the connection at once; a handler learns of it by its next write, or `is_gone`."""
        if not self._closed:
            self.dropped = True
            logger.info("event=client-dropped peer=%s reason=%r", self.peer, reason)
            # A reset, because the kernel would go on offering megabytes to a reader that does not read.
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            except OSError:
                pass
            self.close()

    def close(self) -> None:
        """Close the socket; whoever waits for it wakes. Nothing happens the second time."""
        if not self._closed:
            self._closed = self.ended = self.closing = True
            self.out.break_off()
            self._deadlines.discard(self)
            self._memo.clear()  # a call that goes on without its connection would keep it
            trio.lowlevel.notify_closing(self.sock)
            self.sock.close()
            self._at_end(self)

    def work(self) -> tuple[bytes | None, Request | None]:
        """What was received and not served, None where it cannot be had back; and the request that is being served."""
        if self._phase in (Phase.HEAD, Phase.BODY):
            return self._reader.received() if self._reader is not None else None, None
        return self.pending, self._request if self._phase is _HANDLER else None

    def go_on(self) -> None:
        """Serve the next request in a new task; the current one, in its handler, has no say any more."""
        self._turn += 1
        self._request = None
        self._nursery.start_soon(self.run)

    async def run(self) -> None:
        """Serve until the connection ends or another turn takes it over.

        This is a crash boundary: what a handler or this code does wrong ends this connection alone.
        """
        turn = self._turn
        try:
            going = True
            while going:
                with trio.CancelScope() as self._scope:
                    going = await self._serve(turn)
                if turn != self._turn:
                    return
                if self._scope.cancelled_caught:
                    going = self._after_cancel()
        except Exception:
            logger.exception("event=connection-failed peer=%s", self.peer)
        finally:
            if turn == self._turn:
                self.close()

    async def _serve(self, turn: int) -> bool:
        """Requests until the end (False), or until a cancelled handler has used up the scope (True)."""
        sock = self.sock
        heads = self._memo.heads
        recall = self._memo.recall
        idle = self.limits.idle
        handler = self.handler
        scope = self._scope
        if self.watchers:
            trio.lowlevel.notify_closing(sock)
        while True:
            if self.out.queued:
                await self._flushed()
            if self.closing or self.out.broken:
                return False
            if self.pending:
                await trio.lowlevel.checkpoint()
                data = self.pending
                self.pending = b""
            else:
                self.deadline = trio.current_time() + idle
                self._phase = _IDLE
                if self.leaving and not self._received():
                    return False
                try:
                    await trio.lowlevel.wait_readable(sock)
                    data = sock.recv(RECEIVE_SIZE)
                except BlockingIOError:
                    continue
                except (OSError, ValueError, trio.ClosedResourceError):
                    return False
                if not data:
                    return False
            end = data.find(b"\r\n\r\n") + 4
            raw = data[:end]
            head = heads.get(raw) or recall(raw)
            if head is not None and len(data) - end == head.plain:
                body = data[end:]
            else:
                whole = await self._read(data)
                if whole is None:
                    return False
                head, body = whole
            self._phase = _HANDLER
            self.requests += 1
            self._request = request = Request(self, scope, head, body)
            data = raw = body = b""  # a handler may stay for minutes: what it needs of them is the request's
            try:
                await handler(request)
            except Exception:
                self._crashed(request, turn)
            request.over = True
            if turn != self._turn:
                return False
            self._request = None
            if not (request.answered and request.stream is None):
                self._complete(request)
            if self.watchers:
                trio.lowlevel.notify_closing(sock)
            if request.cancelled:
                return True

    def _crashed(self, request: Request, turn: int) -> None:
        logger.exception(
            "event=handler-failed peer=%s method=%r path=%r",
            self.peer,
            request.head.method,
            request.head.path,
        )
        if turn == self._turn:
            self.closing = True
            if not request.answered:
                self._answer_error(request, "mcpd failed to handle this request; its log says why")
            elif not request.complete:
                self.close()  # without the last chunk, so that the client sees that something is missing

    def _complete(self, request: Request) -> None:
        """The handler returned: what it has left open is closed."""
        if not request.answered:
            if not self.out.broken:
                logger.error("event=handler-gave-no-answer method=%r path=%r", request.head.method, request.head.path)
            self.closing = True
            self._answer_error(request, "mcpd gave no answer to this request")
        elif request.stream is not None:
            request.stream.end()
        self.lasting = None

    def _answer_error(self, request: Request, reason: str) -> None:
        request.answer(500, JSON, self._explain(500, reason))

    def _after_cancel(self) -> bool:
        """What a cancelled scope means: a deadline (False: close), or one request's handler (True: go on)."""
        request = self._request
        self._request = None
        if self._timed_out:
            if self._phase is Phase.HEAD:
                seconds = self.limits.head_timeout
                self._send_refusal(HttpRefused(408, f"the request's head was not complete within {seconds:g} s"))
            elif self._phase is Phase.BODY:
                seconds = self.limits.body_stall
                self._send_refusal(HttpRefused(408, f"no byte of the request's body came for {seconds:g} s"))
            return False
        if request is None:
            return True
        request.over = True
        self.lasting = None
        # An answer that is not complete cannot be completed: the client sees the connection end.
        return request.complete

    def _arm(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        self.deadline = trio.current_time() + seconds
        self._deadlines.add(self)

    async def _flushed(self) -> None:
        """Wait until the client has taken the answer, or stalled."""
        seen = -1
        while self.out.queued:
            if seen != self.out.progress:
                seen = self.out.progress
                self._arm(Phase.FLUSH, self.limits.body_stall)
            await self.out.wait_drained()

    async def _read(self, data: bytes) -> tuple[Head, bytes] | None:
        """One request of which `data` is the beginning. None: the connection is to be closed."""
        reader = self._reader = RequestReader(self.limits, self._memo)
        sock = self.sock
        body_begun = False
        self._arm(Phase.HEAD, self.limits.head_timeout)
        try:
            reader.feed(data)
            while (whole := reader.next()) is None:
                if reader.head is not None:
                    if not body_begun:
                        body_begun = True
                        self._arm(Phase.BODY, self.limits.body_stall)
                        if reader.head.expect_continue and not self.out.send(CONTINUE):
                            return None
                    else:
                        self.deadline = trio.current_time() + self.limits.body_stall
                while True:
                    try:
                        await trio.lowlevel.wait_readable(sock)
                        data = sock.recv(reader.want)
                        break
                    except BlockingIOError:
                        continue
                    except (OSError, ValueError, trio.ClosedResourceError):
                        return None
                if not data:
                    raise HttpRefused(400, "the connection was closed before the request was complete")
                reader.feed(data)
        except HttpRefused as refused:
            logger.info("event=request-refused peer=%s status=%d reason=%r", self.peer, refused.status, refused.reason)
            self._send_refusal(refused)
            await self._linger()
            return None
        self.pending = reader.rest
        self._reader = None
        return whole

    def _send_refusal(self, refused: HttpRefused) -> None:
        self.closing = True
        body = self._explain(refused.status, refused.reason)
        top = b"%b%b%bContent-Length: %d\r\n\r\n" % (status_line(refused.status), JSON, CLOSE, len(body))
        self.out.send(top + body)

    async def _linger(self) -> None:
        """Let the client read its refusal before it sees a reset."""
        self._arm(Phase.LINGER, LINGER)
        try:
            await self.out.wait_drained()
            self.sock.shutdown(socket.SHUT_WR)
            while True:
                await trio.lowlevel.wait_readable(self.sock)
                try:
                    if not self.sock.recv(RECEIVE_SIZE):
                        return
                except BlockingIOError:
                    continue
        except (OSError, ValueError, trio.ClosedResourceError):
            return


JSON = b"Content-Type: application/json\r\n"


def error_body(status: int, reason: str) -> bytes:
    """The body of every refusal that HTTP itself asks for."""
    return msgspec.json.encode({"error": reason})
