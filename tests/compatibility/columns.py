"""The columns of the table: which client, over which transport, reaches which server through mcpd; and their set-up.

A column has one mcpd, with mcpd's own fixture server behind it and clients of one era in front. Over stdio mcpd is the
client's child, so each client has an mcpd of its own. Some rows need a server, or clients, that are otherwise: these
are started when the first row asks for them, and everything ends with the column.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.compatibility.clients import Client, LegacyClient, ModernClient, capabilities
from tests.fixtures.peer import (
    JSON,
    LATEST,
    MODERN,
    ROOT,
    HttpPeer,
    ModernHttpPeer,
    ModernStdioPeer,
    ModernWebSocketPeer,
    SsePeer,
    StdioPeer,
    WebSocketPeer,
    fixture_command,
    start_daemon,
    start_fixture,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from tests.fixtures.peer import ModernPeer, Peer, Running

LETTERS = {"legacy": "L", "modern": "M"}
LIST_TTL = 30_000
"""Milliseconds; less than mcpd's own default, so that the two can be told apart."""
OLDEST = "2024-11-05"
IMPATIENT = 1.0
"""Seconds that a call may be silent at the place `poor`."""

PLACES: dict[str, tuple[str, ...]] = {
    "main": ("--array-output", "--list-ttl", str(LIST_TTL)),
    "poor": ("--no-announce", "--no-tasks"),
    "forgetful": ("--lose-sessions-after", "4"),
    "old": ("--handshake-max", OLDEST),
}
"""Place → what its server is started with. `poor` has a second server, too, which cannot be started."""


@dataclass(frozen=True, slots=True)
class Column:
    """A client's era and a server's, and the transport of both; HTTP+SSE has a modern side on Streamable HTTP."""

    front: str
    back: str
    transport: str

    @property
    def cell(self) -> str:
        """LL, LM, ML or MM."""
        return LETTERS[self.front] + LETTERS[self.back]

    @property
    def title(self) -> str:
        return f"{self.cell[0]}→{self.cell[1]} {self.transport}"

    @property
    def front_transport(self) -> str:
        return self._side(self.front)

    @property
    def back_transport(self) -> str:
        return self._side(self.back)

    def _side(self, era: str) -> str:
        return "http" if (self.transport, era) == ("sse", "modern") else self.transport


TRANSPORTS = ("http", "stdio", "websocket", "sse")
COLUMNS = [
    Column(front, back, transport)
    for front, back in (("legacy", "legacy"), ("legacy", "modern"), ("modern", "legacy"), ("modern", "modern"))
    for transport in TRANSPORTS
    if (front, back, transport) != ("modern", "modern", "sse")
]


class Place:
    """One mcpd, or over stdio the means to start some, and what is behind it."""

    def __init__(self, config: JSON, daemon: Running | None, server: Running | None) -> None:
        self.config = config
        self.daemon = daemon
        self.server = server
        self.modern: ModernPeer | None = None
        self.clients: dict[tuple[str, bool], Client] = {}


class Bench:
    """What the rows of one column work with."""

    def __init__(self, column: Column, nursery: trio.Nursery) -> None:
        self.column = column
        self._nursery = nursery
        self._places: dict[str, Place] = {}
        self._kept: list[Kept] = []

    @property
    def cell(self) -> str:
        return self.column.cell

    @property
    def is_modern(self) -> bool:
        """Whether the clients are."""
        return self.column.front == "modern"

    @property
    def has_modern_server(self) -> bool:
        return self.column.back == "modern"

    async def client(
        self, version: str = "", *, able: bool = False, fresh: bool = False, place: str = "main"
    ) -> Client:
        """A client of this version, the newest of its era unless told otherwise, that is kept for other rows unless
        it must be `fresh`; `able`: it declared everything that clients can be asked."""
        version = version or (MODERN if self.is_modern else LATEST)
        at = await self._place(place)
        known = None if fresh else at.clients.get((version, able))
        if known is not None:
            return known
        client = await (self._modern(at, version, able, fresh) if self.is_modern else self._legacy(at, version, able))
        if not fresh:
            at.clients[version, able] = client
        return client

    async def legacy(self, version: str = LATEST, *, able: bool = False) -> LegacyClient:
        """For rows that only legacy clients have."""
        client = await self.client(version, able=able)
        assert isinstance(client, LegacyClient)
        return client

    async def modern(self, *, able: bool = False) -> ModernClient:
        """For rows that only modern clients have."""
        client = await self.client(able=able)
        assert isinstance(client, ModernClient)
        return client

    async def url(self) -> str:
        """Of mcpd's endpoint for Streamable HTTP."""
        daemon = (await self._place("main")).daemon
        assert daemon is not None
        return daemon.url

    async def connect(self, place: str = "main") -> Peer:
        """A legacy client that has said nothing yet."""
        at = await self._place(place)
        return await self._keep(self._peer(at))

    async def stats(self) -> JSON:
        """What the server has counted; over stdio the one that serves clients who cannot be asked."""
        return dict(await (await self.client()).data("stats"))

    async def _legacy(self, at: Place, version: str, able: bool) -> LegacyClient:
        peer = await self._keep(self._peer(at))
        await peer.initialize(version, capabilities(version) if able else {})
        if isinstance(peer, HttpPeer):
            assert await peer.open_stream() == 200
        return LegacyClient(peer)

    async def _modern(self, at: Place, version: str, able: bool, fresh: bool) -> ModernClient:
        if at.modern is None or fresh:
            peer = await self._keep(self._modern_peer(at))
            if fresh:
                return ModernClient(peer, capabilities(version) if able else {}, version)
            await peer.list_tools()
            at.modern = peer
        return ModernClient(at.modern, capabilities(version) if able else {}, version)

    def _peer(self, at: Place) -> AbstractAsyncContextManager[Peer]:
        daemon = at.daemon
        if daemon is None:
            return with_own_daemon(StdioPeer, at.config)
        match self.column.front_transport:
            case "websocket":
                return WebSocketPeer(daemon.socket_url)
            case "sse":
                return SsePeer(daemon.base + "/sse")
        return HttpPeer(daemon.url)

    def _modern_peer(self, at: Place) -> AbstractAsyncContextManager[ModernPeer]:
        daemon = at.daemon
        if daemon is None:
            return with_own_daemon(ModernStdioPeer, at.config)
        if self.column.front_transport == "websocket":
            return ModernWebSocketPeer(daemon.socket_url)
        return ModernHttpPeer(daemon.url)

    async def _place(self, name: str) -> Place:
        if name not in self._places:
            self._places[name] = await self._make(name)
        return self._places[name]

    async def _make(self, name: str) -> Place:
        column = self.column
        arguments = ["--era", column.back, *PLACES[name]]
        entry: JSON = {"prefix": ""}
        server = None
        if column.back_transport == "stdio":
            command, *rest = fixture_command("everything", *arguments)
            entry |= {"command": command, "args": rest, "stop": {"eof": 0.5, "term": 0.5}}
            if column.cell == "ML":
                entry["instances"] = "leased"
        elif column.back_transport == "websocket":
            server = await self._keep(start_fixture("everything", *arguments, transport="websocket"))
            entry["url"] = server.socket_url
        else:
            server = await self._keep(start_fixture("everything", *arguments))
            entry["url"] = server.base + ("/sse" if column.back_transport == "sse" else "/mcp")
        config: JSON = {"mcpServers": {"all": entry}}
        if name == "poor":
            entry["timeouts"] = {"call_idle": IMPATIENT}
            config["mcpServers"]["down"] = {"command": "/nonexistent/mcp-server"}
        daemon = None
        if column.front_transport != "stdio":
            daemon = await self._keep(start_daemon(config))
        return Place(config, daemon, server)

    async def _keep(self, manager: AbstractAsyncContextManager[Any]) -> Any:
        """Opens it until the end of the column: in a task of its own, as the row that asks for it ends earlier."""
        kept = Kept(manager)
        value = await self._nursery.start(kept.run)
        self._kept.append(kept)
        return value

    async def close(self) -> None:
        """Ends what was opened, clients before what they are connected to."""
        while self._kept:
            await self._kept.pop().close()


class Kept:
    """An async context manager that a task keeps open."""

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager
        self._close = trio.Event()
        self._closed = trio.Event()

    async def run(self, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with self._manager as value:
                task_status.started(value)
                await self._close.wait()
        finally:
            self._closed.set()

    async def close(self) -> None:
        self._close.set()
        await self._closed.wait()


@asynccontextmanager
async def with_own_daemon(kind: type[Any], config: JSON) -> AsyncIterator[Any]:
    """A client on stdio, whose server is an mcpd of its own."""
    with tempfile.TemporaryDirectory(prefix="mcpd-test-") as directory:
        file = Path(directory) / "mcpd.json"
        file.write_text(json.dumps(config))
        argv = [sys.executable, "-m", "mcpd", "--config", str(file), "--state-dir", str(Path(directory) / "state")]
        async with kind([*argv, "--transport", "stdio"], cwd=str(ROOT)) as peer:
            yield peer


@asynccontextmanager
async def open_bench(column: Column) -> AsyncIterator[Bench]:
    """The column, until the end of the block."""
    async with trio.open_nursery() as nursery:
        bench = Bench(column, nursery)
        yield bench
        await bench.close()
