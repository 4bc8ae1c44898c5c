"""The GET stream of a Streamable HTTP session, on which a backend says what belongs to no request.

Theory of operation. The stream is opened again whenever it ends, for it is also how mcpd notices that a
session is lost or the backend gone while no call is made. A backend that has no such stream says so by its
status, and is not asked again.

Source: "Listening for Messages from the Server" of 2025-03-26 to 2025-11-25.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends.replies import messages_of
from mcpd.backends.resumption import Position
from mcpd.errors import BackendError, ConnectFailed, ProtocolError, TransportError
from mcpd.protocol.exchange_client import Reply, classify
from mcpd.protocol.sse import EventDecoder
from mcpd.wire.http_client import header_block

if TYPE_CHECKING:
    from mcpd.backends.http import HttpCarrier
    from mcpd.backends.link import Link

log = logging.getLogger("mcpd.backends")

PASSING: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Refusals of a GET that pass by themselves. 409: the server has not noticed yet that our last stream
ended."""


class Listening:
    """Keeps the stream of one carrier open."""

    def __init__(self, name: str, carrier: HttpCarrier, link: Link, message_max: int) -> None:
        self._name = name
        self._carrier = carrier
        self._link = link
        self._message_max = message_max
        self.tried = trio.Event()
        """Set once the backend has answered the first GET, or cannot."""

    async def run(self) -> None:
        """Listen for as long as the link lasts. Returns when the backend has no such stream, or the link is
        lost.
        """
        try:
            await self._listen()
        finally:
            self.tried.set()

    async def _listen(self) -> None:
        at = Position()
        generation = self._link.generation
        while True:
            await self._link.dialect.wait_settled()
            if self._link.generation != generation:
                generation, at = self._link.generation, Position()
            try:
                status, reply = await self._hear(at)
                if status in (400, 404) and at.last_id is not None:
                    at = Position()  # the place to resume from is unknown, which says nothing about the session
                    continue
                if status in (400, 404) and self._carrier.has_session and not await self._carrier.session_lives():
                    # Asked, for many servers answer 404 to GET because they have no such stream.
                    await self._link.dialect.renewed(generation)
                    await trio.sleep(at.pause())
                    continue
                if reply is not Reply.STREAM and status not in PASSING:
                    log.debug("backend=%s event=no_get_stream status=%d", self._name, status)
                    return
            except ConnectFailed as error:
                if not self._link.in_flight:
                    self._link.fail(self._carrier.named(error))
                    return
                # Calls in flight tell better than a failed connection whether the backend is gone.
                log.info("backend=%s event=get_stream_failed reason=%s", self._name, error)
            except TransportError as error:
                log.debug("backend=%s event=get_stream_broken reason=%s", self._name, error)
            except BackendError:
                return  # the session could not be opened anew, so the link is lost
            self.tried.set()
            await trio.sleep(at.pause())

    async def _hear(self, at: Position) -> tuple[int, Reply]:
        """One GET: its status and what that means, after its stream ended if there was one. Raises:
        TransportError.
        """
        more = header_block([("Last-Event-ID", at.last_id)]) if at.last_id is not None else b""
        has_session = self._carrier.has_session
        response = await self._carrier.get(more)
        self.tried.set()
        try:
            kind = response.headers.get(b"content-type", b"")
            reply = classify(response.status, kind, expects_response=True, has_session=has_session)
            if reply is Reply.STREAM:
                decoder = EventDecoder(self._message_max)
                while data := await response.receive_some():
                    decoder.receive_data(data)
                    while (event := decoder.next_event()) is not None:
                        at.note(event)
                        if event.data:
                            self._take(event.data)
            return response.status, reply
        finally:
            response.close()

    def _take(self, data: bytes) -> None:
        try:
            for message in messages_of(data):
                self._link.receive(message)
        except ProtocolError as error:
            log.warning("backend=%s event=junk_on_stream reason=%r", self._name, error.message)
