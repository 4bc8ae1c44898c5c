"""The overlay's file: read whole, replaced whole.

Theory of operation. The new text is written to a file beside the old one, synced to the disk, and takes its name; then
the directory is synced, which holds the names. So at every moment, also after a power cut, the name leads to the whole
old text or to the whole new one.

Rules.
1. Whoever writes holds a lock on the directory, and writes only if the file is what they have read: several daemons may
   share a state directory, and none loses what another one added.
2. What cannot be understood is set aside under another name, and never overwritten.
3. The file is for its owner only: tables hold tokens.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mcpd.config.overlay import MAX_OVERLAY, ChangeRefused

if TYPE_CHECKING:
    from pathlib import Path

ASIDE_MAX: Final = 9
"""Files that are set aside; who breaks it more often loses the last one of them."""


class Store:
    """One file. Everything here blocks as long as the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fresh = path.with_name(path.name + ".new")
        """Its name is always the same, so what a crash left of it is overwritten. Whoever holds the lock has it."""

    def read(self) -> bytes | None:
        """The text, one byte more than allowed at most; None if there is no file. Raises: OSError."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            return file.read(MAX_OVERLAY + 1)

    def replace(self, before: bytes | None, after: bytes) -> bool:
        """Put a new text in the place of the one that was read. True: it outlives a power cut; False: the disk would
        not say so.

        Raises: ChangeRefused, and the file is as it was.
        """
        if len(after) > MAX_OVERLAY:
            remedy = "put some of the servers into files"
            raise ChangeRefused("too_large", f"{self.path} would be longer than {MAX_OVERLAY} bytes", remedy)
        try:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._not_written(error) from None
        try:
            self._replace(directory, before, after)
            try:
                os.fsync(directory)
            except OSError:
                return False
            return True
        except OSError as error:
            raise self._not_written(error) from None
        finally:
            os.close(directory)

    def _replace(self, directory: int, before: bytes | None, after: bytes) -> None:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._changed() from None
        if self.read() != before:
            raise self._changed()
        with suppress(FileNotFoundError):
            os.unlink(self._fresh)
        fd = os.open(self._fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                rest = memoryview(after)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(self._fresh, self.path)
        except OSError:
            with suppress(OSError):
                os.unlink(self._fresh)
            raise

    def set_aside(self) -> Path:
        """Give the file another name, which is returned. Raises: OSError."""
        names = self._asides()
        free = next((path for path in names if not os.path.lexists(path)), names[-1])
        os.rename(self.path, free)
        return free

    def aside(self) -> list[Path]:
        """What was set aside and is still there."""
        return [path for path in self._asides() if os.path.lexists(path)]

    def _asides(self) -> list[Path]:
        broken = self.path.name + ".broken"
        names = [broken, *(f"{broken}.{number}" for number in range(2, ASIDE_MAX + 1))]
        return [self.path.with_name(name) for name in names]

    def _changed(self) -> ChangeRefused:
        return ChangeRefused("changed_elsewhere", f"another mcpd is changing {self.path}", "try again")

    def _not_written(self, error: OSError) -> ChangeRefused:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = (
            "make room there, then try again" if full else "see whether mcpd's user can write there, then try again"
        )
        return ChangeRefused(
            "not_written", f"{self.path} cannot be written: {error.strerror}; nothing was changed", remedy
        )
