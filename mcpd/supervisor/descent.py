"""Whether a process was started by this one, by what this one started, or by another daemon of its kind.

Theory of operation
    1. This process is a subreaper (`tree`): whatever happens to the parents in between, the way up from a descendant
       ends here. It cannot leave that way, nor change it.
    2. Where /proc hides processes (hidepid, systemd's ProtectProc=), the way may be out of sight. Then the flag
       NoNewPrivs decides, which nobody can take off: whatever Landlock confines has it.
    3. What is out of sight itself, or has ended, is one of ours if it is of our user; others were let in, or not, by
       who they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpd.supervisor.tree import read_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.supervisor.tree import ProcessInfo

DEPTH_MAX: Final = 100
"""Ancestors that are looked at. Who has more has made them on purpose."""

LOOKS: Final = 3
"""A parent may end in the moment between two steps, and its children become somebody else's."""


def descends(pid: int, uid: int, *, is_daemon: Callable[[ProcessInfo], bool] = lambda _: False) -> bool:
    """Whether a process of this user, by its number here (0: it is in another namespace, and no descendant), is below
    this one or another daemon, or may be. This process itself is not."""
    if pid in (0, os.getpid()):
        return False
    for _ in range(LOOKS):
        found = _walk(pid, is_daemon)
        if found is not None:
            return found
    return _gains_no_privileges(pid, otherwise=uid == os.geteuid())


def _walk(pid: int, is_daemon: Callable[[ProcessInfo], bool]) -> bool | None:
    """None where the way up is out of sight."""
    own, below = os.getpid(), None
    for _ in range(DEPTH_MAX):
        process = read_process(pid)
        if process is None or (below is not None and process.start > below.start):
            return None  # a parent is not younger: its number is somebody else's by now
        if process.ppid == own or (below is not None and is_daemon(process)):
            return True
        if process.ppid in (0, 1):
            return False
        pid, below = process.ppid, process
    return True


def _gains_no_privileges(pid: int, *, otherwise: bool) -> bool:
    try:
        return "\nNoNewPrivs:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return otherwise
