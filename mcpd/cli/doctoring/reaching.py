"""Why mcpd does not answer: who may connect, and what the service manager says of it."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING, Final

from mcpd.cli.doctoring.finding import Finding, error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcpd.control.client import Unreachable

GROUP: Final = "mcpd"
UNIT: Final = "mcpd.service"
LOOK_TIME: Final = 5.0
"""Seconds for a program that is asked; a service manager that takes longer does not answer at all."""
TOLD_LINES: Final = 5
"""Last lines of the log; who needs more is told the command."""
PROPERTIES: Final = ("LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "StatusText")
EX_CONFIG: Final = 78


def unreachable(problem: Unreachable, run: Callable[[list[str]], str | None] | None = None) -> list[Finding]:
    """In the place of everything else. `run` gives what a program prints, None where it is not there or fails."""
    run = run or output_of
    if not problem.permitted:
        return [_not_permitted(problem)]
    if problem.parted or "busy" in problem.reason or "no answer" in problem.reason:
        remedy = f"see its log: journalctl -u {UNIT} -n 50"
        return [error("daemon", f"{problem}", remedy)]
    return [_not_running(problem, run)]


def _not_permitted(problem: Unreachable) -> Finding:
    user = pwd.getpwuid(os.geteuid()).pw_name if _known(os.geteuid()) else str(os.geteuid())
    message = f"{user} may not connect to {problem.path}{_mode(problem.path)}"
    try:
        group = grp.getgrnam(GROUP)
    except KeyError:
        return error("permission", message, "use sudo; or name the socket of your own mcpd with --socket")
    if group.gr_gid in os.getgroups():
        return error("permission", message, "use sudo; the socket is not for the group 'mcpd'")
    if user in group.gr_mem:
        remedy = f"you became a member of '{GROUP}' after you logged in: log in again, or use 'newgrp {GROUP}'"
        return error("permission", message, remedy)
    return error("permission", message, f"use sudo, or 'sudo adduser {user} {GROUP}' and log in again")


def _known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _mode(path: Path) -> str:
    try:
        about = path.stat()
    except OSError:
        return ", whose directory it may not enter"
    try:
        group = grp.getgrgid(about.st_gid).gr_name
    except KeyError:
        group = str(about.st_gid)
    return f" ({stat.filemode(about.st_mode)}, group {group})"


def _not_running(problem: Unreachable, run: Callable[[list[str]], str | None]) -> Finding:
    if os.path.lexists(problem.path):
        message = f"nobody answers at {problem.path}: what is there is left over, or mcpd is just starting"
    else:
        message = f"mcpd does not run, or has another socket than {problem.path}"
    said = run(["systemctl", "show", UNIT, f"--property={','.join(PROPERTIES)}"])
    about = dict(line.partition("=")[::2] for line in (said or "").splitlines())
    if about.get("LoadState", "not-found") != "loaded":
        remedy = "start it: 'mcpd --config FILE'; or name its socket with --socket"
        return error("daemon", message, remedy)
    state = f"{about.get('ActiveState')} ({about.get('SubState')})"
    if about.get("ActiveState") == "active":
        return error("daemon", f"{message}; the service is {state}", "name its socket with --socket, or use sudo")
    if about.get("Result") in (None, "", "success"):
        return error("daemon", f"{message}; the service is {state}", "systemctl enable --now mcpd")
    message += f"; the service is {state}: {about['Result']}, exit status {about.get('ExecMainStatus')}"
    last = run(["journalctl", "--unit", UNIT, "--lines", str(TOLD_LINES), "--output=cat", "--no-pager", "--quiet"])
    if last and last.strip():
        message += "; it said last:\n" + "\n".join(last.strip().splitlines()[-TOLD_LINES:])
    if about.get("ExecMainStatus") == str(EX_CONFIG):
        return error("daemon", message, "mend the configuration, then 'systemctl restart mcpd'")
    return error("daemon", message, f"see all of it: journalctl -u {UNIT} -n 50; then 'systemctl restart mcpd'")


def output_of(argv: list[str]) -> str | None:
    """What a program prints; None where it is not there, fails or does not end."""
    if shutil.which(argv[0]) is None:
        return None
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LOOK_TIME, check=False, errors="replace")
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
