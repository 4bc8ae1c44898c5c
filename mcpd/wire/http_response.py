"""The answer to one request of the HTTP client, from its first byte to its end; and ending it from
outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
import trio

from mcpd.errors import ConnectFailed, ConnectionBroken, LimitExceeded
from mcpd.wire.http_body import Body, ChunkedBody, CloseBody, LengthBody, response_parser
from mcpd.wire.http_head import ResponseHead, read_response_head
from mcpd.wire.http_reader import RECEIVE_MAX, RECEIVE_SIZE
from mcpd.wire.http_request import BODILESS

if TYPE_CHECKING:
    from mcpd.wire.http_limits import ClientLimits
    from mcpd.wire.http_link import Link
    from mcpd.wire.http_pool import Pool


class Abortable:
    """Ends one request from any task, without waiting: while it waits for a connection, an answer or a body.

    Whoever waits gets ConnectionBroken (ConnectFailed, when nothing was sent yet). Nothing happens once the
    answer was read.
    """

    __slots__ = ("_response", "aborted")

    def __init__(self) -> None:
        self._response: Response | None = None
        self.aborted = False

    def abort(self) -> None:
        """End the request; before it was begun: it will fail at once."""
        self.aborted = True
        if self._response is not None:
            self._response.abort()

    def attach(self, response: Response) -> None:
        """Called by the client when the request begins."""
        self._response = response


class Response:
    """An answer; the body is read by `read` or `receive_some`. Close it in the end, unless the body was read
    to its end.
    """

    __slots__ = (
        "_aborted",
        "_body",
        "_head",
        "_limits",
        "_link",
        "_pool",
        "_ready",
        "_scope",
        "headers",
        "status",
    )

    def __init__(self, pool: Pool, limits: ClientLimits) -> None:
        self._pool = pool
        self._limits = limits
        self._link: Link | None = None
        self._head: ResponseHead | None = None
        self._body: Body | None = None
        self._ready = b""
        self._scope: trio.CancelScope | None = None
        self._aborted = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """Lower-case names; repeated ones joined by `, `. Shared by like answers: read only."""

    @property
    def complete(self) -> bool:
        """Whether the connection was let go: the body came to its end, or the exchange was ended."""
        return self._link is None

    def whole(self, limit: int) -> bytes | None:
        """The body, if all of it came with the head: then nobody needs to wait for it."""
        if self._link is not None or self._aborted or len(self._ready) > limit:
            return None
        ready, self._ready = self._ready, b""
        return ready

    async def receive_some(self) -> bytes:
        """The next bytes of the body as they come; b"" at its end.

        Raises: ConnectionBroken, when it ends too early or was aborted.
        """
        ready = self._ready
        if ready:
            self._ready = b""
            return ready
        body = self._body
        link = self._link
        if link is None or body is None:
            if self._aborted:
                raise ConnectionBroken("aborted by mcpd")
            return b""
        size = min(max(RECEIVE_SIZE, body.left), RECEIVE_MAX) if isinstance(body, LengthBody) else RECEIVE_SIZE
        try:
            while True:
                data = await link.receive(size)
                if data:
                    payload = body.feed(data)
                else:
                    payload = b""
                    body.end()
                if body.done:
                    self._finish(link, body, at_end=not data)
                    return payload
                if payload:
                    return payload
        except ConnectionBroken:
            self._give_up()
            raise

    async def read(self, limit: int | None = None) -> bytes:
        """The whole body.

        Raises: LimitExceeded, when it is longer than `limit` (ClientLimits.body); ConnectionBroken.
        """
        most = self._limits.body if limit is None else limit
        body = self._body
        if isinstance(body, LengthBody) and body.left + len(self._ready) > most:
            raise self._too_long(body.left + len(self._ready), most)
        parts: list[bytes] = []
        size = 0
        while data := await self.receive_some():
            size += len(data)
            if size > most:
                raise self._too_long(size, most)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        """Let go of the connection: closes it if the body was not read to its end."""
        self.close()
        await trio.lowlevel.checkpoint_if_cancelled()

    def close(self) -> None:
        """`aclose`, for those that cannot await."""
        self._ready = b""
        self._give_up()

    def abort(self) -> None:
        """From any task: end the exchange; who waits for it gets ConnectionBroken at once."""
        if self._scope is not None:
            self._aborted = True
            self._scope.cancel()
        elif self._link is not None:
            self._aborted = True
            self.close()

    def _too_long(self, size: int, most: int) -> LimitExceeded:
        self.close()
        return LimitExceeded(f"an answer of {size} bytes or more is over the limit of {most} bytes (limits.message)")

    def _finish(self, link: Link, body: Body, *, at_end: bool = False) -> None:
        self._link = None
        head = self._head
        reusable = head is not None and head.keep_alive and not body.excess and not at_end
        self._pool.release(link, reusable=reusable)

    def _give_up(self) -> None:
        link = self._link
        if link is not None:
            self._link = None
            self._pool.release(link, reusable=False)

    def attach(self, link: Link) -> None:
        """From here on, `link` is this exchange's to release."""
        self._link = link

    async def acquire(self, *, fresh: bool) -> Link:
        """A connection when there was none to reuse.

        Raises: ConnectFailed
        """
        limits = self._limits
        with trio.CancelScope() as scope:
            self._scope = scope
            try:
                return await self._pool.acquire(scope, fresh=fresh)
            finally:
                self._scope = None
        if self._aborted:
            raise ConnectFailed("aborted by mcpd before it was sent")
        raise ConnectFailed(
            f"no connection became free in {limits.connect_timeout:g} s: all {limits.connections} are busy"
        )

    def take_head(self, link: Link, method: bytes, data: bytes) -> bool:
        """The short way: a head that came in one receive and was seen before. False: `parse_head` must look at it."""
        memo = self._pool.memo
        end = data.find(b"\r\n\r\n") + 4
        raw = data[:end]
        head = memo.heads.get(raw) or memo.recall(raw)
        if head is None:
            return False
        self._begin(link, method, head, data[end:])
        return True

    async def parse_head(self, link: Link, method: bytes, data: bytes) -> None:
        """Have h11 read the answer's head, of which `data` came first. Raises: ConnectionBroken, LimitExceeded."""
        head, rest = await self._parse_head(link, method, data)
        self._begin(link, method, head, rest)

    def _begin(self, link: Link, method: bytes, head: ResponseHead, rest: bytes) -> None:
        self._head = head
        self.status = head.status
        self.headers = head.headers
        if rest and head.content_length == len(rest) and method == b"POST" and head.status == 200:
            # All of it is here and nothing more: the way of nearly every answer.
            self._ready = rest
            self._link = None
            self._pool.release(link, reusable=head.keep_alive)
            return
        body: Body
        if method == b"HEAD" or head.status in BODILESS:
            body = LengthBody(0)
        elif head.chunked:
            body = ChunkedBody(self._limits.head)
        elif head.content_length is not None:
            body = LengthBody(head.content_length)
        else:
            body = CloseBody()
        self._body = body
        if rest:
            self._ready = body.feed(rest)
        if body.done:
            self._finish(link, body)

    async def _parse_head(self, link: Link, method: bytes, data: bytes) -> tuple[ResponseHead, bytes]:
        """The head of the answer that begins with `data`, by h11, and the bytes after it; 1xx answers are
        skipped.
        """
        limit = self._limits.head
        parser = response_parser(method, limit)
        fed: list[bytes] = []
        skipped = 0
        while True:
            parser.receive_data(data)
            if data:
                fed.append(data)
            while True:
                try:
                    event = parser.next_event()
                except h11.RemoteProtocolError as error:
                    if error.error_status_hint == 431:
                        raise self._head_too_long() from None
                    if not data:
                        raise ConnectionBroken(_ended(link, bool(fed))) from None
                    raise ConnectionBroken(f"not an HTTP answer: {str(error).partition(':')[0]}") from None
                if isinstance(event, h11.ConnectionClosed):
                    raise ConnectionBroken(_ended(link, bool(fed)))
                if not isinstance(event, h11.Response | h11.InformationalResponse):
                    break
                whole = b"".join(fed)
                rest = parser.trailing_data[0]
                raw = whole[skipped : len(whole) - len(rest)]
                if len(raw) > limit:
                    raise self._head_too_long()
                if isinstance(event, h11.InformationalResponse):
                    skipped += len(raw)
                    continue
                head = read_response_head(event)
                self._pool.memo.store(raw, head)
                return head, rest
            data = await link.receive(RECEIVE_SIZE)

    def _head_too_long(self) -> LimitExceeded:
        return LimitExceeded(f"the head of an answer is over the limit of {self._limits.head} bytes")


def _ended(link: Link, begun: bool) -> str:
    if begun:
        return "the connection ended within the head of the answer"
    return "the connection ended before an answer came" + (" (it was used before)" if link.used else "")
