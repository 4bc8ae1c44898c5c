"""What an operator or a load balancer asks over HTTP: /health, /healthz, /readyz, /servers, /tools. Servers can be
added and removed, too; whether who asks for that may, somebody else decides.

Says what is, never what is hoped for: a server is "ready" only while its handshake is done and its catalogue
loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mcpd import __version__
from mcpd.frontends.replies import JSON, refuse
from mcpd.gateway import views
from mcpd.supervisor.states import State

if TYPE_CHECKING:
    from mcpd.frontends.endpoint import Verdict
    from mcpd.gateway.gateway import Gateway
    from mcpd.wire.http_server import Handler, Request


class Management:
    """The handlers of the management routes."""

    def __init__(self, gateway: Gateway, admin: Handler) -> None:
        """`admin` serves what changes something."""
        self._gateway = gateway
        self._admin = admin

    async def health(self, request: Request, verdict: Verdict) -> None:
        """200 while mcpd answers; the body tells whether every server does."""
        if self._read_only(request):
            states = {backend.name: backend.state for backend in self._gateway.backends}
            well = all(each.state is State.READY or each.asleep for each in self._gateway.backends)
            self._answer(
                request,
                200,
                {
                    "status": "ok" if well else "degraded",
                    "version": __version__,
                    "servers": {name: state.value for name, state in states.items()},
                    "sessions": len(self._gateway.sessions),
                    "calls_in_flight": self._gateway.in_flight,
                },
            )

    async def healthz(self, request: Request, verdict: Verdict) -> None:
        """200 while mcpd answers: is the process alive?"""
        if self._read_only(request):
            self._answer(request, 200, {"status": "ok"})

    async def readyz(self, request: Request, verdict: Verdict) -> None:
        """200 once every server started at boot has had its first verdict, ready or failed."""
        if self._read_only(request):
            ready = self._gateway.all_judged
            waiting = [b.name for b in self._gateway.backends if b.state is State.STARTING and not ready]
            self._answer(
                request,
                200 if ready else 503,
                {"status": "ready" if ready else "starting", "waiting_for": waiting},
            )

    async def servers(self, request: Request, verdict: Verdict) -> None:
        """Every configured server with its true state; POST adds some."""
        if request.head.method == b"POST":
            await self._admin(request)
        elif self._read_only(request, b"Allow: GET, HEAD, POST\r\n"):
            self._answer(request, 200, {"servers": views.servers(self._gateway)})

    async def server(self, request: Request, verdict: Verdict) -> None:
        """DELETE: remove one."""
        if request.head.method == b"DELETE":
            await self._admin(request)
        else:
            refuse(request, 405, "a server is removed here; GET /servers tells of all", b"Allow: DELETE\r\n")

    async def tools(self, request: Request, verdict: Verdict) -> None:
        """All tools under the names that clients see."""
        if not self._read_only(request):
            return
        tools = views.entries(self._gateway, "tools")
        keys = {"name": "name", "server": "server", "tool": "own_name", "definition": "definition"}
        self._answer(request, 200, {"tools": [{key: each[own] for key, own in keys.items()} for each in tools]})

    def _read_only(self, request: Request, allowed: bytes = b"Allow: GET, HEAD\r\n") -> bool:
        if request.head.method in (b"GET", b"HEAD"):
            return True
        refuse(request, 405, "this cannot be done here", allowed)
        return False

    def _answer(self, request: Request, status: int, body: object) -> None:
        request.answer(status, JSON, msgspec.json.encode(body))
