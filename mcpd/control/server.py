"""The control socket's side of HTTP: who asks, whether it is no web page, and what is answered.

Rules.
1. A request with an Origin or a Referer comes from a web page, however it got here, and is refused; so is one that is
   for another host, as after a name was bound to something else.
2. Who asks is known by the connection, not by anything in the request (`permission`).
3. What is not carried out is said to whoever asked, and in the log where it would have changed something.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec

from mcpd import __version__
from mcpd.control.operations import Operation, Operations, Query, find
from mcpd.control.refusal import Refusal
from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_server import serve_http

if TYPE_CHECKING:
    import socket

    import trio

    from mcpd.control.permission import Permission
    from mcpd.wire.credentials import Credentials
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import HttpServer, Request

log = logging.getLogger("mcpd.control")

LIMITS: Final = HttpLimits(head=16 * 1024, body=1024 * 1024, connections=64)
"""Operators are few, and what they send is small. More connections wait in the kernel, or are told to come back."""

HOSTS: Final = frozenset({b"", b"localhost", b"mcpd"})
"""The socket is no host: `mcpd` is what mcpctl says, the others are what `curl --unix-socket` is called with."""

HEADERS: Final = (
    b"Content-Type: application/json\r\nCache-Control: no-store\r\nMcpd-Version: %b\r\n" % __version__.encode()
)


class Control:
    """Answers the requests of operators."""

    def __init__(self, operations: Operations, permission: Permission) -> None:
        self._operations = operations
        self._permission = permission

    async def handle(self, request: Request) -> None:
        """Answer one request."""
        who = request.credentials
        operation = None
        try:
            refuse_web_page(request)
            operation = find(request.head.method.decode("latin-1"), request.head.path.decode("latin-1"))
            if operation.changes:
                self._permission.require_change(who)
            query = read_query(request, operation)
            if operation.changes:
                log.info("event=operation path=%s %s", operation.path, shown(who))
            answer = await operation.work(self._operations, query)
        except Refusal as refusal:
            if operation is None or operation.changes:
                log.warning("event=operation_refused path=%r %s reason=%s", request.head.path, shown(who), refusal)
            request.answer(refusal.status, HEADERS + refusal.headers, refusal.encode())
        except Exception:
            # The crash boundary of one operation.
            log.exception("event=operation_failed path=%r", request.head.path)
            failed = Refusal(
                HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "mcpd failed to do this", "its log says why"
            )
            request.answer(failed.status, HEADERS, failed.encode())
        else:
            request.answer(HTTPStatus.OK, HEADERS, msgspec.json.encode(answer))


def refuse_web_page(request: Request) -> None:
    """Raises: Refusal (rule 1)."""
    headers = request.head.headers
    for name in (b"origin", b"referer"):
        if name in headers:
            raise Refusal(HTTPStatus.FORBIDDEN, "web_page", f"a request with {name.decode().title()} is refused")
    host = headers.get(b"host", b"").lower().partition(b":")[0]
    if host not in HOSTS or b"host" in request.head.repeated:
        raise Refusal(
            HTTPStatus.MISDIRECTED_REQUEST,
            "wrong_host",
            f"{host.decode('latin-1')[:80]!r} is not mcpd's control socket",
            "ask for http://localhost/",
        )


def read_query(request: Request, operation: Operation) -> Query:
    """The query of a request, each name once. Raises: Refusal."""
    try:
        pairs = parse_qsl(
            request.head.query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict"
        )
    except ValueError:
        pairs = [] if not request.head.query else [("?", "")]
    query = dict(pairs)
    if len(query) != len(pairs) or not operation.query.issuperset(query):
        known = ", ".join(sorted(operation.query)) or "none"
        raise Refusal(HTTPStatus.BAD_REQUEST, "bad_request", "the query is not understood", f"it may have: {known}")
    if request.body:
        raise Refusal(HTTPStatus.BAD_REQUEST, "bad_request", f"{operation.path} takes no body")
    return query


def shown(who: Credentials | None) -> str:
    """A process, for the log."""
    return f"uid={who.uid} pid={who.pid}" if who is not None else "uid=unknown"


async def serve_control(
    sock: socket.socket, control: Control, deadlines: Deadlines, *, task_status: trio.TaskStatus[HttpServer]
) -> None:
    """Serve operators until cancelled."""
    await serve_http([sock], control.handle, limits=LIMITS, deadlines=deadlines, task_status=task_status)
