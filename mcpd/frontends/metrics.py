"""/metrics, for Prometheus. Read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mcpd.frontends.replies import refuse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.frontends.endpoint import Verdict
    from mcpd.wire.http_server import Request

Scrape: TypeAlias = "Callable[[str], Awaitable[tuple[str, bytes]]]"
"""What is measured now: the media type and the text, by the request's Accept header."""


class Metrics:
    """The handler of the route."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape

    async def handle(self, request: Request, verdict: Verdict) -> None:
        """Answer one scrape."""
        if request.head.method not in (b"GET", b"HEAD"):
            refuse(request, 405, "this route is read-only", b"Allow: GET, HEAD\r\n")
            return
        media, text = await self._scrape(request.head.headers.get(b"accept", b"").decode("latin-1"))
        request.answer(200, b"Content-Type: %b\r\n" % media.encode(), text)
