"""A first day with mcpd, at the terminal of a box: installed, used, broken, mended, and found again after a reboot.

    python -m tests.systemd.day                 Debian 12 and 13
    python -m tests.systemd.day --debian 13     one of them

What was typed and shown is left in .cache/day, as recordings and as texts. Exit status: 0 when it went as it should, or
when this machine cannot boot a box, which it says; 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.fixtures.peer import ROOT
from tests.packages import SetupError
from tests.systemd.box import booted
from tests.systemd.image import RELEASES, image
from tests.systemd.machine import NotHere, install_tools, obstacle
from tests.systemd.service import Service
from tests.systemd.terminal import Recording, sitting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.systemd.box import Box
    from tests.systemd.terminal import Terminal

DAY_LIMIT = 600.0
"""Seconds; half a minute is usual."""
DEB = "/opt/deb"
PYTHON = "/usr/lib/mcpd/bin/python3"
REMOTE = (
    "systemd-run --quiet --unit=elsewhere --property=StateDirectory=elsewhere "
    "mcpd --demo --port 9000 --state-dir /var/lib/elsewhere --control-socket /run/elsewhere.sock"
)
"""A server that is not on this machine, but for the sake of the test: mcpd is one, too."""
LISTENING = re.compile(r":2328 \S+ 0A ")
"""A line of /proc/net/tcp: local port 9000, any peer, state LISTEN."""
STATE = re.compile(r"^(\S+)\s+(\S+)", re.MULTILINE)


class Day:
    """One. Every step says what must be true after it."""

    def __init__(self, box: Box, terminal: Terminal) -> None:
        self._box = box
        self._terminal = terminal

    async def does(self, command: str, *words: str, status: int = 0) -> str:
        """What is typed shows all these words, and ends with this status."""
        found, shown = await self._terminal.type(command)
        assert found == status, f"{command}: status {found}, not {status}:\n{shown}"
        for word in words:
            assert word in shown, f"{command}: {word!r} is not in:\n{shown}"
        return shown

    async def servers(self) -> dict[str, str]:
        """Name → state, as the table of them says."""
        return dict(STATE.findall((await self.does("mcpctl servers")).partition("\n")[2]))

    async def before_the_reboot(self) -> None:
        """From the package to a set of servers that all work."""
        await self.does(f"dpkg -i {DEB}/mcpd_*.deb")
        await self.does("systemctl enable --now mcpd")
        await self.does("mcpctl status", "no servers")
        await self.does(f"mcpctl add-server notes -- {PYTHON} -I -m mcpd.demo.notes", "ready")
        await elsewhere(self._box)
        await self.does("mcpctl add-server far --url http://127.0.0.1:9000/mcp", "far is ready")
        assert await self.servers() == {"notes": "ready", "far": "ready"}
        await self.does("mcpctl tools", "notes_add_note", "far_calculator_add")
        await self.does("mcpctl call far_calculator_add a=2 b=3", "5")
        await self.does("mcpctl call notes_find_notes words=welcome")
        # Broken on purpose: the command is mistyped.
        await self.does("mcpctl add-server clock -- /usr/bin/pyhton3 -I -m mcpd.demo.clock", "does not exist")
        assert (await self.servers())["clock"] == "needs-operator"
        await self.does("mcpctl status", "needs operator: clock")
        await self.does("mcpctl show clock", "not-found", "correct the path")
        await self.does("mcpctl check clock", "did not come up", "remedy:", status=1)
        await self.does("mcpctl doctor", "clock", "correct the path", status=1)
        await self.does("mcpctl call clock_now", status=1)
        # Mended.
        await self.does(f"mcpctl add-server clock --replace -- {PYTHON} -I -m mcpd.demo.clock", "ready")
        await self.does("mcpctl call clock_now", ":")
        await self.does("mcpctl remove-server far")
        await self.does("mcpctl call far_calculator_add a=2 b=3", "there is no tool", status=1)
        assert await self.servers() == {"notes": "ready", "clock": "ready"}
        await self.does("mcpctl config diff")

    async def after_the_reboot(self) -> None:
        """Everything is as it was."""
        await self.does("systemctl is-active mcpd", "active")
        assert await self.servers() == {"notes": "ready", "clock": "ready"}
        await self.does("mcpctl call clock_now", ":")
        await self.does("mcpctl show clock", "overlay.json", "uid=0 (root)")
        await self.does("mcpctl remove-server clock")
        assert await self.servers() == {"notes": "ready"}


async def elsewhere(box: Box) -> None:
    """Start the remote server, which nobody at the terminal knows anything of; returns when it answers."""
    await box.run(*REMOTE.split())

    async def answers() -> bool:
        return LISTENING.search(await box.read("/proc/net/tcp")) is not None

    await Service(box).until(answers, "something listens on 9000")


async def up(box: Box) -> None:
    """Wait until the box has started what it starts."""
    await box.ask("systemctl", "is-system-running", "--wait")


@contextmanager
def kept(tree: Path, directory: Path) -> Iterator[Path]:
    """The tree of a release with what boots of it change, which is in the directory. Raises: SetupError."""
    for name in ("upper", "work", "whole"):
        (directory / name).mkdir()
    layers = f"lowerdir={tree},upperdir={directory / 'upper'},workdir={directory / 'work'}"
    whole = directory / "whole"
    done = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", layers, str(whole)], capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise SetupError(f"no file tree that is kept over a reboot: {done.stderr.strip()}")
    try:
        yield whole
    finally:
        subprocess.run(["umount", str(whole)], capture_output=True, timeout=60, check=True)


async def drive(version: str, deb: Path, recording: Path) -> None:
    """One day in one box. Raises: SetupError, AssertionError, trio.TooSlowError."""
    tree = await trio.to_thread.run_sync(image, version)
    taken = Recording()
    with tempfile.TemporaryDirectory(prefix="mcpd-day-") as directory, kept(tree, Path(directory)) as whole:
        try:
            with trio.fail_after(DAY_LIMIT):
                for number, part in enumerate((Day.before_the_reboot, Day.after_the_reboot)):
                    name = f"mcpd-day{version}-{os.getpid()}-{number}"
                    async with booted(whole, name, {deb.parent: DEB}, keeps=True) as box:
                        await up(box)
                        async with sitting(box, taken) as terminal:
                            await part(Day(box, terminal))
                        # Written down before the box goes: an end in a hurry loses what a machine would not.
                        await box.run("sync")
        finally:
            taken.write(recording)


def main(arguments: list[str], deb: Path) -> int:
    """How many days went wrong, of the releases that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.systemd.day", allow_abbrev=False)
    parser.add_argument("--debian", action="append", choices=sorted(RELEASES), help="one release; default: all")
    failed = 0
    for version in parser.parse_args(arguments).debian or sorted(RELEASES):
        began = time.monotonic()
        recording = ROOT / ".cache" / "day" / f"debian{version}"
        try:
            trio.run(drive, version, deb, recording)
        except NotHere:
            raise
        except Exception:
            failed += 1
            sys.stdout.write(f"first day: FAILED on Debian {version}\n{traceback.format_exc()}")
        else:
            where = recording.with_suffix(".cast").relative_to(ROOT)
            took = time.monotonic() - began
            sys.stdout.write(f"first day: went well on Debian {version}, see {where} ({took:.1f} s)\n")
    return failed


if __name__ == "__main__":
    from tests.systemd.__main__ import build

    if (reason := obstacle()) is not None:
        sys.stdout.write(f"first day: nothing was tested, because {reason}\n")
        sys.exit(0)
    install_tools()
    with tempfile.TemporaryDirectory(prefix="mcpd-deb-") as built:
        sys.exit(1 if main(sys.argv[1:], build(built)) else 0)
