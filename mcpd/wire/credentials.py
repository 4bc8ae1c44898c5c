"""Who is at the other end of a socket in the file system, as the kernel knows it: it cannot be forged."""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SO_PEERGROUPS: Final = 59
"""Linux 4.13; Python has no name for it."""

SO_PEERPIDFD: Final = 77
"""Linux 6.5."""

GROUPS_BYTES: Final = 1024
"""What `getsockopt` takes at most, room for 256 groups. Who is in more of them counts as in none but the first."""

_UCRED: Final = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The process that connected, when it did: it may have ended, or become another user since."""

    pid: int
    uid: int
    groups: frozenset[int]
    """All of them, the first one included."""
    ours: bool = False
    """Whether it is, or may be, of what this program started. Looked at when the connection was accepted: a number may
    be another process's later."""


def peer_credentials(sock: socket.socket, descends: Callable[[int, int], bool] | None = None) -> Credentials | None:
    """None for a socket that is not in the file system, or is gone already. `descends` says of a process and its user
    whether it is one of ours."""
    if sock.family != socket.AF_UNIX:
        return None
    try:
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError:
        return None
    groups = array.array("I")
    try:
        groups.frombytes(sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES))
    except OSError:
        pass  # too many, or an old kernel
    ours = descends is not None and (descends(pid, uid) or _has_ended(sock))
    return Credentials(pid, uid, frozenset((gid, *groups)), ours)


def _has_ended(sock: socket.socket) -> bool:
    """Whether the process that connected is gone, and what was seen under its number was another one. False where the
    kernel does not tell: then the moment between connecting and accepting is all that there is for that."""
    try:
        pidfd = sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except ProcessLookupError:
        return True
    except OSError as error:
        return error.errno != errno.ENOPROTOOPT
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        return bool(poll.poll(0))
    finally:
        os.close(pidfd)
