"""The control socket's side of HTTP: who asks, whether it is no web page, and whether they may.

Rules.
1. A request with an Origin or a Referer comes from a web page, however it got here, and is refused; so is one that is
   for another host, as after a name was bound to something else.
2. Who asks is known by the connection, not by anything in the request (`permission`).
3. `/mcp` is for MCP clients, by whatever serves those elsewhere. Who calls a tool has something run, so it is for who
   may change things.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mcpd.control.ask import Who
from mcpd.control.desk import Desk, refuse
from mcpd.control.operations import find
from mcpd.control.refusal import Refusal, explain
from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_server import serve_http

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    import trio

    from mcpd.config.model import Config
    from mcpd.control.operations import Operations
    from mcpd.control.permission import Permission
    from mcpd.control.table import Operation
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Handler, HttpServer, Request

LIMITS: Final = HttpLimits(
    head=16 * 1024,
    body=4 * 1024 * 1024,
    idle=60.0,
    connections=256,
    per_user=192,
    setting="the control socket's bound",
)
"""Operators are few, and what they send is small: the arguments of a call are the largest. A thousand that come at once
take turns: some wait in the kernel, some are told to come back. Unused connections go early, being a share of that, and
one user leaves room for another, who may have come to see what is the matter."""

MCP: Final = b"/mcp"

HOSTS: Final = frozenset({b"", b"localhost", b"mcpd"})
"""The socket is no host: `mcpd` is what mcpctl says, the others are what `curl --unix-socket` is called with."""


class Control:
    """Answers the requests of operators."""

    def __init__(self, operations: Operations, permission: Permission, mcp: Handler | None = None) -> None:
        """`mcp` serves MCP clients; its requests were let in."""
        self._desk = Desk(operations)
        self.permission = permission
        self._mcp = mcp

    def configure(self, config: Config) -> None:
        """Go by other settings from now on."""
        self.permission = replace(self.permission, look=config.control.look)

    async def handle(self, request: Request) -> None:
        """Answer one request."""
        who = Who(request.credentials)
        if self._mcp is not None and request.head.path == MCP:
            try:
                refuse_web_page(request)
                self.permission.require_change(who.credentials)
            except Refusal as refusal:
                refuse(request, who, refusal, log_it=True)
                return
            await self._mcp(request)
            return

        def admit() -> tuple[Operation, Mapping[str, str]]:
            refuse_web_page(request)
            self.permission.require_look(who.credentials)
            operation, path = find(request.head.method.decode("latin-1"), request.head.path.decode("latin-1"))
            if operation.changes:
                self.permission.require_change(who.credentials)
            return operation, path

        await self._desk.attend(request, who, admit)


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


async def serve_control(
    sock: socket.socket,
    control: Control,
    deadlines: Deadlines,
    *,
    limits: HttpLimits = LIMITS,
    descends: Callable[[int, int], bool] | None = None,
    task_status: trio.TaskStatus[HttpServer],
) -> None:
    """Serve operators until cancelled. `descends` says of a process and its user whether mcpd started it."""
    await serve_http(
        [sock],
        control.handle,
        limits=limits,
        deadlines=deadlines,
        explain=explain,
        descends=descends,
        task_status=task_status,
    )
