"""mcpd behind a listening socket that outlives it, and clients that keep it busy while it is restarted.

The clients do what real ones do, and no more: they keep a connection for the next request, drop it when they were told
so or find it closed, and take up streams that end by Last-Event-ID. They send no call twice.

`python -m tests.e2e.restarting 20` restarts it twenty times, and says how long each time took.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.e2e.background import ENVIRONMENT, everything, mcpd
from tests.fixtures.peer import CLIENT_INFO, LATEST, META, MODERN
from tests.fixtures.peer_process import stop_process, watch
from tests.fixtures.peer_wire import HttpExchange, read_head, read_reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMIT = 60.0
"""Seconds for whatever a client waits for; only a failure takes them."""

EXEC = """
import os, sys
fd, argv = int(sys.argv[1]), sys.argv[2:]
os.dup2(fd, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="http")
os.execvp(argv[0], argv)
"""
"""What systemd does between fork and exec for a service with a socket unit."""

LEGACY = 12
MODERNS = 4
URIS = 8
"""Resources that each client is subscribed to, and has told of in turn."""

POST = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
UPDATED = "notifications/resources/updated"


class Unit:
    """A service and its socket."""

    def __init__(self, directory: Path) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self.sock.getsockname()[1]
        self.errors = bytearray()
        self.took: list[float] = []
        """Seconds from SIGTERM to the end, of each restart."""
        self._config = directory / "mcpd.json"
        servers = {"one": everything("--era", "legacy")}
        self._config.write_text(json.dumps({"mcpServers": servers, "streams": {"hold": 0.05, "retry": 0.05}}))
        self._state = directory / "state"
        self._process: trio.Process | None = None
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Unit]:
        """For the duration of the block."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self.start()
                try:
                    yield self
                finally:
                    with trio.CancelScope(shield=True):
                        assert self._process is not None
                        self._process.terminate()
                        await stop_process(self._process)
                    self._nursery.cancel_scope.cancel()
        finally:
            self.sock.close()

    async def start(self) -> None:
        """Start it; clients may come before it is ready."""
        fd = self.sock.fileno()
        argv = [sys.executable, "-c", EXEC, str(fd)]
        options = ("--config", str(self._config), "--state-dir", str(self._state))
        self._process = await trio.lowlevel.open_process(
            [*argv, *mcpd(*options)], env=ENVIRONMENT, pass_fds=[fd], stderr=subprocess.PIPE
        )
        assert self._nursery is not None
        self._nursery.start_soon(watch, self._process.stderr, self.errors)

    async def restart(self) -> None:
        """What `systemctl restart` does."""
        assert self._process is not None
        begun = time.monotonic()
        self._process.terminate()
        with trio.fail_after(LIMIT):
            assert await self._process.wait() == 0, self.errors.decode(errors="replace")
        self.took.append(time.monotonic() - begun)
        await self.start()


class Keeper:
    """A connection that is kept, as HTTP clients do."""

    def __init__(self, port: int, *, keep: bool = True) -> None:
        self._port = port
        self._keep = keep
        self._stream: trio.SocketStream | None = None
        self.reused = 0

    @asynccontextmanager
    async def request(self, method: str, headers: dict[str, str], body: bytes = b"") -> AsyncIterator[HttpExchange]:
        """One exchange. The connection is kept if the answer is read to its end and does not forbid it."""
        stream = self._stream
        self._stream = None
        if stream is not None and stream.socket.is_readable():
            await stream.aclose()  # nothing is due, so that is its end
            stream = None
        if stream is None:
            stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        else:
            self.reused += 1
        fields = {"Host": f"127.0.0.1:{self._port}", **headers, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        whole = False
        try:
            await stream.send_all(f"{method} /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
            exchange = await read_head(stream)
            yield exchange
            whole = self._keep and exchange.ended and exchange.headers.get("connection") != "close"
        finally:
            if whole:
                self._stream = stream
            else:
                await trio.aclose_forcefully(stream)

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()


class Client:
    """One client at work, until `stop` is set."""

    def __init__(self, number: int, unit: Unit) -> None:
        self.number = number
        self.calls = 0
        self.stop = trio.Event()
        self._unit = unit
        self._keeper = Keeper(unit.port)
        self._ids = itertools.count(1)

    async def run(self) -> None:
        """Work."""
        try:
            while not self.stop.is_set():
                await self._round()
        finally:
            with trio.CancelScope(shield=True):
                await self._keeper.close()

    async def _round(self) -> None:
        raise NotImplementedError


class LegacyClient(Client):
    """With a session, subscriptions, a GET stream and calls whose streams can be resumed."""

    def __init__(self, number: int, unit: Unit) -> None:
        super().__init__(number, unit)
        self.told: Counter[str] = Counter()
        """Updates that its server says to have sent, by URI."""
        self.heard: Counter[str] = Counter()
        self.numbers: list[int] = []
        """Of the events on the GET stream."""
        self.streams = 0
        """GET streams that were opened."""
        self.resumed = 0
        """Streams of calls that were taken up again."""
        self._headers = dict(POST)
        self._listening = trio.Event()
        self._news = trio.Event()
        self._uris = [f"test://template/{number}-{n}/data" for n in range(URIS)]

    async def run(self) -> None:
        params = {"protocolVersion": LATEST, "capabilities": {}, "clientInfo": CLIENT_INFO}
        await self._ask("initialize", params)
        self._headers["MCP-Protocol-Version"] = LATEST
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        for uri in self._uris:
            await self._ask("resources/subscribe", {"uri": uri})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            await self._listening.wait()
            await super().run()
            with trio.fail_after(LIMIT):
                while any(self.heard[uri] < count for uri, count in self.told.items()):
                    await self._news.wait()
            nursery.cancel_scope.cancel()

    async def _round(self) -> None:
        a, b = self.number, self.calls
        answer = await self._call("add", {"a": a, "b": b})
        assert answer["structuredContent"] == {"sum": a + b}
        steps: list[int] = []
        answer = await self._call("sleep", {"seconds": 0.1 + 0.05 * (self.number % 4)}, steps)
        assert answer["content"][0]["text"] == "slept"
        assert steps == list(range(1, len(steps) + 1)), f"progress was lost: {steps}"
        assert steps
        uri = self._uris[self.calls % URIS]
        answer = await self._call("test_trigger_resource_update", {"uri": uri})
        told = answer["content"][0]["text"]
        assert told == "told 1", f"{uri}: {told}; {self._unit.errors.decode(errors='replace')}"
        self.told[uri] += 1

    async def _call(self, tool: str, arguments: dict[str, Any], steps: list[int] | None = None) -> dict[str, Any]:
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if steps is not None:
            params["_meta"] = {"progressToken": "t"}
        result = await self._ask("tools/call", params, steps)
        self.calls += 1
        return result

    async def _ask(self, method: str, params: dict[str, Any], steps: list[int] | None = None) -> dict[str, Any]:
        id = next(self._ids)
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        answer = await self._post(message, [] if steps is None else steps)
        assert answer is not None
        assert answer["id"] == id
        assert "result" in answer, f"{method} of client {self.number} failed: {answer}"
        return dict(answer["result"])

    async def _post(self, message: dict[str, Any], steps: list[int] | None = None) -> dict[str, Any] | None:
        with trio.fail_after(LIMIT):
            async with self._keeper.request("POST", self._headers, json.dumps(message).encode()) as exchange:
                if message["method"] == "initialize":
                    self._headers["Mcp-Session-Id"] = exchange.headers["mcp-session-id"]
                if not exchange.is_stream:
                    reply = await read_reply(exchange)
                    assert reply.status in (200, 202), f"HTTP {reply.status}: {reply.body[:200]!r}"
                    return reply.message()
                assert steps is not None
                answer, last = await self._read(exchange, steps)
            while answer is None:
                assert last is not None, "a stream ended that cannot be resumed"
                self.resumed += 1
                headers = {**self._headers, "Last-Event-ID": last}
                async with Keeper(self._unit.port, keep=False).request("GET", headers) as exchange:
                    assert exchange.status == 200, await read_reply(exchange)
                    answer, last = await self._read(exchange, steps, last)
            return answer

    async def _read(
        self, exchange: HttpExchange, steps: list[int], last: str | None = None
    ) -> tuple[dict[str, Any] | None, str | None]:
        """The stream of a call to its end: the answer if it came, and the id of the last event."""
        answer = None
        while event := await exchange.next_event():
            last = event.id or last
            if event.data:
                message = json.loads(event.data)
                if "method" in message:
                    steps.append(message["params"]["progress"])
                else:
                    answer = message
        return answer, last

    async def _listen(self) -> None:
        last = None
        while True:
            headers = {**self._headers, **({} if last is None else {"Last-Event-ID": last})}
            async with Keeper(self._unit.port, keep=False).request("GET", headers) as exchange:
                assert exchange.status == 200, await read_reply(exchange)
                self.streams += 1
                self._listening.set()
                while event := await exchange.next_event():
                    last = event.id or last
                    self._take(event.id, event.data)

    def _take(self, id: str | None, data: str) -> None:
        assert id is not None
        self.numbers.append(int(id.partition("-")[2]))
        message = json.loads(data)
        if message["method"] == UPDATED:  # else a list, of a server that took long to start the first time
            self.heard[message["params"]["uri"]] += 1
        self._news.set()
        self._news = trio.Event()


class ModernClient(Client):
    """Whose requests stand alone."""

    async def _round(self) -> None:
        for tool, arguments in (("add", {"a": 1, "b": self.calls}), ("sleep", {"seconds": 0.2})):
            envelope = {"protocolVersion": MODERN, "clientCapabilities": {}, "clientInfo": CLIENT_INFO}
            meta = {META + name: value for name, value in envelope.items()}
            params = {"name": tool, "arguments": arguments, "_meta": meta}
            message = {"jsonrpc": "2.0", "id": next(self._ids), "method": "tools/call", "params": params}
            headers = {**POST, "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
            with trio.fail_after(LIMIT):
                async with self._keeper.request("POST", headers, json.dumps(message).encode()) as exchange:
                    reply = await read_reply(exchange)
            answer = reply.message()
            assert answer is not None, f"HTTP {reply.status}: {reply.body[:200]!r}"
            assert "result" in answer, f"client {self.number} failed: {answer}"
            self.calls += 1


async def restart_under_load(directory: Path, times: int) -> tuple[Unit, list[LegacyClient], list[ModernClient]]:
    """Restart mcpd while all clients work; raises what went wrong for any of them."""
    unit = Unit(directory)
    legacy = [LegacyClient(n, unit) for n in range(LEGACY)]
    modern = [ModernClient(n, unit) for n in range(MODERNS)]
    clients: list[Client] = [*legacy, *modern]
    async with unit.running(), trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.run)
        for _ in range(times + 1):
            # Each has work in flight, and some done since the last time.
            goal = {client.number: client.calls + 3 for client in clients}
            with trio.fail_after(LIMIT):
                while any(client.calls < goal[client.number] for client in clients):  # noqa: ASYNC110
                    await trio.sleep(0.02)
            if _ < times:
                await unit.restart()
        for client in clients:
            client.stop.set()
    return unit, legacy, modern


def check(unit: Unit, legacy: list[LegacyClient], times: int) -> None:
    """That nothing was lost which no client would have noticed by itself."""
    for client in legacy:
        numbers = client.numbers
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "every event once, in order"
        assert client.streams >= times + 1, "its stream was ended each time"
    errors = unit.errors.decode(errors="replace")
    assert "Traceback" not in errors, errors
    assert "calls_given_up=0" in errors
    assert not re.search("calls_given_up=[1-9]", errors), errors


def main(times: int) -> None:
    with tempfile.TemporaryDirectory(prefix="mcpd-restart-") as directory:
        unit, legacy, modern = trio.run(restart_under_load, Path(directory), times)
    check(unit, legacy, times)
    calls = sum(client.calls for client in (*legacy, *modern))
    updates = sum(client.told.total() for client in legacy)
    took = sorted(unit.took)
    sys.stdout.write(
        f"{times} restarts, {len(legacy) + len(modern)} clients: {calls} calls, {updates} updates, none lost; "
        f"{sum(client.resumed for client in legacy)} streams of calls resumed; "
        f"an end took {took[len(took) // 2]:.2f} s (median), {took[-1]:.2f} s at most\n"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
