"""What a child is and may do, and what of it can be had here. See `trampoline` for how it is done."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mcpd.supervisor.exits import SpawnFailed
from mcpd.supervisor.privacy import rules_of
from mcpd.supervisor.survey import Misled
from mcpd.supervisor.view import TooManyRules, View

RLIMITS: Final = {
    "limit_nofile": resource.RLIMIT_NOFILE,
    "limit_nproc": resource.RLIMIT_NPROC,
    "limit_core": resource.RLIMIT_CORE,
    "limit_fsize": resource.RLIMIT_FSIZE,
    "limit_cpu": resource.RLIMIT_CPU,
    "limit_as": resource.RLIMIT_AS,
    "limit_data": resource.RLIMIT_DATA,
    "limit_stack": resource.RLIMIT_STACK,
    "limit_memlock": resource.RLIMIT_MEMLOCK,
}
"""systemd's names (LimitNOFILE=) in this file's spelling, and the kernel's numbers."""

PR_SET_NO_NEW_PRIVS: Final = 38
PR_SET_DUMPABLE: Final = 4


@dataclass(frozen=True, slots=True)
class Confinement:
    """None and empty: as mcpd itself. Soft and hard limit are the same, as with a single value in systemd."""

    user: str | None = None
    group: str | None = None
    umask: int | None = None
    nice: int | None = None
    rlimits: tuple[tuple[str, int], ...] = ()
    no_new_privileges: bool = False
    view: View = field(default_factory=View)

    @property
    def blocks(self) -> bool:
        """Whether `plan` may take its time: it asks for users, or reads directories."""
        return self.user is not None or self.group is not None or bool(self.view)

    def plan(self, *, no_new_privileges: bool) -> dict[str, Any]:
        """For the trampoline; empty where none is needed. `environment` in it are variables that go with the user.
        `no_new_privileges`: the process that forks has it already.

        Raises: SpawnFailed, naming the setting.
        """
        plan: dict[str, Any] = {}
        if self.rlimits:
            plan["limits"] = [(name, RLIMITS[name], value) for name, value in self.rlimits]
        if self.nice is not None:
            plan["nice"] = self.nice
        if self.umask is not None:
            plan["umask"] = self.umask
        if self.user is not None or self.group is not None:
            identity = Identity.of(self.user, self.group)
            plan["user"] = identity.change()
            plan["environment"] = identity.environment()
        if self.no_new_privileges and not no_new_privileges:
            plan["privileges"] = True
        if self.view:
            plan["paths"] = _rules(self.view)
        return {key: value for key, value in plan.items() if value or value == 0}


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and group of this machine."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str = ""
    home: str = ""
    shell: str = ""

    @classmethod
    def of(cls, user: str | None, group: str | None) -> Identity:
        """Look them up, by name or number. May block. Raises: SpawnFailed."""
        try:
            gid = None if group is None else _group(group)
        except KeyError:
            raise _unknown("group", str(group)) from None
        if user is None:
            assert gid is not None
            return cls(os.getuid(), gid, (gid,))
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            raise _unknown("user", user) from None
        gid = entry.pw_gid if gid is None else gid
        groups = tuple(sorted({gid, *os.getgrouplist(entry.pw_name, gid)}))
        return cls(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir, entry.pw_shell)

    def change(self) -> tuple[int, int, list[int]] | None:
        """What has to be changed; None where mcpd itself is just that. More groups, as SupplementaryGroups= gives it,
        are something to be changed: who names a user gives a server what that user has.
        """
        if (self.uid, self.gid, set(self.groups)) == (os.getuid(), os.getgid(), {*os.getgroups(), os.getgid()}):
            return None
        return self.uid, self.gid, list(self.groups)

    def environment(self) -> dict[str, str]:
        """The variables that go with it, as systemd sets them with User=."""
        if not self.name:
            return {}
        return {"HOME": self.home, "LOGNAME": self.name, "USER": self.name, "SHELL": self.shell or "/bin/sh"}


def give_up_new_privileges() -> None:
    """Let nothing that this process starts gain privileges by a set-user-ID file. There is no way back, and it holds
    for threads that are made from now on: call it before the first. Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def leave_no_core() -> None:
    """Keep others of this user from the memory of this process, and a core file of it from being left. It holds until
    an exec: children of before may still be there when nobody needs it any more."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def has_no_new_privileges() -> bool:
    """Whether that holds for every thread of this process."""
    for thread in Path("/proc/self/task").iterdir():
        try:
            status = (thread / "status").read_text()
        except OSError:
            continue  # it ended meanwhile
        if "\nNoNewPrivs:\t1\n" not in status:
            return False
    return True


def _group(group: str) -> int:
    return grp.getgrgid(int(group)).gr_gid if group.isdecimal() else grp.getgrnam(group).gr_gid


def _unknown(kind: str, name: str) -> SpawnFailed:
    return SpawnFailed(f"{kind} '{name}' does not exist", remedy=f"correct {kind}, or add it", needs_operator=True)


def _rules(view: View) -> list[tuple[bytes, int, bool]]:
    try:
        return [(os.fsencode(path), int(access), named) for path, access, named in rules_of(view)]
    except Misled as error:
        path, target = error.args
        raise SpawnFailed(
            f"'{path}' of its paths leads to '{target}', by a link that it can have made itself",
            remedy="remove the link, or name where it leads",
            needs_operator=True,
        ) from None
    except TooManyRules as error:
        raise SpawnFailed(
            f"the directories around its paths have too many entries, as '{error}'",
            remedy="name a directory of its own, or one further up",
            needs_operator=True,
        ) from None
    except OSError as error:
        raise SpawnFailed(
            f"'{error.filename}' is to be taken apart for its paths and cannot be read: {error.strerror}",
            remedy="let mcpd's user read it, or name it in read_only_paths as a whole",
            needs_operator=True,
        ) from None
