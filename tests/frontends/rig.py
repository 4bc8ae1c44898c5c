"""The HTTP fronts on a free port, with a gateway whose answers the test writes."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from mcpd.config.model import Config
from mcpd.errors import METHOD_NOT_FOUND, RpcError
from mcpd.frontends.endpoint import Endpoint
from mcpd.frontends.guard import Guard
from mcpd.frontends.http import StreamableHttp
from mcpd.frontends.sse import MESSAGES, HttpSse
from mcpd.gateway.sessions import Sessions
from mcpd.gateway.vault import Vault
from mcpd.protocol.handshake import initialize_result
from mcpd.wire.deadlines import Deadlines
from mcpd.wire.http_limits import HttpLimits
from mcpd.wire.http_server import serve_http
from mcpd.wire.listeners import bound_addresses, open_listeners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@dataclass
class Talk:
    """One request on its way through the scripted gateway."""

    session: Any
    message: Any
    emit: Any
    ask: Any
    part: Any

    def notify(self, method: str, **params: object) -> None:
        self.emit(method, msgspec.json.encode(params))


@dataclass
class ScriptedGateway:
    """Answers a method with what the test has put under its name."""

    sessions: Sessions
    scripts: dict[str, Callable[[Talk], Awaitable[bytes]]] = field(default_factory=dict)
    roots: list[object] = field(default_factory=list)
    forgotten: list[object] = field(default_factory=list)
    started: trio.Event = field(default_factory=trio.Event)
    cancelled: list[str] = field(default_factory=list)

    async def initialize(self, version) -> bytes:
        return initialize_result(version, b'{"name":"scripted","version":"1"}', "")

    async def serve(self, session, message, emit, ask, part):
        script = self.scripts.get(message.method)
        if script is None:
            raise RpcError(METHOD_NOT_FOUND, f"Method not found: {message.method}")
        self.started.set()
        try:
            return await script(Talk(session, message, emit, ask, part)), None
        except trio.Cancelled:
            self.cancelled.append(message.id.decode())
            raise

    def roots_changed(self, caller) -> None:
        self.roots.append(caller)

    def forget(self, session) -> None:
        self.forgotten.append(session)


@dataclass
class Front:
    """What is running, and where."""

    base: str
    gateway: ScriptedGateway
    sessions: Sessions
    streamable: StreamableHttp
    patience: Deadlines

    @property
    def url(self) -> str:
        return self.base + "/mcp"


async def until(condition: Callable[[], object]) -> None:
    """Waits for something that other tasks bring about and nobody tells of."""
    with trio.fail_after(5):
        while True:
            if condition():
                return
            await trio.sleep(0.005)


def make_sessions(directory: Path, config: Config) -> Sessions:
    vault = Vault(directory, now=time.time(), session_age=config.limits.session_age)
    return Sessions(vault, config.limits, clock=time.time, first_serial=1)


@asynccontextmanager
async def serve_front(directory: Path, config: Config | None = None) -> AsyncIterator[Front]:
    config = config or Config()
    deadlines, patience = Deadlines(), Deadlines(resolution=0.01)
    sessions = make_sessions(directory, config)
    gateway = ScriptedGateway(sessions)
    streamable, sse = (
        StreamableHttp(gateway, config, patience),
        HttpSse(gateway, config, patience),
    )

    def forget(session) -> None:
        streamable.forget(session)
        gateway.forget(session)

    sessions.forget = forget
    fronts = {b"/mcp": streamable.handle, b"/sse": sse.stream, MESSAGES: sse.message}
    listeners = await open_listeners("127.0.0.1", 0)
    limits = HttpLimits(stream_queue=config.limits.stream_queue, body=config.limits.body)
    async with AsyncExitStack() as stack:
        for listener in listeners:
            stack.callback(listener.close)
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(deadlines.run)
        await nursery.start(patience.run)
        endpoint = Endpoint(Guard(config.listen, loopback=True), fronts)

        async def serve(task_status) -> None:
            await serve_http(listeners, endpoint.handle, limits=limits, deadlines=deadlines, task_status=task_status)

        await nursery.start(serve)
        host, port = bound_addresses(listeners)[0]
        yield Front(f"http://{host}:{port}", gateway, sessions, streamable, patience)
        nursery.cancel_scope.cancel()
