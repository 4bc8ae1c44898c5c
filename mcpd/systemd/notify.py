"""Telling the service manager how mcpd does: sd_notify(3) without its library."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("mcpd.systemd")

SEND_TIME: Final = 0.2
"""Seconds that a message may wait for a manager whose queue is full. Long enough for one that is busy, short enough for
the main loop, which waits too."""
TEXT_MAX: Final = 500
"""Characters of a status; systemctl shows one line."""
FDS_MAX: Final = 253
"""Descriptors of one message: SCM_MAX_FD of Linux."""


class Notifier:
    """Sends to one manager, or to nobody."""

    def __init__(self, address: str | None = None) -> None:
        """`address` as in NOTIFY_SOCKET: a path, or `@` and an abstract name. Others (AF_VSOCK) are for machines, not
        for services."""
        self.address = address if address and address[0] in "/@" and len(address) > 1 else None
        self.leaving = False
        """`stopping` was called: what mcpd usually does is no longer its status."""
        self._up = False
        self._status = ""
        self._complained = False

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return self.address is not None

    def ready(self, status: str = "") -> None:
        """Up."""
        self._up = True
        self._send("READY=1", *self._worded(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`; the same again is not sent."""
        if words := self._worded(text):
            self._send(*words)

    def reloading(self, status: str = "") -> None:
        """Reading the configuration anew; `reloaded` ends it, whatever came of it. Before `ready` it would pass for
        that, and is not sent."""
        if not self._up or self.leaving:
            return
        # Type=notify-reload (253 on) tells by the clock which reload a message belongs to.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", *self._worded(status))

    def reloaded(self) -> None:
        """As before `reloading`."""
        if self._up and not self.leaving:
            self._send("READY=1")

    def stopping(self, status: str = "") -> None:
        """On the way down."""
        self.leaving = True
        self._send("STOPPING=1", *self._worded(status))

    def extend_timeout(self, seconds: float) -> None:
        """Starting, reloading or stopping takes at least this long from now: not to be counted as hanging."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def watchdog(self) -> None:
        """Alive."""
        self._send("WATCHDOG=1")

    def main_pid(self, pid: int) -> None:
        """Another process is the main one from now on."""
        self._send(f"MAINPID={pid}")

    def failed(self, reason: str, code: int) -> None:
        """Last words: why, for `systemctl status`. `code` is the exit status that will follow."""
        self._send(f"EXIT_STATUS={code}", *self._worded(reason))

    def store(self, name: str, fds: Sequence[int], *, poll: bool = True) -> bool:
        """Have the manager keep duplicates of descriptors across restarts, under a name; True when it was sent.

        What it has under any name already is not kept twice. Without `poll` it also keeps one whose other end hangs up.
        """
        lines = ["FDSTORE=1", f"FDNAME={_checked(name)}"]
        return self._send(*lines, *([] if poll else ["FDPOLL=0"]), fds=fds)

    def forget(self, name: str) -> None:
        """Have the manager close what it keeps under this name."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={_checked(name)}")

    async def barrier(self, timeout: float) -> bool:
        """Wait until everything sent so far was read; False when it was not within `timeout` seconds.

        The manager says so by closing the descriptor that comes with the message.
        """
        if not self:
            return False
        ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            try:
                sent = self._send("BARRIER=1", fds=(theirs,))
            finally:
                os.close(theirs)
            with trio.move_on_after(timeout if sent else 0):
                await trio.lowlevel.wait_readable(ours)
                return True
            return False
        finally:
            trio.lowlevel.notify_closing(ours)
            os.close(ours)

    def _worded(self, text: str) -> list[str]:
        # A line is a variable: one that breaks would set others.
        text = " ".join(text.split())[:TEXT_MAX]
        if not text or text == self._status:
            return []
        self._status = text
        return [f"STATUS={text}"]

    def _send(self, *lines: str, fds: Sequence[int] = ()) -> bool:
        """One message. A manager that cannot be reached is no reason to stop serving: it is logged, once."""
        if self.address is None:
            return False
        address = "\0" + self.address[1:] if self.address[0] == "@" else self.address
        try:
            # A new socket each time: systemctl daemon-reexec puts another one behind the name.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(SEND_TIME)
                sock.connect(address)
                message = "\n".join(lines).encode("utf-8", "replace")
                if fds:
                    if len(fds) > FDS_MAX:
                        raise ValueError(f"at most {FDS_MAX} descriptors fit into a message")
                    socket.send_fds(sock, [message], list(fds))
                else:
                    sock.sendall(message)
        except OSError as error:
            self._status = ""
            if not self._complained:
                self._complained = True
                log.warning("event=notify_failed message=%s reason=%s", lines[0], error)
            return False
        self._complained = False
        return True


def _checked(name: str) -> str:
    """A name of descriptors. Raises: ValueError, where systemd would call them `stored` instead."""
    if not (0 < len(name) <= 255 and name.isascii() and name.isprintable() and ":" not in name):
        raise ValueError(f"{name!r} is no name for descriptors")
    return name
