"""Many calls that wait for people: what each costs, and what is left when nobody answers."""

# ruff: noqa: ASYNC110 - processes tell nothing of what goes on inside them
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.backends import server_state
from tests.fixtures.peer import HttpPeer, start_daemon, start_fixture

PARKED = 240
CONNECTIONS = 8
KIB_EACH = 20.0
ASK = 5
"""Seconds for which a call stays parked: longer than it takes to make them all on a busy machine."""

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
HEADERS = (
    "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n"
    "Mcp-Name: test_elicitation\r\nContent-Length: %d\r\n\r\n"
)


class Caller:
    """A client that keeps its connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def call(self, mark: str) -> Any:
        params = {"name": "test_elicitation", "arguments": {"message": mark}, "_meta": ENVELOPE}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        await self._stream.send_all(((HEADERS % len(body)) + body).encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += await self._stream.receive_some()
        head, _, rest = got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(rest) < length:
            rest += await self._stream.receive_some()
        return json.loads(rest)


def memory_kib(pid: int) -> int:
    """What the process holds for itself."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.slow
async def test_a_parked_call_is_small_and_leaves_no_trace():
    async with start_fixture("everything", "--era", "legacy") as backend:
        server = {"url": backend.url, "instances": "shared", "prefix": "", "timeouts": {"ask": f"{ASK}s"}}
        async with start_daemon({"listen": {"port": 0}, "mcpServers": {"e": server}}) as daemon:
            host, _, port = daemon.url.removeprefix("http://").partition("/")[0].rpartition(":")

            async def park(count: int) -> None:
                async with await trio.open_tcp_stream(host, int(port)) as stream:
                    caller = Caller(stream)
                    for number in range(count):
                        answer = await caller.call(f"question {number}")
                        assert answer["result"]["resultType"] == "input_required"

            async def park_all() -> None:
                async with trio.open_nursery() as nursery:
                    for _ in range(CONNECTIONS):
                        nursery.start_soon(park, PARKED // CONNECTIONS)

            async def all_over() -> None:
                async with HttpPeer(daemon.url) as peer:
                    with trio.fail_after(ASK + 30):
                        while (await server_state(peer, daemon, "e"))["calls_in_flight"]:
                            await trio.sleep(0.2)

            await park(20)  # what is loaded and grows once
            await all_over()
            before = memory_kib(daemon.pid)
            await park_all()
            peak = memory_kib(daemon.pid)
            assert descriptors(daemon.pid) >= PARKED, "each call waits at its backend"
            assert (peak - before) / PARKED < KIB_EACH
            await all_over()
            await park_all()  # mostly in the memory that the first ones have left
            assert memory_kib(daemon.pid) - peak < PARKED * KIB_EACH / 2
            await all_over()
