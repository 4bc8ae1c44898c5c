"""The management routes of the HTTP port that change something: `POST /servers` and `DELETE /servers/{name}`.

They are operations of the control API under the paths that they have there without `/v1`, for whoever has the admin
token. Origin and Host were looked at before; a body must say that it is JSON, which no form of a web page can.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import trio

from mcpd.control.ask import Who
from mcpd.control.desk import Desk, refuse_stranger
from mcpd.control.operations import find
from mcpd.control.refusal import Refusal
from mcpd.log import Seldom

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpd.control.operations import Operations
    from mcpd.control.table import Operation
    from mcpd.control.token import Token
    from mcpd.wire.http_server import Request

OFFERED: Final = frozenset({("POST", "/v1/servers"), ("DELETE", "/v1/servers/{name}")})
"""What of the tables is there."""

LOG_EVERY: Final = 1.0
"""Seconds between two lines about one peer that has no token."""


class Remote:
    """Attends to whoever has the token."""

    def __init__(self, operations: Operations, token: Token) -> None:
        self._desk = Desk(operations)
        self._token = token
        self._strangers = Seldom(LOG_EVERY)

    async def handle(self, request: Request) -> None:
        """Answer one request."""
        peer = f"{request.peer}:{request.peer_port}"
        headers = request.head.headers
        try:
            self._token.require(None if b"authorization" in request.head.repeated else headers.get(b"authorization"))
        except Refusal as refusal:
            suppressed = self._strangers.suppressed(request.peer, trio.current_time())
            refuse_stranger(request, Who(peer=peer), refusal, suppressed)
            return

        def admit() -> tuple[Operation, Mapping[str, str]]:
            path = "/v1" + request.head.path.decode("latin-1").rstrip("/")
            operation, parameters = find(request.head.method.decode("latin-1"), path)
            if (operation.method, operation.path) not in OFFERED:
                remedy = "mcpctl asks for it on the control socket"
                raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "this is not served here", remedy)
            return operation, parameters

        await self._desk.attend(request, Who(token="admin token", peer=peer), admit)
