"""Runs the soak: what mcpd must survive for days, in minutes. The exit status is 1 when something misses.

python -m tests.soak            100 servers at once, 200 SIGKILLs of a small child, 2,000 cycles, 100 SIGKILLs of mcpd:
                                about fifteen minutes
python -m tests.soak --quick    20, 10, 40 and 3: half a minute
python -m tests.soak --cycles 500 --servers 0 --recoveries 0 --kills 0
python -m tests.soak --systemd  the cycles and the SIGKILLs of mcpd with the package's service in a box that boots
                                Debian, see tests.systemd: about fifteen minutes; 0 too where no box can be booted,
                                which it says. --quick: half a minute
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # Started by its path, from whatever directory: make `tests` importable.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import trio

from tests.packages import SetupError
from tests.soak import boxed, cycles, kills, recovery, starts
from tests.soak.report import Report
from tests.soak.rig import Rig
from tests.soak.scale import LIMIT, QUICK, SLACK, WHOLE
from tests.systemd.__main__ import build, drive
from tests.systemd.image import RELEASES
from tests.systemd.machine import NotHere, install_tools, obstacle

if TYPE_CHECKING:
    from tests.systemd.service import Service


async def run(counts: dict[str, int], report: Report, slack: float) -> None:
    """The parts that are asked for, one after the other."""
    parts = {"servers": starts.run, "recoveries": recovery.run, "cycles": cycles.run, "kills": kills.run}
    with trio.fail_after(LIMIT):
        for name, part in parts.items():
            if counts[name]:
                with tempfile.TemporaryDirectory(prefix="mcpd-soak-") as directory:
                    begun = time.monotonic()
                    await part(Rig(Path(directory)), report, count=counts[name], slack=slack)
                    report.add(f"seconds for the {name}", f"{time.monotonic() - begun:.0f}", "", well=True)


def run_boxed(version: str, counts: dict[str, int], report: Report, slack: float) -> bool:
    """The parts for systemd, in a box of that release; whether nothing kept them from measuring.

    Raises: SetupError."""
    if (reason := obstacle()) is not None:
        raise NotHere(reason)

    async def soak(service: Service) -> None:
        await boxed.soak(service, report, counts, slack)

    install_tools()
    with tempfile.TemporaryDirectory(prefix="mcpd-deb-") as directory:
        return not trio.run(drive, version, build(directory), [soak], 1, LIMIT, strict_exception_groups=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Have mcpd survive what it must.")
    parser.add_argument("--quick", action="store_true", help="a small part of it")
    for name, count in WHOLE.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"default: {count}")
    parser.add_argument("--systemd", action="store_true", help="cycles and kills of the package's service, in a box")
    parser.add_argument("--debian", choices=sorted(RELEASES), help="the release of the box; default: the newest")
    options = parser.parse_args()
    usual = QUICK if options.quick else WHOLE
    counts = {name: usual[name] if (given := getattr(options, name)) is None else given for name in WHOLE}
    slack = SLACK if options.quick else 1.0
    report = Report()
    whole = True
    if not options.systemd:
        trio.run(run, counts, report, slack, strict_exception_groups=True)
    else:
        try:
            whole = run_boxed(options.debian or max(RELEASES), counts, report, slack)
        except NotHere as reason:
            sys.stdout.write(f"soak: nothing was tested under systemd, because {reason}\n")
            return 0
        except SetupError as error:
            sys.stdout.write(f"soak: {error}\n")
            return 1
    if report.rows:
        sys.stdout.write(report.render() + "\n")
    return 0 if whole and report.well else 1


if __name__ == "__main__":
    sys.exit(main())
