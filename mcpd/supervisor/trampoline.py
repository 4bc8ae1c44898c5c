"""Runs in a new child before its command does: puts it where it is to be, takes away what it is not to have, and
becomes the command.

    python -I -S trampoline.py PLAN REPORT

Both arguments are descriptors. PLAN is a file with a marshalled `dict` (see `launch`, which writes it); what it has no
key for is not done. Nothing comes on REPORT when all went well: the exec itself closes it. Otherwise it gets a
marshalled (step, errno, name), and the process ends.

Why a program and not a `preexec_fn`: a child is forked from one of many threads, and Python code that runs between
fork and exec in such a child can wait for ever for a lock that another thread held.

Why Landlock by its three system calls: what PyPI has for it is at version 0 or a pre-release, and would have to be
imported here, where nothing is; the calls take two flat structures and are fixed for ever.

Rules
    1. The order is the one in which nothing takes away what a later step needs: first what mcpd's user may do, then
       the user, then what only lowers.
    2. Nothing of mcpd is imported, and of the library as little as a plan needs: this is part of the time that a
       server takes to start, and `typing` or `ctypes` alone would double it.
    3. Everything is imported before the first step: to another user, or in a view of the file system, the library may
       be out of reach. That is also why `os.execvpe` is not used, which imports.
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

EPERM, EINVAL = 1, 22
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
"""prctl(2)."""

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every architecture."""
OPENAT2, AT_FDCWD, RESOLVE_NO_SYMLINKS = 437, -100, 4
"""It is older than Landlock (5.6)."""
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
READING = EXECUTE | READ_FILE | READ_DIR
ACCESS = {1: READ_DIR, 2: READING, 3: -1}
"""Rights by the numbers of `view.Access`."""
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
"""Rights that a rule about a file may name; the others are about what is in a directory."""
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
"""All rights to files, by version of the interface: 2 (Linux 5.19) added renaming into another directory, 3 (6.2)
truncate(2). Ioctls of devices (5) are not taken, because no setting speaks of them."""
SCOPES, SCOPE_SIGNAL = 6, 1 << 1
"""From that version on (6.12) nothing outside can be signalled: not mcpd, nor another server."""


def load(plan: Plan) -> None:
    """Import what the plan needs."""
    if "limits" in plan:
        import resource

        plan["resource"] = resource
    if "paths" in plan or "privileges" in plan or "user" in plan:
        import ctypes

        plan["library"], plan["get_errno"] = ctypes.CDLL(None, use_errno=True), ctypes.get_errno


def cgroup(plan: Plan) -> None:
    """Enter the leaf, as the first of all: whatever is forked from here on is in it."""
    if "cgroup" in plan:
        fd = os.open(plan["cgroup"], os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)


def limits(plan: Plan) -> None:
    for name, number, value in plan.get("limits", ()):
        try:
            plan["resource"].setrlimit(number, (value, value))
        except (OSError, ValueError):  # ValueError is its word for EPERM
            raise OSError(EPERM, os.strerror(EPERM), name) from None


def nice(plan: Plan) -> None:
    if "nice" in plan:
        os.setpriority(os.PRIO_PROCESS, 0, plan["nice"])


def umask(plan: Plan) -> None:
    if "umask" in plan:
        os.umask(plan["umask"])


def rules(plan: Plan) -> None:
    """Open what the view allows, as long as it can be opened; `paths` makes it hold."""
    if "paths" in plan:
        plan["rules"] = make_ruleset(plan)


def user(plan: Plan) -> None:
    if "user" in plan:
        uid, gid, groups = plan["user"]
        if os.getuid():
            # Of a user who is not root the kernel leaves them, and the command could become anybody again.
            system_call(plan, "prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def directory(plan: Plan) -> None:
    """As the user that it is for: root may not enter what is on a network file system."""
    if "cwd" in plan:
        os.chdir(plan["cwd"])


def privileges(plan: Plan) -> None:
    if "privileges" in plan:
        system_call(plan, "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def paths(plan: Plan) -> None:
    if "rules" in plan:
        system_call(plan, "syscall", LANDLOCK_RESTRICT_SELF, plan["rules"], 0)


def signals(_: Plan) -> None:
    """Undo what the start of Python did: a program expects to die of a broken pipe."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def command(plan: Plan) -> None:
    """Become it: the first of the files that can be. Of several failures the one counts that says most."""
    failure = None
    for file in plan["files"]:
        try:
            os.execve(file, plan["argv"], plan["env"])
        except (FileNotFoundError, NotADirectoryError) as error:
            last = error
        except OSError as error:
            failure = failure or error
    raise failure or last


STEPS: tuple[Callable[[Plan], None], ...] = (
    load,
    cgroup,
    limits,
    nice,
    umask,
    rules,
    user,
    directory,
    privileges,
    paths,
    signals,
    command,
)


def make_ruleset(plan: Plan) -> int:
    """A descriptor of the rules: from paths, what may be done with them, and whether they must be there. The others
    were seen in a directory a moment ago, as files are that programs make in /tmp and remove again.
    """
    version = system_call(plan, "syscall", LANDLOCK_CREATE_RULESET, None, 0, CREATE_RULESET_VERSION)
    handled = RIGHTS[min(version, max(RIGHTS))]
    about = handled.to_bytes(8, sys.byteorder)
    if version >= SCOPES:
        about += bytes(8) + SCOPE_SIGNAL.to_bytes(8, sys.byteorder)  # between them what there is for the network
    ruleset = system_call(plan, "syscall", LANDLOCK_CREATE_RULESET, about, len(about), 0)
    for path, access, named in plan["paths"]:
        try:
            fd = open_path(plan, path)
        except OSError as error:
            # What was found may be gone, be a link by now, or be on a disk that is not there any more.
            if named:
                error.filename = path
                raise
            continue
        add_rule(plan, ruleset, fd, handled & ACCESS[access])
        os.close(fd)
    return ruleset


def add_rule(plan: Plan, ruleset: int, fd: int, rights: int) -> None:
    """A file may not have rights that are about what is in a directory; which it is, the kernel says here, where no
    disk is asked that may be away."""
    rule = rights.to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder)
    try:
        system_call(plan, "syscall", LANDLOCK_ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0)
    except OSError as error:
        if error.errno != EINVAL or rights == rights & OF_FILES:
            raise
        if rights & OF_FILES:  # there is no rule that allows nothing, such as to list a file
            add_rule(plan, ruleset, fd, rights & OF_FILES)


def open_path(plan: Plan, path: bytes) -> int:
    """Open what is there, and not what a link leads to: links were followed when the rules were made, and who made one
    since wants something else to be opened."""
    how = b"".join(each.to_bytes(8, sys.byteorder) for each in (os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS))
    return system_call(plan, "syscall", OPENAT2, AT_FDCWD, path, how, len(how))


def system_call(plan: Plan, name: str, *arguments: int | bytes | None) -> int:
    """Call a function of the C library. Raises: OSError."""
    result: int = plan["library"][name](*arguments)
    if result < 0:
        number: int = plan["get_errno"]()
        raise OSError(number, os.strerror(number))
    return result


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
