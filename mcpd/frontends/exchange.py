"""One POSTed request and its answer: does what `protocol.exchange` decides.

The exchange is what the gateway sees as `emit` and `ask`, what the session sees as a call in flight, and what
the sweep of deadlines sees as something to look at when patience, polling time or silence is over. None of it
costs a task or a timer of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from mcpd.frontends.replies import EVENTS, JSON, send_parts
from mcpd.frontends.streams import COMMENT, Kept, Streams
from mcpd.protocol import jsonrpc
from mcpd.protocol.convert import down_notification
from mcpd.protocol.exchange import Action, Event, EventLog, State, event_id, primes, step
from mcpd.protocol.sse import encode_event

if TYPE_CHECKING:
    from mcpd.config.model import Config
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Request, Stream


class Terms:
    """What all exchanges of a front have in common."""

    __slots__ = ("deadlines", "kept", "limits", "times")

    def __init__(self, config: Config, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self.limits = config.limits
        self.times = config.streams
        self.kept = Kept()

    def configure(self, config: Config) -> None:
        """Go by other settings: exchanges that begin from now on do."""
        self.limits = config.limits
        self.times = config.streams

    def streams_of(self, session: Session) -> Streams:
        """The session's streams, made when they are first needed."""
        streams = session.streams
        if not isinstance(streams, Streams):
            streams = session.streams = Streams(self.limits, self.kept)
        return streams


class Exchange:
    """The answer to one request in the making."""

    __slots__ = (
        "_part_at",
        "_prefers_stream",
        "_request",
        "_session",
        "_stream",
        "_terms",
        "deadline",
        "ended_at",
        "handler",
        "log",
        "state",
    )

    def __init__(self, session: Session, request: Request, terms: Terms, *, prefers_stream: bool) -> None:
        self._prefers_stream = prefers_stream
        self._session = session
        self._request: Request | None = request
        self.handler: Request | None = request
        """The HTTP request whose task does the work; `_request` is the one that carries the answer."""
        self._terms = terms
        self._stream: Stream | None = None
        self.log: EventLog | None = None
        """What was said on the event stream, once there is one."""
        self._part_at = math.inf
        self.state = State.WAITING
        self.ended_at = math.inf
        self.deadline = session.last_used + terms.times.hold  # it has just been looked up: that is now
        terms.deadlines.add(self)

    # ---- what the gateway does with it --------------------------------------------------------------------

    def emit(self, method: str, params: Buffer) -> None:
        """A notification for this call."""
        params = down_notification(method, params, self._session.caller.version)
        self._say(jsonrpc.notification(method.encode(), params))

    async def ask(self, method: str, params: Buffer) -> Buffer:
        """A question for this call, on its own stream."""
        return await self._session.ask(self._say, method, params)

    def part(self) -> None:
        """The backend let go of its stream: so do we, if the client knows how to poll."""
        if primes(self._session.caller.version):
            self._happen(Event.PART)

    def finish(self, parts: tuple[Buffer, ...]) -> None:
        """The outcome, result or error; the last thing that is said."""
        if self._prefers_stream:
            self._happen(Event.HOLD)
        self._happen(Event.OUTCOME, parts)
        self._terms.deadlines.discard(self)
        if self.log is not None:
            self.ended_at = trio.current_time()
            self._terms.streams_of(self._session).retire(self.log)
            self._release()

    def abandon(self) -> None:
        """Nothing was sent, and somebody else answers."""
        self._terms.deadlines.discard(self)

    def cancel(self) -> None:
        """The client cancels the call."""
        if self.handler is not None:
            self.handler.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether its client did."""
        return self.handler is not None and self.handler.cancelled

    # ---- what the client does -----------------------------------------------------------------------------

    def resume(self, request: Request, stream: Stream, number: int) -> None:
        """The client came back after event `number`; the rest goes to this stream."""
        log = self.log
        assert log is not None, "only a stream that was opened can be resumed"
        self.state, actions = step(self.state, Event.RESUME)
        attached = False
        for action in actions:
            if action is Action.ATTACH:
                attached = True
                self._request, self._stream = request, stream
                for id, message in log.after(number):
                    stream.write(encode_event((message,), id=id))
            elif attached:
                stream.end()
            else:
                self._end()
        if self.state is State.ENDED:
            self._release()
        else:
            self._watch()

    def gone(self, request: Request) -> None:
        """The connection that carries the answer is lost."""
        if request is self._request:
            self._happen(Event.GONE)

    def expire(self) -> None:
        """Patience, polling time or silence is over."""
        if self.state is State.WAITING:
            self._happen(Event.HOLD)
        elif self.state is not State.STREAMING:
            return
        elif trio.current_time() >= self._part_at:
            self._happen(Event.PART)
        elif self._stream is not None and not self._stream.write(COMMENT):
            self._happen(Event.GONE)
        if self.state is State.STREAMING:
            self._await_silence()

    # ---- what is done about it ----------------------------------------------------------------------------

    def _say(self, parts: tuple[Buffer, ...]) -> bool:
        self._happen(Event.NOTICE, parts)
        return self.state is not State.ENDED

    def _happen(self, event: Event, parts: tuple[Buffer, ...] = ()) -> None:
        self.state, actions = step(self.state, event)
        id = b""
        message = b""
        for action in actions:
            if action is Action.ANSWER:
                assert self._request is not None
                send_parts(self._request, 200, JSON, parts)
            elif action is Action.OPEN:
                self._open()
            elif action is Action.KEEP:
                message = b"".join(parts)
                if self.log is not None:
                    id = self._terms.streams_of(self._session).keep(self.log, message)
            elif action is Action.SEND:
                assert self._stream is not None
                sent = self._stream.write(encode_event((message,), id=id or None))
                if not sent and self.state is State.STREAMING:
                    self.state, _ = step(self.state, Event.GONE)
            elif action is Action.END:
                self._end()

    def _open(self) -> None:
        """Send the stream's head, and an empty event to resume from, if the client knows such."""
        assert self._request is not None
        self.log = self._terms.streams_of(self._session).open(self)
        self._stream = self._request.open_stream(200, EVENTS)
        if primes(self._session.caller.version):
            retry = int(self._terms.times.retry * 1000)
            self._stream.write(encode_event((), id=event_id(self.log.stream, 0), retry=retry))
        self._watch()

    def _watch(self) -> None:
        """A stream was opened: look at it when it has been silent, or open, for long enough."""
        times = self._terms.times
        polls = times.poll_after > 0 and primes(self._session.caller.version)
        self._part_at = trio.current_time() + times.poll_after if polls else math.inf
        self._await_silence()

    def _await_silence(self) -> None:
        self.deadline = min(trio.current_time() + self._terms.times.keepalive, self._part_at)
        self._terms.deadlines.add(self)

    def _end(self) -> None:
        """End the open stream, and give its connection back."""
        request = self._request
        assert request is not None
        if self._stream is not None:
            self._stream.end()
            self._stream = None
            if request is not self.handler:
                request.cancel()  # a GET that resumed this stream: its task only watches the connection
            elif self.state is not State.ENDED:
                # The call goes on in this task; its connection goes on with the client's next request in
                # another.
                request.detach()

    def _release(self) -> None:
        """Only the log is needed any more: the request holds a body, and the stream a connection."""
        self._request = self.handler = self._stream = None
