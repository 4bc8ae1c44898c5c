"""A little of the soak: hostile servers in control groups, SIGKILL of mcpd. All of it: `make soak ARGS=--systemd`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.soak.boxed import soak
from tests.soak.report import Report
from tests.soak.scale import QUICK, SLACK

if TYPE_CHECKING:
    from tests.systemd.service import Service


async def leaves_nothing_of_hostile_servers(service: Service) -> None:
    report = Report()
    await soak(service, report, QUICK, SLACK)
    assert report.well, f"\n{report.render()}"


CHECKS = (leaves_nothing_of_hostile_servers,)
