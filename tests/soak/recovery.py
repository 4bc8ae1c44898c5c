"""SIGKILL of a small child: how soon its calls in flight know it, and how soon the next one succeeds."""

# ruff: noqa: TID251 - what a child takes by itself is measured without mcpd
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import trio

from tests.fixtures.peer import HttpPeer, PeerError
from tests.soak.report import percentile
from tests.soak.rig import SERVER

if TYPE_CHECKING:
    from tests.soak.report import Report
    from tests.soak.rig import Rig

OWN_STARTS = 20

TOLD = 0.05
"""Seconds until every call in flight has failed, and said why."""

BACK = 0.3
"""Seconds, and the child's own start, until a call succeeds again; of 99 in a hundred."""

IN_FLIGHT = 4


async def run(rig: Rig, report: Report, *, count: int, slack: float) -> None:
    """Kill the small child so many times."""
    own = percentile([_start_by_hand() for _ in range(OWN_STARTS)], 0.5)
    told: list[float] = []
    back: list[float] = []
    reasons: set[str] = set()
    async with rig.daemon() as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        for _ in range(count):
            pid = int(await peer.call_text("plain_pid"))
            killed = 0.0
            at: list[float] = []

            async def wait() -> None:
                try:
                    await peer.call("plain_wait")
                except PeerError as error:
                    at.append(time.perf_counter())  # noqa: B023 - it is over before the next round
                    reasons.add(str(error))

            async with trio.open_nursery() as nursery:
                for _ in range(IN_FLIGHT):
                    nursery.start_soon(wait)
                await _until_in_flight(peer, daemon.base)
                os.kill(pid, signal.SIGKILL)
                killed = time.perf_counter()
            told += [each - killed for each in at]
            assert int(await peer.call_text("plain_pid")) != pid
            back.append(time.perf_counter() - killed)
    report.add("SIGKILLs of a small child", f"{count}", "", well=True)
    report.add(
        f"each of its {IN_FLIGHT} calls in flight has failed",
        f"p50 {percentile(told, 0.5) * 1e3:.1f} ms, p99 {percentile(told, 0.99) * 1e3:.1f} ms",
        f"p99 within {TOLD * slack * 1e3:.0f} ms",
        well=len(told) == count * IN_FLIGHT and percentile(told, 0.99) <= TOLD * slack,
    )
    report.add(
        "and says why",
        f"{sum('was killed by SIGKILL' in reason for reason in reasons)} of {len(reasons)} reasons",
        "all",
        well=all("was killed by SIGKILL" in reason for reason in reasons),
    )
    report.add("the child's own start", f"p50 {own * 1e3:.0f} ms", "", well=True)
    report.add(
        "the next call has succeeded",
        f"p50 {percentile(back, 0.5) * 1e3:.0f} ms, p99 {percentile(back, 0.99) * 1e3:.0f} ms",
        f"p99 within {(BACK * slack + own) * 1e3:.0f} ms",
        well=percentile(back, 0.99) <= BACK * slack + own,
    )


async def _until_in_flight(peer: HttpPeer, base: str) -> None:
    with trio.fail_after(20):
        while True:
            servers = (await peer.raw("GET", url=base + "/servers")).json()["servers"]
            if next(each for each in servers if each["name"] == "plain")["calls_in_flight"] == IN_FLIGHT:
                return
            await trio.sleep(0.005)


def _start_by_hand() -> float:
    """Seconds from the start of the child to the answer of its handshake and its list, without mcpd."""
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-ISs", SERVER, "by-hand", "plain"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for method, params in (("initialize", {"protocolVersion": "2025-11-25"}), ("tools/list", {})):
            request = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            child.stdout.readline()
        took = time.perf_counter() - begun
        child.stdin.close()
    return took
