"""Descriptors that the service manager passed: sockets of socket units, and what an earlier mcpd had it keep.

Each is claimed by its name, once. What nobody claims is closed, so that no connection waits for somebody who will never
accept it.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Passed:
    """Open descriptors by name. They belong to this object until they are claimed."""

    def __init__(self, fds: Iterable[tuple[str, int]] = ()) -> None:
        self._fds: dict[str, list[int]] = {}
        for name, fd in fds:
            # The manager clears the flag for the one exec between it and us.
            os.set_inheritable(fd, False)
            self._fds.setdefault(name, []).append(fd)

    def __contains__(self, name: str) -> bool:
        return name in self._fds

    def names(self) -> tuple[str, ...]:
        """Of those that were not claimed, in the order in which they came."""
        return tuple(self._fds)

    def claim(self, name: str) -> list[int]:
        """The descriptors of this name, which are the caller's from now on; none when there are none."""
        return self._fds.pop(name, [])

    def claim_sockets(self, name: str) -> list[socket.socket]:
        """The sockets of this name, not blocking; the caller's from now on. What is no socket is closed."""
        found = []
        for fd in self.claim(name):
            try:
                sock = socket.socket(fileno=fd)
            except OSError:  # ENOTSOCK: a unit with ListenFIFO=, or a file of OpenFile=
                os.close(fd)
                continue
            sock.setblocking(False)
            found.append(sock)
        return found

    def close(self) -> tuple[str, ...]:
        """Close what nobody claimed; returns its names."""
        left = self.names()
        for name in left:
            for fd in self.claim(name):
                os.close(fd)
        return left
