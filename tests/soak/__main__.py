"""Runs the soak: what mcpd must survive for days, in minutes. The exit status is 1 when something misses.

python -m tests.soak            100 servers at once, 200 SIGKILLs of a small child, 2,000 cycles, 100 SIGKILLs of mcpd:
                                about fifteen minutes
python -m tests.soak --quick    20, 10, 40 and 3: half a minute
python -m tests.soak --cycles 500 --servers 0 --recoveries 0 --kills 0
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

if not __package__:  # Started by its path, from whatever directory: make `tests` importable.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import trio

from tests.soak import cycles, kills, recovery, starts
from tests.soak.report import Report
from tests.soak.rig import Rig

WHOLE = {"servers": 100, "cycles": 2000, "kills": 100, "recoveries": 200}
QUICK = {"servers": 20, "cycles": 40, "kills": 3, "recoveries": 10}

SLACK = 10.0
"""Times as long, and as much more memory, as a quick run allows: it runs beside other things, and is too short to tell
drift from noise. Processes, descriptors and cgroups are counted as strictly as ever."""

LIMIT = 3600.0
"""Seconds for the whole; a soak that hangs is a finding, too."""


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Have mcpd survive what it must.")
    parser.add_argument("--quick", action="store_true", help="a small part of it")
    for name, count in WHOLE.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"default: {count}")
    options = parser.parse_args()
    usual = QUICK if options.quick else WHOLE
    counts = {name: usual[name] if (given := getattr(options, name)) is None else given for name in WHOLE}
    report = Report()
    trio.run(run, counts, report, SLACK if options.quick else 1.0, strict_exception_groups=True)
    sys.stdout.write(report.render() + "\n")
    return 0 if report.well else 1


if __name__ == "__main__":
    sys.exit(main())
