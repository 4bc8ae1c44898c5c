"""Runs in a new child before its command does: puts it where it is to be, takes away what it is not to have, and
becomes the command.

    python -I -S trampoline.py PLAN REPORT

Both arguments are descriptors. PLAN is a file with a marshalled `dict` (see `launch`, which writes it); what it has no
key for is not done. Nothing comes on REPORT when all went well: the exec itself closes it. Otherwise it gets a
marshalled (step, errno, name), and the process ends.

Why a program and not a `preexec_fn`: a child is forked from one of many threads, and Python code that runs between
fork and exec in such a child can wait for ever for a lock that another thread held.

Rules
    1. The order is the one in which nothing takes away what a later step needs: first what mcpd's user may do, then
       the user, then what only lowers.
    2. Nothing of mcpd is imported, and of the library as little as a plan needs: this is part of the time that a
       server takes to start, and `typing` or `ctypes` alone would double it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself makes enums first, for a millisecond
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Plan = dict[str, Any]

FAILED = 127
"""The exit status; nobody looks at it, because the report says more."""


def cgroup(plan: Plan) -> None:
    """Enter the leaf, as the first of all: whatever is forked from here on is in it."""
    if "cgroup" in plan:
        fd = os.open(plan["cgroup"], os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)


def signals(_: Plan) -> None:
    """Undo what the start of Python did: a program expects to die of a broken pipe."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def command(plan: Plan) -> None:
    os.execvpe(plan["argv"][0], plan["argv"], plan["env"])


STEPS: tuple[Callable[[Plan], None], ...] = (cgroup, signals, command)


def main(plan_fd: int, report_fd: int) -> None:
    os.set_inheritable(report_fd, False)
    with open(plan_fd, "rb") as file:
        plan: Plan = marshal.load(file)
    for step in STEPS:
        try:
            step(plan)
        except OSError as error:
            os.write(report_fd, marshal.dumps((step.__name__, error.errno or 0, os.fsencode(error.filename or ""))))
            os._exit(FAILED)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
