"""One POSTed request and its answer: does what `protocol.exchange` decides.

The exchange is what the gateway sees as `emit` and `ask`, what the session sees as a call in flight, and what the sweep of deadlines
sees as something to look at when patience, polling time or silence is over. None of it costs a task or a timer of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from mcpd.frontends.replies import EVENTS, JSON, send_parts
from mcpd.frontends.streams import COMMENT, Streams
from mcpd.protocol import jsonrpc
from mcpd.protocol.exchange import Action, Event, EventLog, State, event_id, primes, step
from mcpd.protocol.sse import encode_event

if TYPE_CHECKING:
    from mcpd.config.model import Config
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Request, Stream


class Exchange:
    """The answer to one request in the making."""

    __slots__ = (
        "_config",
        "_deadlines",
        "_log",
        "_outcome",
        "_part_at",
        "_prefers_stream",
        "_request",
        "_session",
        "_stream",
        "deadline",
        "ended_at",
        "handler",
        "state",
    )

    def __init__(
        self, session: Session, request: Request, config: Config, deadlines: Deadlines, *, prefers_stream: bool
    ) -> None:
        self._prefers_stream = prefers_stream
        self._session = session
        self._request = request
        self.handler = request
        """The HTTP request whose task does the work; `_request` is the one whose connection carries the answer."""
        self._config = config
        self._deadlines = deadlines
        self._stream: Stream | None = None
        self._log: EventLog | None = None
        self._outcome: tuple[Buffer, ...] = ()
        self._part_at = math.inf
        self.state = State.WAITING
        self.ended_at = math.inf
        self.deadline = trio.current_time() + config.streams.hold
        deadlines.add(self)

    # ---- what the gateway does with it ----------------------------------------------------------------------------------

    def emit(self, method: str, params: Buffer) -> None:
        """A notification for this call."""
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
        self._deadlines.discard(self)
        self.ended_at = trio.current_time()
        if self._prefers_stream:
            self._happen(Event.HOLD)
        self._happen(Event.OUTCOME, parts)

    def cancel(self) -> None:
        """The client cancels the call."""
        self.handler.cancel()

    # ---- what the client does -------------------------------------------------------------------------------------------

    def resume(self, request: Request, stream: Stream, number: int) -> None:
        """The client came back after event `number`; the rest goes to this stream."""
        self.state, actions = step(self.state, Event.RESUME)
        attached = False
        for action in actions:
            if action is Action.ATTACH:
                attached = True
                self._request, self._stream = request, stream
                assert self._log is not None, "only a stream that was opened can be resumed"
                for id, message in self._log.after(number):
                    stream.write(encode_event((message,), id=id))
            elif attached:
                stream.end()
            else:
                self._end()

    def gone(self, request: Request) -> None:
        """The connection that carries the answer is lost."""
        if request is self._request:
            self._happen(Event.GONE)

    def expire(self) -> None:
        """Patience, polling time or silence is over."""
        now = trio.current_time()
        if self.state is State.WAITING:
            self._happen(Event.HOLD)
        elif now >= self._part_at:
            self._happen(Event.PART)
        elif self._stream is not None and self.state is State.STREAMING and not self._stream.write(COMMENT):
            self._happen(Event.GONE)
        if self.state is State.STREAMING:
            self.deadline = min(now + self._config.streams.keepalive, self._part_at)
            self._deadlines.add(self)

    # ---- what is done about it ------------------------------------------------------------------------------------------

    def _say(self, parts: tuple[Buffer, ...]) -> bool:
        self._happen(Event.NOTICE, parts)
        return self.state is not State.ENDED

    def _happen(self, event: Event, parts: tuple[Buffer, ...] = ()) -> None:
        self.state, actions = step(self.state, event)
        id = b""
        message = b""
        for action in actions:
            if action is Action.ANSWER:
                send_parts(self._request, 200, JSON, parts)
            elif action is Action.OPEN:
                self._open()
            elif action is Action.KEEP:
                message = b"".join(parts)
                if self._log is not None:
                    id = self._streams.keep(self._log, message)
            elif action is Action.SEND:
                if self._stream is not None and not self._stream.write(encode_event((message,), id=id or None)):
                    if self.state is State.STREAMING:
                        self.state, _ = step(self.state, Event.GONE)
            elif action is Action.END:
                self._end()

    @property
    def _streams(self) -> Streams:
        streams = self._session.streams
        if not isinstance(streams, Streams):
            streams = self._session.streams = Streams(self._config.limits)
        return streams

    def _open(self) -> None:
        """Send the stream's head, and for clients that know it an event with an id and nothing else to resume from."""
        self._log = self._streams.open(self)
        self._stream = self._request.open_stream(200, EVENTS)
        if primes(self._session.caller.version):
            retry = int(self._config.streams.retry * 1000)
            self._stream.write(encode_event((), id=event_id(self._log.stream, 0), retry=retry))
            if self._config.streams.poll_after > 0:
                self._part_at = trio.current_time() + self._config.streams.poll_after

    def _end(self) -> None:
        if self._stream is not None:
            self._stream.end()
            self._stream = None
            if self._request is not self.handler:
                self._request.cancel()  # a GET that resumed this stream: its task only watches the connection
            elif self.state is not State.ENDED:
                # The call goes on in this task; its connection goes on with the client's next request in another.
                self._request.detach()
