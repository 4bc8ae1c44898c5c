"""The trampoline on its own, without what makes plans for it and reads its reports."""

from __future__ import annotations

import ctypes
import marshal
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mcpd.supervisor.launch import TRAMPOLINE

if TYPE_CHECKING:
    from collections.abc import Sequence

ENV = {b"PATH": b"/usr/sbin:/usr/bin:/sbin:/bin"}


def bounce(
    plan: dict[str, Any],
    *argv: str,
    through: Sequence[str] = (),
    options: Sequence[str] = (),
    python: str = sys.executable,
    program: str = TRAMPOLINE,
) -> tuple[str, tuple[str, int, bytes] | None]:
    """What the command says, and the report. `through`: a program that execs its arguments; `options` are
    Python's."""
    plan_fd = os.memfd_create("plan")
    files = [os.path.join(folder, os.fsencode(argv[0])) for folder in ENV[b"PATH"].split(b":")]
    words = [os.fsencode(word) for word in argv]
    os.write(plan_fd, marshal.dumps({"files": files, "argv": words, "env": ENV, **plan}))
    os.lseek(plan_fd, 0, os.SEEK_SET)
    ours, theirs = os.pipe()
    command = [*through, python, *options, "-I", "-S", program, str(plan_fd), str(theirs)]
    try:
        done = subprocess.run(
            command, pass_fds=(plan_fd, theirs), stdout=subprocess.PIPE, text=True, check=False, env={}
        )
        os.close(theirs)
        report = os.read(ours, 65536)
        return done.stdout, marshal.loads(report) if report else None
    finally:
        os.close(plan_fd)
        os.close(ours)


def needs_landlock() -> None:
    """Skip the test, saying why, where the kernel has no Landlock."""
    if ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1) < 1:
        pytest.skip("this kernel has no Landlock: what needs it is not tested")


def ignored_here() -> int:
    """The signals that whoever started the tests has ignored, as a program started in the background of a shell finds
    SIGINT: those are handed on. Python's own two do not count."""
    status = Path("/proc/self/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("SigIgn:"))
    return int(line.split()[1], 16) & ~(1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)
