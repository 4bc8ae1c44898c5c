"""A scripted remote server: each POST of a method is answered by what the test says, over real HTTP."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from mcpd.backends import http, sse
from mcpd.backends.link import Link
from mcpd.backends.opening import Era
from mcpd.config.model import ServerSpec, Timeouts
from mcpd.errors import BackendError, BackendUnavailable
from mcpd.protocol.capabilities import EVERYTHING
from mcpd.types import SessionKey
from mcpd.wire.deadlines import Deadlines
from mcpd.wire.http_client import HttpClient
from tests.backends.parts import HELLO, JSON, Heard
from tests.wire.http_peer import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcpd.wire.http_request import Request, Stream

JSON_TYPE = b"Content-Type: application/json\r\n"
SSE_TYPE = b"Content-Type: text/event-stream\r\n"

Serve = "Callable[[Seen], Awaitable[None]]"


class Seen:
    """One request as the server sees it, and the ways to answer it."""

    def __init__(self, request: Request, message: JSON) -> None:
        self.request = request
        self.message = message
        self.headers = request.head.headers
        self.verb = request.head.method.decode()
        self.target = request.head.target.decode()

    @property
    def method(self) -> str:
        return str(self.message.get("method", "answer"))

    def answer(self, status: int, headers: bytes = b"", body: bytes | JSON | list[JSON] = b"") -> None:
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), headers + JSON_TYPE
        self.request.answer(status, headers, body)

    def result(self, result: JSON, headers: bytes = b"") -> None:
        self.answer(200, headers, self.reply(result))

    def reply(self, result: JSON) -> JSON:
        return {"jsonrpc": "2.0", "id": self.message["id"], "result": result}

    def error(self, code: int, message: str, id: Any = ...) -> JSON:
        known = self.message.get("id") if id is ... else id
        return {"jsonrpc": "2.0", "id": known, "error": {"code": code, "message": message}}

    def stream(self, *events: str | JSON, headers: bytes = b"", status: int = 200) -> Stream:
        stream = self.request.open_stream(status, SSE_TYPE + headers)
        for event in events:
            stream.write((event if isinstance(event, str) else event_of(event)).encode())
        return stream


def event_of(message: JSON, id: str | None = None) -> str:
    return ("" if id is None else f"id: {id}\n") + f"data: {json.dumps(message)}\n\n"


class Remote:
    """What the scripted server does. `serve[name]` is an async function of Seen, named by method, GET or
    DELETE.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.serve: dict[str, Any] = {}
        self.session: str | None = "s1"
        self.port = 0
        self._news = trio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def handle(self, request: Request) -> None:
        seen = Seen(request, json.loads(request.body) if request.body else {})
        self.seen.append(seen)
        self._news.set()
        self._news = trio.Event()
        name = seen.method if seen.verb == "POST" else seen.verb
        own = self.serve.get(name)
        if own is not None:
            await own(seen)
        elif name == "initialize":
            seen.result(HELLO, self.session_header())
        elif name in ("GET", "DELETE"):
            seen.answer(405)
        elif "id" not in seen.message or "method" not in seen.message:
            seen.answer(202)
        else:
            seen.result({"echo": seen.message.get("params", {})})

    def session_header(self) -> bytes:
        return b"" if self.session is None else f"Mcp-Session-Id: {self.session}\r\n".encode()

    def named(self, name: str) -> list[Seen]:
        return [seen for seen in self.seen if name in (seen.verb, seen.method if seen.verb == "POST" else "")]

    async def wait_seen(self, name: str, count: int = 1) -> Seen:
        while len(self.named(name)) < count:
            await self._news.wait()
        return self.named(name)[count - 1]


@asynccontextmanager
async def remote_server(remote: Remote | None = None) -> AsyncIterator[Remote]:
    remote = remote or Remote()
    async with serving(remote.handle) as server:
        remote.port = server.port
        yield remote


@asynccontextmanager
async def connected(
    url: str,
    *,
    transport: Any = http,
    owner: str | None = None,
    headers: dict[str, str] | None = None,
    timeouts: Timeouts | None = None,
    message_max: int = 1 << 20,
    era: Era = Era.LEGACY,
) -> AsyncIterator[tuple[Link, Any, Heard]]:
    """A link over HTTP, as a connector opens it: the link, its carrier, and what is heard."""
    heard = Heard()
    deadlines = Deadlines(resolution=0.01)
    spec = ServerSpec(name="b", transport="auto", url=url, headers=headers or {}, timeouts=timeouts or Timeouts(init=5))
    client = HttpClient(deadlines=deadlines)
    failure: BackendError | None = None
    async with trio.open_nursery() as outer:
        await outer.start(deadlines.run)
        async with trio.open_nursery() as nursery:
            link = Link(
                "b",
                capabilities=EVERYTHING,
                owner=SessionKey(owner) if owner is not None else None,
                listener=heard,
                timeouts=spec.timeouts,
                deadlines=deadlines,
                nursery=nursery,
                era=era,
            )
            manager = transport.connect(spec, client, link, nursery, message_max=message_max)
            try:
                carrier = await manager.__aenter__()
            except BackendError as error:
                failure = error
            else:
                try:
                    yield link, carrier, heard
                finally:
                    link.fail(link.reason or BackendUnavailable("b", "the test is over"))
                    await manager.__aexit__(None, None, None)
            nursery.cancel_scope.cancel()
        await client.aclose()
        outer.cancel_scope.cancel()
    if failure is not None:
        raise failure  # here, where no nursery makes a group of it


__all__ = [
    "HELLO",
    "JSON_TYPE",
    "SSE_TYPE",
    "Remote",
    "Seen",
    "connected",
    "event_of",
    "http",
    "remote_server",
    "sse",
]
