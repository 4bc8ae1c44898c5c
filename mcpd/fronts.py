"""What clients over HTTP are served by: one endpoint, each path with its front."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from mcpd.frontends.drain import drain_http
from mcpd.frontends.endpoint import Endpoint
from mcpd.frontends.guard import Guard
from mcpd.frontends.http import StreamableHttp
from mcpd.frontends.management import Management
from mcpd.frontends.metrics import Metrics
from mcpd.frontends.replies import refuse
from mcpd.frontends.sse import MESSAGES, HttpSse
from mcpd.frontends.websocket import WebSocketFront
from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_server import serve_http

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.config.model import Config
    from mcpd.frontends.metrics import Scrape
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session, Sessions
    from mcpd.reload import Reloader
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.entrance import Entrance
    from mcpd.wire.http_server import Handler, HttpServer, Request


class Fronts:
    """Of one run of mcpd."""

    def __init__(self, gateway: Gateway, config: Config, patience: Deadlines) -> None:
        self.streamable = StreamableHttp(gateway, config, patience)
        self.server: HttpServer | None = None
        """What serves them, once it does."""
        self.scrape: Scrape = _nothing
        """Says what is measured; the daemon's."""
        self.admin: Handler = _nobody
        """Serves those who may change mcpd; the daemon's."""
        self._gateway = gateway
        self._patience = patience
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def serve(
        self,
        entrance: Entrance,
        deadlines: Deadlines,
        reloader: Reloader,
        ended: Callable[[], None],
        *,
        task_status: trio.TaskStatus[HttpServer],
    ) -> None:
        """Serve until cancelled, or drained. `ended` is called when clients have had their last word, and backends are
        still there."""
        gateway, config, streamable = self._gateway, reloader.config, self.streamable
        sse = HttpSse(gateway, config, self._patience)
        websocket = WebSocketFront(gateway, config, self._patience, succeeded=entrance.stays)
        management = Management(gateway, self.admin)
        metrics = Metrics(self.scrape)

        forget_first(gateway.sessions, streamable.forget)
        endpoint = Endpoint(
            Guard(
                config.listen,
                loopback=entrance.loopback,
                addresses=[address for address, _ in entrance.addresses],
            ),
            {
                b"/mcp": streamable.handle,
                b"/sse": sse.stream,
                MESSAGES: sse.message,
                b"/ws": websocket.handle,
                b"/health": management.health,
                b"/healthz": management.healthz,
                b"/readyz": management.readyz,
                b"/servers": management.servers,
                b"/tools": management.tools,
                b"/metrics": metrics.handle,
            },
            gateway.gate,
            below={b"/servers/": management.server},
        )
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    limits = http_limits(config)
                    server: HttpServer = await nursery.start(
                        partial(serve_http, entrance.sockets, endpoint.handle, limits=limits, deadlines=deadlines)
                    )
                    self.server = server
                    reloader.settings += (
                        sse.configure,
                        websocket.configure,
                        lambda config: server.adjust(http_limits(config)),
                    )
                    task_status.started(server)
        finally:
            ended()
            self._ended.set()

    async def drain(self, grace: float) -> None:
        """Let calls end, then stop serving; at once if it has not begun."""
        if self.server is not None:
            await drain_http(self.server, self._gateway, grace)
            self._scope.cancel()
            await self._ended.wait()


def forget_first(sessions: Sessions, forget: Callable[[Session], None]) -> None:
    """Have a front forget sessions that end, before whoever knew them until now."""
    others = sessions.forget

    def forget_all(session: Session) -> None:
        forget(session)
        others(session)

    sessions.forget = forget_all


async def _nothing(accept: str) -> tuple[str, bytes]:
    """Before there is a daemon, nothing is measured."""
    return "text/plain", b""


def http_limits(config: Config) -> HttpLimits:
    """What one client of the HTTP port may cost."""
    limits = config.limits
    return HttpLimits(
        head=limits.head, body=limits.body, stream_queue=limits.stream_queue, connections=limits.connections
    )


async def _nobody(request: Request) -> None:
    """Before there is a daemon, nobody may."""
    refuse(request, 503, "mcpd is starting")
