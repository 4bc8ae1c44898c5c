"""Limits of cgroups and the sandbox on a kernel of Debian 12, in a virtual machine that is made for it.

    python -m tests.cgroups [pytest arguments]

The development machine rarely lets a test limit memory, processes and processor time: its controllers belong to a
container, or to cgroup v1. So a Debian is booted in qemu, with everything emulated, on a copy of this checkout, and
pytest runs in a service with `Delegate=yes` there.

Needs root, apt and the mirror that apt is set up with; the image is kept in .cache/cgroups of the checkout.
Exit status: 0 when every test passes, or when this machine cannot make the image, which it says; 1 otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cgroups.guest import RESULT, image, machine, scenery
from tests.packages import SetupError
from tests.systemd.machine import mirror

LIMIT = 3000.0
"""Seconds for the machine, from its start to its end; with everything emulated, on a busy machine."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    if os.geteuid() != 0 or mirror() is None:
        say("tests of cgroup limits are not run: making the image needs root, apt-get and a mirror of Debian")
        return 0
    began = time.monotonic()
    try:
        home = image()
        with tempfile.TemporaryDirectory(prefix="mcpd-cgroups-") as directory:
            work = Path(directory)
            scenery(work, arguments)
            say(f"image and checkout ready after {time.monotonic() - began:.0f} s; booting Debian 12 in qemu")
            began = time.monotonic()
            console = work / "console.log"
            try:
                subprocess.run(machine(home, work), timeout=LIMIT, check=True, stdin=subprocess.DEVNULL)
            except (subprocess.SubprocessError, OSError) as error:
                say(console.read_text(errors="replace")[-4000:] if console.exists() else "")
                say(f"the machine did not end by itself: {error}")
                return 1
            said = (work / RESULT).read_text(errors="replace").replace("\r", "")
            say(said.rpartition("\nexit ")[0])
            status = said.rpartition("\nexit ")[2].strip()
            if status != "0":
                say(console.read_text(errors="replace")[-2000:])
            say(f"ended with {status or 'nothing'} after {time.monotonic() - began:.0f} s")
            return 0 if status == "0" else 1
    except SetupError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
