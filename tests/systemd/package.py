"""The Debian package in a box without network: installed, used, upgraded, removed, installed again, purged.

    python -m tests.systemd.package                 Debian 12 and 13
    python -m tests.systemd.package --debian 13     one of them

Exit status: 0 when it is all as it should be, or when this machine cannot boot a box, which it says; 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from package.__main__ import content, host_architecture
from package.archive import FASTEST, build
from package.errors import PackageError
from package.project import moment, read_project
from package.tree import SHARED, Entry
from tests.fixtures.peer import HttpPeer
from tests.packages import SetupError
from tests.systemd.box import booted
from tests.systemd.image import RELEASES, image
from tests.systemd.machine import install_tools, obstacle
from tests.systemd.service import UNITS, URL, Service

if TYPE_CHECKING:
    from tests.systemd.box import Box

PACKAGES = "/opt/deb"
LIFE_LIMIT = 900.0
"""Seconds in one box; twenty are usual, and three hundred where ten others compute."""
PYTHON = "/usr/lib/mcpd/bin/python3"
SERVERS = {"calculator": {"command": PYTHON, "args": ["-I", "-m", "mcpd.demo.calculator"]}}
BROKEN = "this program does not come up"
CHANGING = "/proc /sys /dev /run /tmp /var/tmp /var/log /opt"
"""What is not counted: it changes by itself, or was put there by the test."""


async def live(box: Box, first: str, second: str, broken: str, mended: str) -> None:
    """The whole life of the package in one box. Raises: AssertionError, CommandFailed."""
    service = Service(box)
    before = await files(box)
    await install(box, first)
    await starts_nothing(box, service)
    await service.configure(SERVERS)
    await service.systemctl("enable", "--now", "--quiet", "mcpd.service")
    assert await states(box) == {"enabled active"}
    async with HttpPeer(URL) as peer:
        await peer.initialize()
        assert await add(peer, 2, 3) == 5
        assert "calculator" in await box.run("mcpctl", "servers")
        before_upgrade = await service.processes()
        assert await program(box, service) == {"there"}
        await upgrade(box, service, second)
        # Asked first, because the answer comes from a program that is up.
        assert await add(peer, 4, 5) == 9, "the session did not survive the upgrade"
        assert await service.processes() == before_upgrade, "mcpd or its server is another process"
        await goes_on(box, service, broken)
        assert await add(peer, 6, 7) == 13, "the session did not survive the upgrade that failed"
        assert await service.processes() == before_upgrade
        await upgrade(box, service, mended)
        assert await add(peer, 8, 9) == 17, "the session did not survive the upgrade that mends it"
        assert await service.processes() == before_upgrade
        await peer.delete()
    await remove(box)
    await install(box, mended)
    assert await states(box) == {"enabled inactive"}
    await service.systemctl("start", "mcpd.service")
    await box.run("dpkg", "--purge", "mcpd")
    await is_gone(box, before)


async def install(box: Box, package: str) -> None:
    """By dpkg, which has nothing to fetch the rest with."""
    done = await box.ask("dpkg", "--install", f"{PACKAGES}/{package}")
    # systemd-sysusers tells whom it made.
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Creating ")]
    assert (done.returncode, complaints) == (0, []), done.stdout + done.stderr


async def starts_nothing(box: Box, service: Service) -> None:
    """Everything is there and right, and nothing was enabled or started."""
    assert await states(box) == {"disabled inactive"}
    assert await service.processes() == {}
    assert await listening(box) is False
    assert (await box.run("dpkg", "--verify", "mcpd")) == ""
    assert "no servers" in await box.run("mcpd", "--check")
    modes = await box.run("stat", "--format=%a %U:%G", "/etc/mcpd", "/etc/mcpd/mcpd.yaml")
    assert modes.split("\n")[:2] == ["750 root:mcpd", "640 root:mcpd"]
    verified = await box.ask("systemd-analyze", "verify", "--man=no", *UNITS)
    assert (verified.returncode, verified.stderr) == (0, "")
    # Compiled by who installs it: mcpd's own user could not, and every start would take half a second longer.
    compiled = ("find", "/usr/lib/mcpd/lib", "-name", "daemon.*.pyc")
    assert len((await box.run(*compiled)).splitlines()) == 1
    # And again when the system's Python becomes another one, as Debian's own packages are.
    await box.run("sh", "/usr/share/python3/runtime.d/mcpd.rtupdate", "rtupdate", "python3.11", "python3.13")
    assert len((await box.run(*compiled)).splitlines()) == 1


async def upgrade(box: Box, service: Service, package: str) -> None:
    """What the operator wrote stays, and the new program runs."""
    await install(box, package)
    await service.until_property("ActiveState", "active")
    assert await states(box) == {"enabled active"}
    assert json.loads(await box.read("/etc/mcpd/mcpd.yaml"))["mcpServers"] == SERVERS
    assert await program(box, service) == {"there"}, "it is the old program that runs"


async def goes_on(box: Box, service: Service, package: str) -> None:
    """A package whose program does not come up: the one that runs stays, and who installs is told."""
    done = await box.ask("dpkg", "--install", f"{PACKAGES}/{package}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mcpd.service goes on with the program it has in memory" in done.stderr, done.stderr
    assert BROKEN in done.stderr, done.stderr
    assert await program(box, service) == {"replaced"}


async def remove(box: Box) -> None:
    """Nothing runs, the program is gone, and what an operator would miss is kept."""
    await box.run("dpkg", "--remove", "mcpd")
    assert await listening(box) is False
    assert (await box.ask("pgrep", "--uid", "mcpd")).stdout == ""
    assert await box.run("systemctl", "--failed", "--no-legend") == ""
    assert (await box.ask("test", "-e", "/usr/lib/mcpd")).returncode == 1
    await box.run("test", "-s", "/etc/mcpd/mcpd.yaml", "-a", "-s", "/var/lib/mcpd/session.key")


async def is_gone(box: Box, before: set[str]) -> None:
    """Nothing of it is left."""
    assert await files(box) == before
    assert await listening(box) is False
    for database in ("passwd", "group"):
        assert (await box.ask("getent", database, "mcpd")).returncode == 2
    assert await box.run("find", "/run", "-name", "*mcpd*") == ""
    assert await box.run("systemctl", "--failed", "--no-legend") == ""
    assert await box.run("find", "/", "-xdev", "(", "-nouser", "-o", "-nogroup", ")", "-not", "-path", "/opt/*") == ""


async def files(box: Box) -> set[str]:
    """Every file of the box that does not come and go by itself."""
    leave_out = [word for folder in CHANGING.split() for word in ("-not", "-path", f"{folder}/*")]
    return set((await box.run("find", "/", "-xdev", *leave_out)).splitlines())


async def states(box: Box) -> set[str]:
    """`enabled active`, say: what the units have in common, or more than one."""
    enabled = (await box.ask("systemctl", "is-enabled", *UNITS)).stdout.split()
    active = (await box.ask("systemctl", "is-active", *UNITS)).stdout.split()
    return {f"{one} {other}" for one, other in zip(enabled, active, strict=True)}


async def listening(box: Box) -> bool:
    """Whether anybody has mcpd's port."""
    # proc(5): the address in the byte order of the machine, and state 0A is that of a listener.
    return " 0100007F:1F90 00000000:0000 0A " in await box.read("/proc/net/tcp")


async def program(box: Box, service: Service) -> set[str]:
    """Whether the compiled libraries that mcpd has in memory are `there` still, or `replaced` on the disk."""
    maps = (await box.read(f"/proc/{await service.pid()}/maps")).splitlines()
    return {"replaced" if line.endswith("(deleted)") else "there" for line in maps if " /usr/lib/mcpd/" in line}


async def add(peer: HttpPeer, a: int, b: int) -> object:
    """What the calculator says to a + b."""
    return json.loads(await peer.call_text("calculator_add", {"a": a, "b": b}))["result"]


def make(directory: Path) -> list[str]:
    """Packages of this checkout: a first one, an upgrade, one that does not work, and one that does again.

    Raises: SetupError."""
    version = read_project().version
    try:
        architecture = host_architecture()
        tree = content(architecture)
        faulty = {**tree, f"{SHARED}/mcpd/daemon.py": Entry(f"raise SystemExit({BROKEN!r})\n".encode())}
        return [
            build(each, f"{version}-{revision}", architecture, moment(), directory, compression=FASTEST).name
            for revision, each in ((1, tree), (2, tree), (3, faulty), (4, tree))
        ]
    except PackageError as error:
        raise SetupError(str(error)) from None


async def drive(version: str, directory: Path, packages: list[str]) -> None:
    """One box. Raises: SetupError, and what `live` raises."""
    home = await trio.to_thread.run_sync(image, version)
    async with booted(home, f"mcpd-package{version}-{os.getpid()}", {directory: PACKAGES}) as box:
        try:
            with trio.fail_after(LIFE_LIMIT):
                await live(box, *packages)
        except BaseException:
            with trio.CancelScope(shield=True):  # as bounded as every command in a box
                sys.stdout.write((await box.ask("journalctl", "--unit=mcpd*", "--lines=60", "--no-pager")).stdout)
            raise


def main(arguments: list[str]) -> int:
    """Exit status, as above."""
    parser = argparse.ArgumentParser(prog="python -m tests.systemd.package", allow_abbrev=False)
    parser.add_argument("--debian", action="append", choices=sorted(RELEASES), help="one release; default: all")
    given = parser.parse_args(arguments)
    if (reason := obstacle()) is not None:
        sys.stdout.write(f"package: nothing was tested, because {reason}\n")
        return 0
    failed = 0
    with tempfile.TemporaryDirectory(prefix="mcpd-deb-") as directory:
        try:
            install_tools()
            packages = make(Path(directory))
        except SetupError as error:
            sys.stderr.write(f"package: {error}\n")
            return 1
        for version in given.debian or sorted(RELEASES):
            began = time.monotonic()
            try:
                trio.run(drive, version, Path(directory), packages)
            except Exception:
                failed += 1
                sys.stdout.write(f"package: FAILED on Debian {version}\n{traceback.format_exc()}")
            else:
                sys.stdout.write(
                    f"package: lives and dies well on Debian {version} ({time.monotonic() - began:.1f} s)\n"
                )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
