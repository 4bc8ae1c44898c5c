"""SIGKILL of mcpd under systemd, which starts it again each time; then an orderly stop, after which nothing is left."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import trio

from tests.soak.cycles import GROWTH
from tests.soak.kills import SEED, use
from tests.soak.report import percentile
from tests.soak.rig import LOOK, PATIENCE

if TYPE_CHECKING:
    from tests.soak.report import Report
    from tests.soak.unit import UnitRig

CHILDREN = "/var/lib/mcpd/children"
"""Where mcpd notes what it has started."""


async def run(rig: UnitRig, report: Report, *, count: int, slack: float) -> None:
    """Kill it so many times at whatever moment, and compare the last one with the first one."""
    service = rig.service
    rng = random.Random(SEED)
    ready: list[float] = []
    async with rig.daemon() as unit:
        before, kept = await rig.settled(unit), await service.show("NFileDescriptorStore")
        for _ in range(count):
            await use(unit, rng)
            begun = time.perf_counter()
            await rig.kill(unit)
            ready.append(time.perf_counter() - begun)
        after, keeps = await rig.settled(unit), await service.show("NFileDescriptorStore")
        restarts = int(await service.show("NRestarts"))
    left = await rig.wait_processes(0)
    report.add("SIGKILLs of mcpd, each with a restart by systemd", f"{restarts}", f"{count}", well=restarts == count)
    slowest = f"{percentile(ready, 0.5):.2f} s, at most {max(ready):.2f} s"
    report.add("from the SIGKILL to ready, with RestartSec=", slowest, "", well=True)
    growth = after.resident / before.resident - 1
    report.add(
        "memory of the first and of the last",
        f"{before.resident / 2**20:.1f} → {after.resident / 2**20:.1f} MiB ({growth:+.1%})",
        f"within {GROWTH * slack:.0%}",
        well=abs(growth) <= GROWTH * slack,
    )
    descriptors = f"{before.descriptors} → {after.descriptors}"
    report.add("descriptors", descriptors, "equal", well=before.descriptors == after.descriptors)
    report.add("descriptors that systemd keeps for it", f"{kept} → {keeps}", "equal", well=kept == keeps)
    report.add(
        "processes of children, at rest", f"{after.processes}", f"{rig.at_rest}", well=after.processes == rig.at_rest
    )
    well = before.cgroups == after.cgroups == rig.servers
    report.add("cgroups of children", f"{before.cgroups} → {after.cgroups}", f"{rig.servers}", well=well)
    report.none("zombies", after.zombies)
    report.none("processes left after systemctl stop", len(left))
    with trio.move_on_after(PATIENCE):
        while rig.groups():  # noqa: ASYNC110 - systemd removes it soon after, and tells nobody
            await trio.sleep(LOOK)
    report.none("cgroups left after it", len(rig.groups()))
    report.none("records left in the state directory", len((await service.box.run("ls", CHILDREN)).split()))
