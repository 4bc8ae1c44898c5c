"""Who is at the other end of a socket in the file system, as the kernel knows it: it cannot be forged."""

from __future__ import annotations

import array
import socket
import struct
from dataclasses import dataclass
from typing import Final

SO_PEERGROUPS: Final = 59
"""Linux 4.13; Python has no name for it."""

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


def peer_credentials(sock: socket.socket) -> Credentials | None:
    """None for a socket that is not in the file system, or is gone already."""
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
    return Credentials(pid, uid, frozenset((gid, *groups)))
