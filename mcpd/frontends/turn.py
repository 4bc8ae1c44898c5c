"""One modern request over Streamable HTTP and its answer: plain JSON, or an event stream as soon as there is a reason.

Theory of operation. The request's own task runs the call and is the only one it has. The sweep of deadlines looks at
the turn every now and then: whether the client is still there, and whether it has heard nothing for too long. A call
that waits for the client's input is settled while its task is still in it; then the connection goes on in another
task, and the turn keeps only what it takes to cancel the call.

Rules.
1. Nothing is sent before it must be, so that an error has its HTTP status: a notification, or silence for
   `streams.keepalive`, begins the event stream.
2. The client's end of the connection is the end of the call: a stream that cannot be written, or a client that is gone
   when the sweep looks, cancels it, and nothing more is said.
3. Events have no ids: what is lost with a connection is asked for again.

Source: 2026-07-28 "Streamable HTTP" (Sending messages, Cancellation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from mcpd.errors import RpcError
from mcpd.frontends.replies import EVENTS, JSON, send_error, send_parts
from mcpd.frontends.streams import COMMENT
from mcpd.protocol import jsonrpc
from mcpd.protocol.modern import status_of
from mcpd.protocol.sse import encode_event

if TYPE_CHECKING:
    from mcpd.frontends.exchange import Terms
    from mcpd.gateway.ports import Outcome
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.wire.http_server import Request, Stream

GONE_POLL: Final = 0.25
"""Seconds between looks at whether the client is gone: soon enough for a backend not to work in vain for long, seldom
enough to cost next to nothing (two system calls)."""


class HttpTurn:
    """The answer to one modern request in the making. Implements `Turn` and `Expiring`.

    To be made in the task that handles the request, which calls `close` in the end.
    """

    __slots__ = (
        "_handler",
        "_id",
        "_prefers_stream",
        "_quiet_since",
        "_request",
        "_stream",
        "_task",
        "_terms",
        "deadline",
    )

    def __init__(self, request: Request, id: bytes, terms: Terms, *, prefers_stream: bool) -> None:
        self._id = id
        self._prefers_stream = prefers_stream
        self._request: Request | None = request
        """What is to be answered; None once it was, or nobody is there to be answered."""
        self._handler: Request | None = request
        """Whose task the call runs in; None once that has ended."""
        self._stream: Stream | None = None
        self._task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self._terms = terms
        self._quiet_since = trio.current_time()
        self._look_later(self._quiet_since)

    # ---- what the gateway does with it (Turn) -------------------------------------------------------------

    def notify(self, method: str, params: Buffer) -> None:
        """A notification of the call; nothing happens once it was settled."""
        if self._request is None:
            return
        stream = self._stream or self._open(self._request)
        if stream.write(encode_event(jsonrpc.notification(method.encode(), params))):
            self._quiet_since = trio.current_time()
        else:
            self._lose()

    def settle(self, outcome: Outcome) -> None:
        """The end of this exchange; the call may go on."""
        request = self._request
        if request is None:
            return
        # The task itself settles a call that it is about to leave; should it stay after all, the sweep lets go.
        elsewhere = trio.lowlevel.current_task() is not self._task
        if elsewhere and request.is_gone():
            self._lose()  # what the call wants to know would never be answered
            return
        self._request = None
        status = status_of(outcome) if isinstance(outcome, RpcError) else 200
        if status == 200 or self._stream is not None:
            self._send(request, outcome_parts(self._id, outcome))
        elif isinstance(outcome, RpcError):
            send_error(request, outcome, self._id, status)
        if elsewhere:
            self._let_go()

    def cancel(self) -> None:
        """Cancel the task that runs the call."""
        if self._handler is not None:
            self._handler.cancel()

    # ---- what the front and the sweep do with it ----------------------------------------------------------

    def close(self) -> None:
        """The task that ran the call is done with it."""
        self._terms.deadlines.discard(self)
        self._request = self._handler = self._stream = self._task = None

    def expire(self) -> None:
        """Look after the client."""
        request = self._request
        if request is None:
            self._let_go()
            return
        if request.is_gone():
            self._lose()
            return
        now = trio.current_time()
        if now >= self._quiet_since + self._terms.times.keepalive:
            if self._stream is None:
                self._open(request)  # its head is a sign of life
            elif not self._stream.write(COMMENT):
                self._lose()
                return
            self._quiet_since = now
        self._look_later(now)

    def _look_later(self, now: float) -> None:
        self.deadline = min(now + GONE_POLL, self._quiet_since + self._terms.times.keepalive)
        self._terms.deadlines.add(self)

    def _open(self, request: Request) -> Stream:
        self._stream = request.open_stream(200, EVENTS)
        return self._stream

    def _send(self, request: Request, parts: tuple[Buffer, ...]) -> None:
        stream = self._stream
        if stream is None:
            if not self._prefers_stream:
                send_parts(request, 200, JSON, parts)
                return
            stream = self._open(request)
        if not stream.write(encode_event(parts)):
            self.cancel()
        stream.end()
        self._stream = None

    def _lose(self) -> None:
        """The client is gone: stop working for it."""
        self._request = self._stream = None
        self.cancel()

    def _let_go(self) -> None:
        """The answer is complete, but not the call: give the connection back, and what the request holds."""
        self._terms.deadlines.discard(self)
        request = self._handler
        if request is not None and request.complete and not request.cancelled:
            request.body = b""
            request.detach()


def outcome_parts(id: bytes, outcome: Outcome) -> tuple[Buffer, ...]:
    """A response as parts to write one after the other."""
    if isinstance(outcome, RpcError):
        return jsonrpc.error(id, outcome.encode())
    return jsonrpc.result(id, *outcome)
