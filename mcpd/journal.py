"""journald's own protocol: one datagram an entry, with fields that can be searched for.

Source: "Native Journal Protocol" of systemd's documentation, systemd.journal-fields(7), systemd.exec(5) on
$JOURNAL_STREAM.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET: Final = "/run/systemd/journal/socket"
SEND_TIME: Final = 0.1
"""Seconds that an entry may wait for a journald that is behind: the main loop waits as well."""
FIELD_MAX: Final = 256 << 10
"""Bytes kept of one field; a traceback has a few KiB. What is longer is cut off, and says so."""
CUT: Final = b" [cut off]"


class Journal:
    """A connection to journald, made when it is needed, and again where journald is another one."""

    def __init__(self, address: str = SOCKET) -> None:
        self._address = address
        self._sock: socket.socket | None = None

    def send(self, fields: Mapping[str, str]) -> None:
        """Write one entry. Raises: OSError, when nothing was written; TimeoutError among them, when it came too late.

        Names are the caller's to choose well: capital letters, digits, `_`, at most 64, not beginning with `_`.
        """
        data = b"".join(encoded(name, value) for name, value in fields.items())
        try:
            self._send(data)
        except (ConnectionError, FileNotFoundError):
            # Another journald listens on another socket of the same name.
            self.close()
            self._send(data)

    def close(self) -> None:
        """The next entry connects anew."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _send(self, data: bytes) -> None:
        if self._sock is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                sock.settimeout(SEND_TIME)
                sock.connect(self._address)
            except OSError:
                sock.close()
                raise
            self._sock = sock
        try:
            self._sock.send(data)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(self._sock, data)

    def _send_file(self, sock: socket.socket, data: bytes) -> None:
        """What is too large for a datagram goes in memory that is sealed, so that journald can trust it not to
        change."""
        memory = os.memfd_create("mcpd-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(memory, "wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
            socket.send_fds(sock, [b""], [memory])


def encoded(name: str, value: str) -> bytes:
    """One field. A value with line breaks is preceded by its length, so that it cannot be taken for more fields."""
    data = value.encode("utf-8", "backslashreplace")
    if len(data) > FIELD_MAX:
        data = data[: FIELD_MAX - len(CUT)] + CUT
    if b"\n" in data:
        return b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(data)), data)
    return b"%b=%b\n" % (name.encode(), data)


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether what is written to this descriptor comes to journald anyway: it may have been redirected since."""
    # Device and inode of what stdout or stderr was connected to at the start.
    device, separator, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(fd)
        return bool(separator) and (found.st_dev, found.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):
        return False
