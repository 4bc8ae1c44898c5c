"""What the service manager that started mcpd said in the environment, taken out of it.

It is meant for this process alone: a child that found it could speak for mcpd, feed its watchdog, or take descriptors
for sockets that are something else to it.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mcpd.systemd.notify import Notifier
from mcpd.systemd.passed import Passed

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START."""
FDS_MAX: Final = 4096
"""Descriptors looked at; a store that large is nobody's (FileDescriptorStoreMax= is 64 in our unit)."""
UNNAMED: Final = "unknown"
"""The manager's own word for a descriptor without a name."""

LISTEN: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
WATCHDOG: Final = ("WATCHDOG_USEC", "WATCHDOG_PID")
NOTIFY: Final = ("NOTIFY_SOCKET",)


@dataclass(frozen=True, slots=True)
class Manager:
    """Our side of the service manager."""

    notify: Notifier = field(default_factory=Notifier)
    passed: Passed = field(default_factory=Passed)
    watchdog: float | None = None
    """Seconds within which it wants to hear from us each time; None: it does not ask."""

    def environ(self, pid: int) -> dict[str, str]:
        """The variables that a program executed in place of this one, as process `pid`, needs to find the same manager.
        Descriptors are not among them."""
        result = {}
        if self.notify.address is not None:
            result["NOTIFY_SOCKET"] = self.notify.address
        if self.watchdog is not None:
            result |= {"WATCHDOG_USEC": str(int(self.watchdog * 1e6)), "WATCHDOG_PID": str(pid)}
        return result


def take(environ: MutableMapping[str, str], *, pid: int) -> Manager:
    """Read the manager's variables and remove them. Those that are meant for another process than `pid` count for
    nothing, but are removed as well."""
    taken = {name: environ.pop(name) for name in (*LISTEN, *WATCHDOG, *NOTIFY) if name in environ}
    return Manager(Notifier(taken.get("NOTIFY_SOCKET")), Passed(_descriptors(taken, pid)), _interval(taken, pid))


def _descriptors(taken: Mapping[str, str], pid: int) -> list[tuple[str, int]]:
    count = _number(taken.get("LISTEN_FDS"))
    if count is None or taken.get("LISTEN_PID") != str(pid):
        return []
    names = taken.get("LISTEN_FDNAMES", "").split(":")
    fds = range(FIRST_FD, FIRST_FD + min(count, FDS_MAX))
    named = [(names[at] if at < len(names) and names[at] else UNNAMED, fd) for at, fd in enumerate(fds)]
    return [(name, fd) for name, fd in named if _is_open(fd)]


def _interval(taken: Mapping[str, str], pid: int) -> float | None:
    usec = _number(taken.get("WATCHDOG_USEC"))
    # Without WATCHDOG_PID it is meant for whoever reads it.
    return usec / 1e6 if usec and taken.get("WATCHDOG_PID", str(pid)) == str(pid) else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 19 else None


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True
