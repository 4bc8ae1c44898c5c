"""Whether a process was started by this one, or by what this one started.

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
from typing import Final

from mcpd.supervisor.tree import read_process

DEPTH_MAX: Final = 1000
"""Ancestors that are looked at."""

LOOKS: Final = 3
"""A parent may end in the moment between two steps, and its children become somebody else's."""


def descends(pid: int, uid: int) -> bool:
    """Whether a process of this user, by its number here (0: it is in another namespace, and no descendant), is below
    this one, or may be. This process itself is not."""
    if pid in (0, os.getpid()):
        return False
    for _ in range(LOOKS):
        found = _walk(pid)
        if found is not None:
            return found
    return _gains_no_privileges(pid, otherwise=uid == os.geteuid())


def _walk(pid: int) -> bool | None:
    """None where the way up is out of sight."""
    own = os.getpid()
    for _ in range(DEPTH_MAX):
        process = read_process(pid)
        if process is None:
            return None
        if process.ppid == own:
            return True
        if process.ppid in (0, 1):
            return False
        pid = process.ppid
    return None


def _gains_no_privileges(pid: int, *, otherwise: bool) -> bool:
    try:
        return "\nNoNewPrivs:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return otherwise
