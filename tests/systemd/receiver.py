"""A service manager's end of NOTIFY_SOCKET, as far as tests need it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 60.0
"""Seconds to wait for a message; only a failure takes them."""


class Receiver:
    """Listens on a path, or on an abstract name that begins with `@`."""

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind("\0" + self.address[1:] if self.address[0] == "@" else self.address)
        self.seen: list[dict[str, str]] = []
        self.fds: list[int] = []

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        self.close_fds()

    def close_fds(self) -> None:
        """What came with the messages so far; of a barrier this is the answer."""
        while self.fds:
            os.close(self.fds.pop())

    def receive(self) -> dict[str, str]:
        """The next message, which must be there. Raises: BlockingIOError."""
        data, fds, _, _ = socket.recv_fds(self.sock, 65536, 256)
        self.fds += fds
        message = dict(line.split("=", 1) for line in data.decode().split("\n"))
        self.seen.append(message)
        return message

    async def wait_for(self, name: str, value: str | None = None) -> dict[str, str]:
        """The next message that sets a variable, to this value if one is given; all are kept in `seen`."""
        with trio.fail_after(LIMIT):
            while True:
                await trio.lowlevel.wait_readable(self.sock)
                message = self.receive()
                if name in message and value in (None, message[name]):
                    return message
