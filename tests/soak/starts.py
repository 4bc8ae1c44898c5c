"""Many servers at once: how soon mcpd is ready, and how many of them start up at the same time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak.rig import CONCURRENCY

if TYPE_CHECKING:
    from tests.soak.report import Report
    from tests.soak.rig import Rig

READY = 1.0
"""Seconds until the sockets and the configuration stand; no server is waited for."""


async def run(rig: Rig, report: Report, *, count: int, slack: float) -> None:
    """Start a daemon in front of so many servers, none of which it has seen before."""
    journal = rig.crowd(count)
    begun = time.perf_counter()
    async with rig.daemon() as daemon:
        ready, worked = time.perf_counter() - begun, processor_time(daemon.pid)
        await rig.wait_ready(daemon)
        complete = time.perf_counter() - begun
    left = await rig.wait_processes(0)
    starting = most = starts = 0
    for line in journal.read_text().split():
        starting += 1 if line == "begin" else -1
        starts += line == "begin"
        most = max(most, starting)
    # Beside other things, what mcpd itself did until then says more than the clock.
    measured = ready if slack == 1.0 else worked
    report.add(
        f"mcpd is ready, with {count} servers",
        f"{ready:.2f} s, {worked:.2f} s of processor time",
        f"within {READY * slack:g} s",
        well=measured <= READY * slack,
    )
    report.add("all of them are", f"{complete:.1f} s", "", well=starts >= count)
    report.add("started up at the same time", f"{most}", f"at most {CONCURRENCY}", well=0 < most <= CONCURRENCY)
    report.none("processes left after SIGTERM", len(left))


def processor_time(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
