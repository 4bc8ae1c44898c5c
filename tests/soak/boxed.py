"""The soak under systemd: mcpd is the package's service in a box, and its children have control groups."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak import cycles, unit_kills
from tests.soak.unit import UnitRig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.soak.report import Report
    from tests.systemd.service import Service

PARTS = {"cycles": cycles.run, "kills": unit_kills.run}


async def soak(service: Service, report: Report, counts: Mapping[str, int], slack: float) -> None:
    """The parts that need no daemon of their own, each as often as it says there."""
    for name, part in PARTS.items():
        if counts[name]:
            with tempfile.TemporaryDirectory(prefix="mcpd-soak-") as directory:
                begun = time.monotonic()
                await part(UnitRig(service, Path(directory)), report, count=counts[name], slack=slack)
                report.add(f"seconds for the {name}", f"{time.monotonic() - begun:.0f}", "", well=True)
