"""A steady load of many clients on one daemon, and what came of it: for tests of what must go unnoticed."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h11
import trio

from tests.e2e.background import children, everything, until
from tests.fixtures.peer import HttpPeer, ModernHttpPeer, start_daemon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fixtures.peer import JSON, Running

UPDATED = "notifications/resources/updated"
URI = "test://static-text"

PATIENCE = 100.0
"""Seconds that a call may take: much more than an upgrade does on a busy machine."""

CLIENTS = 16

SLOW = 0.3
"""Seconds of a slow call: longer than it takes until its answer becomes an event stream."""


@dataclass
class Load:
    """What was done so far, and everything that went wrong."""

    running: Running
    calls: int = 0
    published: int = 0
    failures: list[str] = field(default_factory=list)
    updates: list[int] = field(default_factory=list)
    """How many updates each session heard of in the end, which waited for all that were published."""
    reconnects: int = 0
    publishing: int = 0
    """Clients that may still publish."""
    begun: trio.Event = field(default_factory=trio.Event)
    """Every client is there, and subscribed."""
    quiet: trio.Event = field(default_factory=trio.Event)

    async def more(self, calls: int) -> None:
        """Wait until so many more calls were answered."""
        wanted = self.calls + calls
        with trio.fail_after(PATIENCE):
            while self.calls < wanted and not self.failures:  # noqa: ASYNC110 - it counts in many tasks
                await trio.sleep(0.02)

    async def upgrade(self) -> None:
        """One upgrade, until the new program is up. Raises: AssertionError if it was refused."""
        done, refused = self.running.stderr.count("event=upgraded"), self.running.stderr.count("event=upgrade_")
        self.running.process.send_signal(signal.SIGUSR2)
        with trio.fail_after(PATIENCE):
            while self.running.stderr.count("event=upgraded") == done:
                assert self.running.stderr.count("event=upgrade_") <= refused + 1, self.running.stderr[-3000:]
                await trio.sleep(0.02)

    def verify(self, *, exactly: bool = True) -> None:
        """Nothing went wrong. A modern server may be listened to twice for a moment, and says everything twice then."""
        assert self.failures == []
        assert len(self.updates) == CLIENTS // 2
        assert min(self.updates) >= self.published > 0, (self.updates, self.published)
        assert not exactly or max(self.updates) == self.published, (self.updates, self.published)
        assert self.reconnects == 0


@asynccontextmanager
async def load(running: Running, clients: int, *, prefixes: tuple[str, ...] = ("",)) -> AsyncIterator[Load]:
    """So many clients, of four kinds, at work for as long as the block runs; then every one has had its last answer."""
    state = Load(running)
    over = trio.Event()
    async with trio.open_nursery() as nursery:
        for number in range(clients):
            kind = (session, session, keep_alive, modern)[number % 4]
            prefix = prefixes[0] if kind is modern else prefixes[number % len(prefixes)]  # the resource is the first's
            await nursery.start(_guarded, kind, state, over, prefix)
        state.begun.set()
        yield state
        over.set()


@asynccontextmanager
async def under_load(first: str) -> AsyncIterator[Load]:
    """A daemon with the same server twice, once for each era, and CLIENTS at work. The resource is the first's."""
    eras = [first, "modern" if first == "legacy" else "legacy"]
    servers = {era: everything("--name", era, prefix=f"{era}_", era=era) for era in eras}
    prefixes = tuple(f"{era}_" for era in eras)
    async with start_daemon({"mcpServers": servers}) as running:
        # Before that, the resource is that of the one that is ready.
        await until(lambda: running.stderr.count("event=ready version") == len(eras), PATIENCE)
        async with load(running, CLIENTS, prefixes=prefixes) as state:
            await state.more(CLIENTS)
            yield state


async def _guarded(
    kind: Any, state: Load, over: trio.Event, prefix: str, *, task_status: trio.TaskStatus[None]
) -> None:
    try:
        await kind(state, over, prefix, task_status)
    except Exception as error:
        state.failures.append(f"{kind.__name__}: {error!r}")


async def session(state: Load, over: trio.Event, prefix: str, task_status: trio.TaskStatus[None]) -> None:
    """A client with a session, subscribed to a resource, a stream that is always open, quick calls and slow ones."""
    async with HttpPeer(state.running.url) as peer, trio.open_nursery() as nursery:
        await peer.initialize()
        assert await peer.open_stream() == 200
        nursery.start_soon(_listen_again, peer, state)
        await peer.request("resources/subscribe", {"uri": URI})
        mine = peer.session_id
        task_status.started()
        number = 0
        while not over.is_set():
            number += 1
            echoed = await peer.call_json(f"{prefix}echo", {"value": number}, timeout=PATIENCE)
            assert echoed["arguments"] == {"value": number}
            assert await peer.call_text(f"{prefix}sleep", {"seconds": SLOW}, timeout=PATIENCE) == "slept"
            assert peer.session_id == mine
            state.calls += 2
        await state.quiet.wait()
        with contextlib.suppress(trio.TooSlowError):  # the test says which numbers are wrong
            await peer.wait_notifications(UPDATED, state.published, timeout=PATIENCE)
        state.updates.append(len(peer.notifications(UPDATED)))
        nursery.cancel_scope.cancel()


async def _listen_again(peer: HttpPeer, state: Load) -> None:
    """As clients do: a stream that ends is opened again, where it ended."""
    while True:
        await peer.wait_closed(timeout=1e6)
        state.reconnects += 1
        assert await peer.open_stream(peer.last_event_id) == 200


async def keep_alive(state: Load, over: trio.Event, prefix: str, task_status: trio.TaskStatus[None]) -> None:
    """A client that sends request after request on one connection, which must never end."""
    host, _, port = state.running.base.removeprefix("http://").partition(":")
    async with HttpPeer(state.running.url) as peer, await trio.open_tcp_stream(host, int(port)) as stream:
        await peer.initialize()
        headers = {**peer.session_headers(), "Content-Type": "application/json", "Host": f"{host}:{port}"}
        headers["Accept"] = "application/json, text/event-stream"
        connection = h11.Connection(h11.CLIENT)
        task_status.started()
        number = 0
        while not over.is_set():
            number += 1
            params = {"name": f"{prefix}add", "arguments": {"a": number, "b": 1}}
            body = json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()
            fields = [*headers.items(), ("Content-Length", str(len(body)))]
            request = connection.send(h11.Request(method="POST", target="/mcp", headers=fields))
            await stream.send_all(request + connection.send(h11.Data(body)) + connection.send(h11.EndOfMessage()))
            answer = await _read(connection, stream)
            assert answer["result"]["structuredContent"] == {"sum": number + 1}, answer
            connection.start_next_cycle()
            state.calls += 1
            await trio.sleep(0.02)


async def _read(connection: h11.Connection, stream: trio.SocketStream) -> JSON:
    """The answer of a call, whether as JSON or on an event stream."""
    body, status = b"", 0
    with trio.fail_after(PATIENCE):
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
    assert status == 200, (status, body)
    lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith((b"data: {", b"{"))]
    return dict(json.loads(lines[-1]))


async def modern(state: Load, over: trio.Event, prefix: str, task_status: trio.TaskStatus[None]) -> None:
    """A client of requests that stand alone, one of which makes the resource change for all that are subscribed."""
    async with ModernHttpPeer(state.running.url) as peer:
        task_status.started()
        state.publishing += 1
        await state.begun.wait()
        while not over.is_set():
            told = await peer.call(f"{prefix}test_trigger_resource_update", {"uri": URI}, timeout=PATIENCE)
            assert "result" in told.answer, told.answer
            state.published += 1
            state.calls += 1
            await trio.sleep(0.05)
    state.publishing -= 1
    if not state.publishing:
        state.quiet.set()


async def main(upgrades: int) -> None:
    """So many upgrades for each era, and what they took."""
    for first in ("legacy", "modern"):
        async with under_load(first) as state:
            before = sorted(children(state.running.pid))
            for _ in range(upgrades):
                await state.upgrade()
                await state.more(CLIENTS)
            assert sorted(children(state.running.pid)) == before, "a child was restarted"
            away = sorted(map(float, re.findall(r"away=([0-9.]+)", state.running.stderr)))
            waited = sorted(map(float, re.findall(r"waited=([0-9.]+)", state.running.stderr)))
        state.verify(exactly=first == "legacy")
        sys.stdout.write(
            f"{first}: {upgrades} upgrades, {state.calls} calls, {state.published} updates to {len(state.updates)} "
            f"sessions, none failed or missed; away {away[len(away) // 2]:.2f} s (at most {away[-1]:.2f}), "
            f"after waiting {waited[len(waited) // 2]:.2f} s (at most {waited[-1]:.2f})\n"
        )


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 20)
