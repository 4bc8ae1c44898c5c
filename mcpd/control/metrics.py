"""Metrics, as the HTTP port has them too."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from mcpd.control.ask import STREAMED
from mcpd.control.table import Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations

Scrape: TypeAlias = "Callable[[str], Awaitable[tuple[str, bytes]]]"
"""What is measured now: the media type and the text, by the request's Accept header."""


async def metrics(operations: Operations, ask: Ask) -> object:
    """Text, which is no JSON: it is answered here."""
    assert ask.request is not None, "somebody sent it"
    media, text = await operations.scrape(ask.request.head.headers.get(b"accept", b"").decode("latin-1"))
    ask.request.answer(HTTPStatus.OK, b"Content-Type: %b\r\nCache-Control: no-store\r\n" % media.encode(), text)
    return STREAMED


async def unmeasured(accept: str) -> tuple[str, bytes]:
    """Where there is no daemon, nothing is measured."""
    return "text/plain", b""


TABLE: Final = (
    Operation("GET", "/v1/metrics", metrics, "What is measured, as text for Prometheus.", stream="text/plain"),
)
