"""Errors and headers as every HTTP front sends them: the one place where an error of ours becomes bytes for a
client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.protocol import jsonrpc

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcpd.errors import RpcError
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.wire.http_server import Request

JSON: Final = b"Content-Type: application/json\r\n"
EVENTS: Final = b"Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"
"""`no-transform` and `X-Accel-Buffering` keep proxies from collecting events before they pass them on."""

RETRY_AFTER: Final = b"Retry-After: 5\r\n"
"""Seconds; goes with every 503, for calls end and idle sessions are dropped all the time."""


class Answered:
    """An awaitable that is done: the request was answered on the spot."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


ANSWERED: Final = Answered()

LARGE: Final = 32 * 1024
"""Bytes from which a message is sent as parts instead of being joined first: then the copy costs more than
the call."""


def send_parts(request: Request, status: int, headers: bytes, parts: tuple[Buffer, ...]) -> None:
    """Answer with a message."""
    size = 0
    for part in parts:
        size += len(part) if type(part) is bytes else memoryview(part).nbytes
    if size <= LARGE:
        request.answer(status, headers, b"".join(parts))
    else:
        request.answer(status, headers, tuple(part if type(part) is bytes else memoryview(part) for part in parts))


def send_error(request: Request, error: RpcError, id: bytes | None, status: int | None = None) -> None:
    """Answer with a JSON-RPC error, under the HTTP status that it carries if no other is given."""
    if status is None:
        status = error.http_status
    headers = JSON + RETRY_AFTER if status == 503 else JSON
    send_parts(request, status, headers, jsonrpc.error(id, error.encode()))


def refuse(request: Request, status: int, reason: str, headers: bytes = b"") -> None:
    """Answer a request that is not about one message with an error that a person can read."""
    body = msgspec.json.encode(
        {"jsonrpc": "2.0", "id": None, "error": {"code": _CODES.get(status, -32600), "message": reason}}
    )
    request.answer(status, JSON + headers, body)


_CODES: Final = {500: -32603, 503: -32603}
