"""The HTTP fronts on a free port, with a gateway whose answers the test writes."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from mcpd.backends.base import Entry
from mcpd.config.model import Config
from mcpd.errors import METHOD_NOT_FOUND, RpcError
from mcpd.frontends.endpoint import Endpoint
from mcpd.frontends.guard import Guard
from mcpd.frontends.http import StreamableHttp
from mcpd.frontends.sse import MESSAGES, HttpSse
from mcpd.gateway.catalog import Route
from mcpd.gateway.gate import Gate
from mcpd.gateway.sessions import Sessions
from mcpd.gateway.vault import Vault
from mcpd.protocol import jsonrpc
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
class Round:
    """One turn of a modern call on its way through the scripted gateway."""

    caller: Any
    message: Any
    members: Any
    turn: Any

    def notify(self, method: str, **params: object) -> None:
        self.turn.notify(method, msgspec.json.encode(params))


@dataclass
class ScriptedModern:
    """Has a method's script say the result, or settle the turn itself and return None."""

    gateway: ScriptedGateway
    scripts: dict[str, Callable[[Round], Awaitable[bytes | None]]] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    def relayed(self, extensions):
        return extensions and b'{"relayed":%b}' % extensions

    async def serve(self, caller, message, members, turn) -> None:
        round = Round(caller, message, members, turn)
        self.rounds.append(round)
        script = self.scripts.get(message.method)
        if script is None:
            turn.settle(RpcError(METHOD_NOT_FOUND, f"Method not found: {message.method}"))
            return
        self.gateway.started.set()
        try:
            result = await script(round)
        except trio.Cancelled:
            self.gateway.cancelled.append(message.id.decode())
            raise
        if result is not None:
            turn.settle((result, None))


@dataclass
class ScriptedListens:
    """Acknowledges, and then sends what the test hands it; or raises what the test wants."""

    gateway: ScriptedGateway
    refusal: Exception | None = None
    heard: list[tuple[Any, bytes, Any]] = field(default_factory=list)
    outlets: list[Any] = field(default_factory=list)
    end: trio.Event = field(default_factory=trio.Event)

    async def listen(self, caller, id, members, outlet) -> None:
        self.heard.append((caller, id, members))
        if self.refusal is not None:
            raise self.refusal
        assert outlet.send((b'{"jsonrpc":"2.0","method":"ack"}',))
        self.outlets.append(outlet)
        try:
            await self.end.wait()
        except trio.Cancelled:
            self.gateway.cancelled.append(id.decode())
            outlet.send(jsonrpc.result(id, b'{"too":"late"}'))
            raise
        finally:
            self.outlets.remove(outlet)
        outlet.send(jsonrpc.result(id, b'{"end":true}'))


@dataclass
class ScriptedGateway:
    """Answers a method with what the test has put under its name."""

    sessions: Sessions
    scripts: dict[str, Callable[[Talk], Awaitable[bytes]]] = field(default_factory=dict)
    roots: list[object] = field(default_factory=list)
    forgotten: list[object] = field(default_factory=list)
    started: trio.Event = field(default_factory=trio.Event)
    cancelled: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Methods of requests that did not come to be served, and why."""
    settles: list[str] = field(default_factory=list)
    """Tools that become known when somebody waits for them."""

    def __post_init__(self) -> None:
        self.gate = Gate()
        self.modern = ScriptedModern(self)
        self.listens = ScriptedListens(self)
        self.catalog = SimpleNamespace(tools=SimpleNamespace(by_text={}, routes={}))

    def know(self, name: str, **schema: object) -> None:
        """A tool is listed."""
        raw = msgspec.json.encode({"name": name, "inputSchema": {"type": "object", **schema}})
        route = Route(None, Entry(name, raw))
        self.catalog.tools.routes[name] = self.catalog.tools.by_text[msgspec.json.encode(name)] = route

    async def settled(self) -> None:
        await trio.lowlevel.checkpoint()
        for name in self.settles:
            self.know(name, properties={"region": {"type": "string", "x-mcp-header": "Region"}})

    async def initialize(self, version) -> bytes:
        return initialize_result(version, b'{"name":"scripted","version":"1"}', "")

    def refuse(self, caller, message, error) -> None:
        self.refused.append((message.method, str(error)))

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
    with trio.fail_after(20):
        while True:
            if condition():
                return
            await trio.sleep(0.005)


def make_sessions(directory: Path, config: Config) -> Sessions:
    vault = Vault(directory, now=time.time(), session_age=config.limits.session_age)
    return Sessions(vault, config.limits, clock=time.time, first_serial=1)


MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"


def envelope(version: object = MODERN, **meta: object) -> dict[str, object]:
    """The `_meta` of a modern request; a key without a slash gets the protocol's prefix, and None takes it away."""
    whole = {META + "protocolVersion": version, META + "clientCapabilities": {}}
    whole |= {(key if "/" in key else META + key): value for key, value in meta.items()}
    return {key: value for key, value in whole.items() if value is not None}


def modern_request(id: object, method: str = "tools/call", meta: object = None, **params: object) -> dict[str, Any]:
    """A modern request; `meta` is its envelope if it is not the usual one."""
    meta = envelope() if meta is None else meta
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": meta}}


def modern_headers(message: dict[str, Any]) -> dict[str, str]:
    """The headers that go with a modern request."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": message["method"],
    }
    name = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}.get(message["method"])
    if name in message["params"]:
        headers["Mcp-Name"] = message["params"][name]
    return headers


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
        endpoint = Endpoint(Guard(config.listen, loopback=True), fronts, gateway.gate)

        async def serve(task_status) -> None:
            await serve_http(listeners, endpoint.handle, limits=limits, deadlines=deadlines, task_status=task_status)

        await nursery.start(serve)
        host, port = bound_addresses(listeners)[0]
        yield Front(f"http://{host}:{port}", gateway, sessions, streamable, patience)
        nursery.cancel_scope.cancel()
