"""SIGKILL of mcpd itself, again and again: the next one finds and ends what the last one left."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import trio

from tests.fixtures.peer import HttpPeer, PeerError
from tests.soak.hostile_server import HOSTILE
from tests.soak.report import percentile

if TYPE_CHECKING:
    from tests.soak.report import Report
    from tests.soak.rig import Daemon, Rig

SESSIONS = 3
"""With a child each, beside the servers' own."""

SEED = 11


async def run(rig: Rig, report: Report, *, count: int, slack: float) -> None:
    """Kill so many daemons at whatever moment, and look what the one after the last finds. Nothing is timed."""
    rng = random.Random(SEED)
    ready: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        async with rig.daemon() as daemon:
            ready.append(time.perf_counter() - begun)
            await use(daemon, rng)
            os.kill(daemon.pid, signal.SIGKILL)
            await daemon.process.wait()
    async with rig.daemon() as daemon:
        last = await rig.settled(daemon)
    left = await rig.wait_processes(0)
    report.add("SIGKILLs of mcpd, each with a start after it", f"{count}", "", well=True)
    slowest = f"{percentile(ready, 0.5):.2f} s, at most {max(ready):.2f} s"
    report.add("from the start to ready, with what is to be swept", slowest, "", well=True)
    report.add(
        "processes of children, at rest", f"{last.processes}", f"{rig.at_rest}", well=last.processes == rig.at_rest
    )
    report.none("zombies", last.zombies)
    report.none("processes left after SIGTERM", len(left))
    report.none("records left in the state directory", len(list((rig.state / "children").iterdir())))


async def use(daemon: Daemon, rng: random.Random) -> None:
    """Have some sessions with children for a moment, and leave them as they are."""
    with trio.move_on_after(rng.uniform(0.0, 1.0)):
        async with trio.open_nursery() as nursery:
            for kind in rng.sample(sorted(HOSTILE), SESSIONS):
                nursery.start_soon(_use, daemon, kind)


async def _use(daemon: Daemon, kind: str) -> None:
    name = kind.replace("-", "")
    try:
        async with HttpPeer(daemon.url) as peer:
            await peer.initialize()
            await peer.call_text(f"{name}_pid")
            await trio.sleep_forever()
    except PeerError:
        return  # it was not up yet
