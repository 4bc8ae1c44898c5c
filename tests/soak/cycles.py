"""Starts and ends of hostile children: stopped with their session, killed, or fallen by themselves."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import trio

from tests.fixtures.peer import Closed, HttpPeer, PeerError
from tests.soak.hostile_server import HOSTILE
from tests.soak.rig import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.soak.report import Report
    from tests.soak.rig import Daemon, Rig

AT_ONCE = 5
"""Sessions at the same time: ends overlap with starts, as they do in life."""

WARM_UP = 0.5
"""As many cycles, by share, come before the level of memory is taken: every thread has its arena by then, and Trio's
heap of deadlines, which keeps up to a thousand that are over, is as large as it gets."""

WARM_UP_MIN = 10
"""Cycles: one of each kind."""

GROWTH = 0.05
"""Share by which the memory may differ after all cycles."""

ENDS = ("stop", "crash", "fall")


async def run(rig: Rig, report: Report, *, count: int, slack: float) -> None:
    """Drive so many cycles, and compare what the daemon has before and after."""
    warm_up = max(WARM_UP_MIN, int(count * WARM_UP))
    async with rig.daemon() as daemon:
        start = await rig.settled(daemon)
        plan = ((end, kind) for end in itertools.cycle(ENDS) for kind in HOSTILE)
        await _drive(rig, daemon, plan, warm_up)
        before = await rig.settled(daemon)
        await _drive(rig, daemon, plan, count)
        after = await rig.settled(daemon)
    left = await rig.wait_processes(0)
    report.add("cycles of start and end", f"{count}", "", well=True)
    growth = after.resident / before.resident - 1
    report.add(
        "memory before and after",
        f"{before.resident / 2**20:.1f} → {after.resident / 2**20:.1f} MiB ({growth:+.1%})",
        f"within {GROWTH * slack:.0%}",
        well=abs(growth) <= GROWTH * slack,
    )
    report.add(
        "descriptors",
        f"{start.descriptors} → {after.descriptors}",
        "equal",
        well=start.descriptors == before.descriptors == after.descriptors,
    )
    report.add(
        "processes of children, at rest", f"{after.processes}", f"{rig.at_rest}", well=after.processes == rig.at_rest
    )
    report.add("cgroups of children", f"{after.cgroups}", f"{start.cgroups}", well=start.cgroups == after.cgroups)
    report.none("zombies", after.zombies)
    report.none("processes left after SIGTERM", len(left))


async def _drive(rig: Rig, daemon: Daemon, plan: Iterator[tuple[str, str]], count: int) -> None:
    """So many starts, each with its end."""
    left = count

    async def work() -> None:
        nonlocal left
        while left > 0:
            end, kind = next(plan)
            left -= 2 if end == "crash" else 1
            await _cycle(rig, daemon, kind, end)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)


async def _cycle(rig: Rig, daemon: Daemon, kind: str, end: str) -> None:
    """One session: its child is started by the first call, and is gone with the session at the latest."""
    name = kind.replace("-", "")
    with trio.fail_after(PATIENCE):
        async with HttpPeer(daemon.url) as peer:
            await peer.initialize()
            pid = int(await peer.call_text(f"{name}_pid"))
            if end == "crash":
                rig.crash(pid)
                # The call may come before the news; then it is told, or a worker answers that goes on for a moment.
                again = pid
                while again == pid:
                    with contextlib.suppress(PeerError):
                        again = int(await peer.call_text(f"{name}_pid"))
            elif end == "fall":
                # What stopped itself, or closed its pipes, cannot answer.
                with contextlib.suppress(PeerError, Closed, trio.TooSlowError):
                    await peer.call(f"{name}_fall", timeout=1.0)
            await peer.delete()
