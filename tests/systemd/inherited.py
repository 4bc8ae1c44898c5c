"""Descriptors in a row, as a program finds them that systemd started."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ABOVE = 100
"""How far above the lowest free number they are: nothing else that a test opens comes there."""


@contextmanager
def inherited() -> Iterator[int]:
    """A listening socket and both ends of a pipe; gives the number of the first. Those still open are closed."""
    base = os.dup(0)
    os.close(base)
    base += ABOVE
    ours, theirs = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for at, fd in enumerate((listener.fileno(), ours, theirs)):
            os.dup2(fd, base + at, inheritable=True)
    os.close(ours)
    os.close(theirs)
    try:
        yield base
    finally:
        for fd in range(base, base + 3):
            try:
                os.close(fd)
            except OSError:
                pass
