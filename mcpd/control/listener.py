"""The socket that operators connect to: where it is, and how it gets there.

Rules.
1. The socket appears in its place complete, with its mode and owner, and listening: it is made beside it and renamed.
2. What a former mcpd left behind is replaced. A socket that somebody answers on is not, nor is anything that is none.
3. Two that start at the same time take turns: whoever comes second finds the first one answering.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mcpd.errors import ConfigError, NotAvailable, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcpd.systemd.passed import Passed

log = logging.getLogger("mcpd.control")

MODE: Final = 0o660
"""Its owner and its group may connect; `permission` says what they may do."""

PATH_MAX: Final = 107
"""Bytes that the address of such a socket has room for (unix(7), less the NUL at its end)."""

BACKLOG: Final = 1024
"""Connections that wait to be accepted: more operators than a machine has. They take no memory while there are none."""

TURN_WAIT: Final = 2.0
"""Seconds; a socket takes one millisecond to make."""

TURN_LOOK: Final = 0.005
"""Seconds between two tries to be next."""

PASSED: Final = "control"
"""FileDescriptorName= of the socket unit."""


@dataclass(frozen=True, slots=True)
class ControlSocket:
    """A listening socket. `path` is None when systemd opened it, who also removes it."""

    socket: socket.socket
    path: Path | None = None
    inode: int = 0

    def close(self) -> None:
        """Close it, and remove it unless another one has taken its place."""
        self.socket.close()
        if self.path is not None:
            with suppress(OSError):
                if os.lstat(self.path).st_ino == self.inode:
                    self.path.unlink()


def passable(control: ControlSocket | None) -> list[tuple[str, socket.socket]]:
    """What the next program in this process is passed: nothing if it makes its own anew, as at any start."""
    return [(PASSED, control.socket)] if control is not None and control.path is None else []


def find_control(passed: Passed, wanted: tuple[Path, bool] | None, group: int | None) -> ControlSocket | None:
    """The socket that systemd passed, else one of our own at the place that is `wanted`, whether it must be had or not;
    None when there is to be none, or cannot be.

    Raises: ConfigError.
    """
    given = passed.claim_sockets(PASSED)
    if given:
        for other in given[1:]:
            other.close()
        return ControlSocket(given[0])
    if wanted is None:
        return None
    path, needed = wanted
    try:
        return open_control(path, group)
    except ConfigError as error:
        if needed:
            raise
        log.warning("event=no_control_socket reason=%s", error)
        return None


def open_control(path: Path, group: int | None) -> ControlSocket:
    """A non-blocking listening socket at this path, whose group is `group` if mcpd may give it away.

    Raises: ConfigError.
    """
    if len(os.fsencode(path)) > PATH_MAX:
        raise _refused(path, f"a path of more than {PATH_MAX} bytes cannot be a socket", "choose a shorter one")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _turn(path.parent):
            _make_way(path)
            return _open(path, group)
    except OSError as error:
        remedy = "is the directory there, and mcpd's to write to?"
        raise _refused(path, error.strerror or str(error), remedy, refusal(error)) from None


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Rule 3. The lock is on the directory: no file is left behind for it. Whoever may read the directory can take it,
    so it is not waited for longer than another mcpd would hold it.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + TURN_WAIT
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(TURN_LOOK)  # noqa: TID251 - mcpd is just starting: nobody waits for the loop
                    continue
                log.warning("event=lock_held directory=%s by=somebody else effect=none", directory)
            break
        yield
    finally:
        os.close(fd)


def _make_way(path: Path) -> None:
    """Raises: ConfigError (rule 2), OSError."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _refused(path, "it is there and no socket", "remove it, or choose another path")
    if _answers(path):
        raise _refused(path, "another mcpd answers there", "end it, or choose another path", NotAvailable)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        found = probe.connect_ex(str(path))
    # EAGAIN: somebody listens, and is busy.
    return found in (0, errno.EAGAIN)


def _open(path: Path, group: int | None) -> ControlSocket:
    made = path.with_name(f".{os.getpid()}")
    with suppress(FileNotFoundError):
        made.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.bind(str(made))
        if group is not None:
            with suppress(PermissionError):
                os.chown(made, -1, group)
        os.chmod(made, MODE)
        sock.listen(BACKLOG)
        inode = os.lstat(made).st_ino
        os.rename(made, path)
    except BaseException:
        sock.close()
        with suppress(OSError):
            made.unlink()
        raise
    return ControlSocket(sock, path, inode)


def _refused(path: Path, reason: str, remedy: str, kind: type[ConfigError] = ConfigError) -> ConfigError:
    return kind(f"cannot open the control socket {path}: {reason}", path="control.socket", remedy=remedy)
