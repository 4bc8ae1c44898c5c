"""A machine with a systemd of its own: systemd-nspawn on a release's tree, whose changes are thrown away.

Registered with no systemd of this machine, which may have none. `SYSTEMD_NSPAWN_UNIFIED_HIERARCHY` gives it cgroup2
alone, all capabilities and bpf(2) let it confine services as a real machine does, and its network is its own, which all
those capabilities demand. What it cannot do is hold limits on memory, tasks and processor time.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.packages import SetupError
from tests.systemd.machine import cgroup2, network_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

BOOT_LIMIT = 120.0
"""Seconds until systemd says that it is up; less than one is usual."""
HALT_LIMIT = 30.0
"""Seconds for an orderly end, before a hard one."""
COMMAND_LIMIT = 120.0
"""Seconds of a command in a box."""
LOOK_AGAIN = 0.1
ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}


class CommandFailed(Exception):
    """A command in a box ended with another status than 0."""


class Box:
    """A running one. Paths are those inside."""

    def __init__(self, process: trio.Process, leader: int) -> None:
        self._process = process
        self.leader = leader
        """Its process 1, as this machine numbers it."""

    def argv(self, *argv: str) -> list[str]:
        """What to run here for a command to run inside."""
        # It must never run on this machine by accident.
        assert self._process.poll() is None, "the box is gone"
        variables = [f"{name}={value}" for name, value in ENVIRON.items()]
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]
        return [*enter, "env", "-i", *variables, "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", *argv]

    async def ask(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command inside, whatever its status. Raises: trio.TooSlowError."""
        with trio.fail_after(COMMAND_LIMIT):
            done = await trio.run_process(
                self.argv(*argv),
                stdin=stdin.encode(),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        assert done.stdout is not None
        assert done.stderr is not None
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return subprocess.CompletedProcess(argv, done.returncode, out, err)

    async def run(self, *argv: str, stdin: str = "") -> str:
        """Run a command inside; returns what it printed. Raises: CommandFailed."""
        done = await self.ask(*argv, stdin=stdin)
        if done.returncode:
            raise CommandFailed(f"{shlex.join(argv)}: status {done.returncode}: {done.stdout}{done.stderr}".strip())
        return done.stdout

    async def write(self, path: str, text: str, *, mode: str = "644") -> None:
        """Put a file there, and the directories above it."""
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
        await self.run("sh", "-c", script, "sh", path, mode, stdin=text)

    async def read(self, path: str) -> str:
        """Raises: CommandFailed."""
        return await self.run("cat", path)


@asynccontextmanager
async def booted(image: Path, name: str, binds: Mapping[Path, str], *, keeps: bool = False) -> AsyncIterator[Box]:
    """A box, up, for the duration of the block; sockets that the block opens are in its network.

    `binds` are directories of this machine and where they are found inside, read-only. What changes inside is thrown
    away, unless it `keeps` that: then it is in the image. Raises: SetupError.
    """
    root = cgroup2()
    assert root is not None
    group = root / name
    group.mkdir()
    argv = [
        *("systemd-nspawn", "--quiet", f"--directory={image}", "--boot", f"--machine={name}"),
        *("--register=no", "--keep-unit", "--private-network", "--capability=all"),
        *("--system-call-filter=bpf perf_event_open", "--console=pipe", "--link-journal=no", "--resolv-conf=off"),
        *("--timezone=off", f"--volatile={'no' if keeps else 'overlay'}"),
        *(f"--bind-ro={path}:{inside}" for path, inside in binds.items()),
    ]
    join = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    process = await trio.lowlevel.open_process(
        ["sh", "-c", join, str(group), *argv],
        env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    console = bytearray()
    failure = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep, process, console)
            try:
                try:
                    box = await _up(process, console)
                except SetupError as error:
                    failure = error  # raised outside of the nursery, which would wrap it
                else:
                    with network_of(box.leader):
                        yield box
            finally:
                with trio.CancelScope(shield=True):
                    await _halt(process)
                nursery.cancel_scope.cancel()
    finally:
        _remove(root, name)
    if failure is not None:
        raise failure


async def _keep(process: trio.Process, console: bytearray) -> None:
    assert process.stdout is not None
    async for data in process.stdout:
        console += data
        del console[:-20_000]  # the end says what is wrong


async def _up(process: trio.Process, console: bytearray) -> Box:
    with trio.move_on_after(BOOT_LIMIT):
        while process.poll() is None:
            leader = _leader(process.pid)
            if leader is not None:
                box = Box(process, leader)
                state = (await box.ask("systemctl", "is-system-running")).stdout.strip()
                if state in ("running", "degraded"):
                    return box
            await trio.sleep(LOOK_AGAIN)
    raise SetupError(f"the box did not come up: {console.decode(errors='replace')[-2000:]}")


def _leader(nspawn: int) -> int | None:
    """Process 1 of the box, once it runs systemd."""
    try:
        children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
        names = {int(pid): Path(f"/proc/{pid}/comm").read_text().strip() for pid in children}
    except OSError:
        return None
    return next((pid for pid, name in names.items() if name == "systemd"), None)


async def _halt(process: trio.Process) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with trio.move_on_after(HALT_LIMIT):
        await process.wait()
    if process.returncode is None:
        sys.stderr.write("a box did not halt, and is killed\n")
        process.kill()
        await process.wait()


def _remove(root: Path, name: str) -> None:
    """The control groups that a box leaves behind, in the hierarchy of systemd's own too where there is one."""
    for top in (root / name, root.parent / "systemd" / name):
        for directory, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(directory)
            except OSError as error:
                sys.stderr.write(f"left behind: {directory}: {error}\n")
    # What nspawn makes where there is no systemd, and leaves; other boxes may be using it.
    for directory in ("propagate", "locks", ""):
        with contextlib.suppress(OSError):
            os.rmdir(f"/run/systemd/nspawn/{directory}")
