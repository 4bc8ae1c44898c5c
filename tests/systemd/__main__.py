"""mcpd under real systemds: boots Debian 12 and 13, installs the .deb in each, and drives it as operators do.

    python -m tests.systemd                     both, everything
    python -m tests.systemd --quick             Debian 12, a restart or two where the other does twenty
    python -m tests.systemd --debian 13 --check is_confined_and_its_server_with_it

Needs root, apt and the mirror that apt is set up with; file trees are kept in .cache/systemd of the checkout.
Exit status: 0 when every check passes, or when this machine cannot boot a box, which it says; 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.fixtures.peer import ROOT
from tests.packages import SetupError
from tests.systemd import checks_life, checks_restart, checks_settings, checks_soak, checks_upgrade, day, package
from tests.systemd.box import booted
from tests.systemd.image import RELEASES, image
from tests.systemd.machine import NotHere, install_tools, obstacle
from tests.systemd.service import TESTS, Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Check = Callable[[Service], Awaitable[None]]

CHECKS: tuple[Check, ...] = (
    *checks_life.CHECKS,
    *checks_settings.CHECKS,
    *checks_restart.CHECKS,
    *checks_upgrade.CHECKS,
)
LONG: tuple[Check, ...] = checks_soak.CHECKS
"""Left out of the quick form, which every change goes through."""
ROUNDS = 20
QUICK_ROUNDS = 2
CHECK_LIMIT = 900.0
"""Seconds of one check; twenty restarts take one or two minutes, and more on a machine that does other things."""
PACKAGE_LIMIT = 300.0
"""Seconds to build the .deb; the first time its libraries are downloaded."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def build(directory: str) -> Path:
    """The .deb of this checkout. Raises: SetupError."""
    argv = [sys.executable, "-m", "package", "--output", directory]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=PACKAGE_LIMIT)
    if done.returncode:
        raise SetupError(f"{' '.join(argv)} failed: {done.stderr}")
    return next(Path(directory).glob("*.deb"))


async def drive(version: str, deb: Path, checks: Sequence[Check], rounds: int, limit: float = CHECK_LIMIT) -> int:
    """Run checks in one box; returns how many failed. Raises: SetupError."""
    found: list[int | SetupError] = []
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()  # and no box is left behind

            nursery.start_soon(end)
            try:
                found.append(await _drive(version, deb, checks, rounds, limit))
            except SetupError as error:
                found.append(error)
            nursery.cancel_scope.cancel()
    outcome = found[0] if found else SetupError("ended by a signal")
    if isinstance(outcome, SetupError):
        raise outcome
    return outcome


async def _drive(version: str, deb: Path, checks: Sequence[Check], rounds: int, limit: float) -> int:
    began = time.monotonic()
    home = await trio.to_thread.run_sync(image, version)
    failed = 0
    binds = {ROOT / "tests": TESTS, deb.parent: "/opt/deb"}
    async with booted(home, f"mcpd-debian{version}-{os.getpid()}", binds) as box:
        service = Service(box, rounds=rounds)
        release = (await box.run("systemctl", "--version")).split("(")[1].split(")")[0]
        await box.run("dpkg", "--install", f"/opt/deb/{deb.name}")
        say(f"Debian {version}, systemd {release}: up and installed after {time.monotonic() - began:.1f} s")
        for check in checks:
            began = time.monotonic()
            try:
                with trio.fail_after(limit):
                    await service.fresh()
                    await check(service)
            except Exception:
                failed += 1
                say(f"  FAILED {check.__name__}\n{traceback.format_exc()}")
                say((await box.ask("journalctl", "--unit=mcpd*", "--lines=60", "--no-pager")).stdout)
            else:
                say(f"  ok     {check.__name__} ({time.monotonic() - began:.1f} s)")
    return failed


def main(arguments: list[str]) -> int:
    """Exit status, as above."""
    names = [check.__name__ for check in (*CHECKS, *LONG)]
    parser = argparse.ArgumentParser(prog="make test-systemd ARGS=...", allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="Debian 12, few rounds")
    parser.add_argument("--debian", action="append", choices=sorted(RELEASES), help="one release; default: all")
    parser.add_argument("--check", action="append", choices=names, help="one check; default: all")
    parser.add_argument("--deb", type=Path, help="this package, instead of building one")
    given = parser.parse_args(arguments)
    versions = given.debian or (["12"] if given.quick else sorted(RELEASES))
    asked = given.check or [check.__name__ for check in (CHECKS if given.quick else (*CHECKS, *LONG))]
    checks = [check for check in (*CHECKS, *LONG) if check.__name__ in asked]
    if (reason := obstacle()) is not None:
        say(f"systemd: nothing was tested, because {reason}")
        return 0
    failed = 0
    try:
        with tempfile.TemporaryDirectory(prefix="mcpd-deb-") as directory:
            install_tools()
            deb = given.deb.resolve() if given.deb else build(directory)
            rounds = QUICK_ROUNDS if given.quick else ROUNDS
            for version in versions:
                failed += trio.run(drive, version, deb, checks, rounds)
            if given.check is None:
                failed += day.main([f"--debian={version}" for version in versions], deb)
    except NotHere as reason:
        say(f"systemd: nothing more was tested, because {reason}")
        return 1 if failed else 0
    except SetupError as error:
        say(f"systemd: {error}")
        return 1
    if given.check is None and given.quick:
        left_out = [f"Debian {version}" for version in sorted(RELEASES) if version not in versions]
        left_out += [check.__name__ for check in LONG]
        say(f"systemd: not part of the quick form: {', '.join(left_out)}")
    total = len(versions) * (len(checks) + (given.check is None))
    say(f"systemd: {total - failed} checks passed, {failed} failed")
    if given.check is None and not given.quick:
        failed += package.main([f"--debian={version}" for version in versions])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
