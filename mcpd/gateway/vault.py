"""The key of session ids and request states, the list of ended sessions, and what one run leaves to the next: kept in
the state directory, so that they survive a restart.

Rules.
1. A file appears whole or not at all; what a crash left half written costs at most the last line.
2. Several daemons may share the directory: the first one's key counts for all, nobody overwrites what another
   ended.
"""

from __future__ import annotations

import logging
import os
import secrets
from typing import TYPE_CHECKING, Final

from mcpd.errors import ConfigError, refusal
from mcpd.gateway.seal import EPOCH_LENGTH, KEY_SIZE, Revoked, Seal, StateSeal

if TYPE_CHECKING:
    from pathlib import Path

    from mcpd.gateway.seal import Claims

log = logging.getLogger("mcpd.gateway")

COMPACT_AT: Final = 4096
"""Appended lines after which the file is written anew: a line has at most 33 bytes, so the file stays
around 130 KiB."""


HANDOVER_AGE: Final = 900.0
"""Seconds after which what an earlier run left is not taken up any more: a reboot takes less, and clients stop trying
to connect again long before."""

HANDOVER_SIZE: Final = 512 * 1024 * 1024
"""Bytes that are read of it at most, which no mcpd writes: its messages are bounded by `handover.MESSAGES_MAX`, and its
sessions by `limits.sessions`."""


class Vault:
    """Opens the state directory's secrets; `revoke` is durable against a crash of mcpd when it returns."""

    def __init__(self, directory: Path, *, now: float, session_age: float) -> None:
        self.revoked = Revoked()
        self._session_age = session_age
        self._newest = int(now)
        self._appended = 0
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.seal = Seal(_key(directory / "session.key"))
            self.states = StateSeal(self.seal.derive(b"mcpd request state"))
            self._path = directory / "sessions.ended"
            self._handover = directory / "handover"
            self._compact()
        except (OSError, ValueError) as error:
            kind = refusal(error) if isinstance(error, OSError) else ConfigError
            raise kind(
                f"cannot use the state directory: {error}",
                file=str(directory),
                remedy="give another with --state-dir",
            ) from None

    def revoke(self, claims: Claims) -> None:
        """End a session for good."""
        if not self.revoked.add(*claims.identity):
            return
        self._newest = max(self._newest, claims.epoch)
        try:
            self._append(b"%d %d %d" % (claims.epoch, claims.serial, claims.serial))
            self._appended += 1
            if self._appended > COMPACT_AT:
                self._compact()
        except OSError as error:
            log.error(
                "event=state_not_written file=%s reason=%s effect=ended_sessions_may_return",
                self._path,
                error,
            )

    def bequeath(self, data: bytes) -> bool:
        """Leave this to the next run of mcpd; False, and a line in the log, when it could not be written."""
        try:
            fresh = _beside(self._handover)
            try:
                _write(fresh, data)
                fresh.replace(self._handover)
            finally:
                fresh.unlink(missing_ok=True)
            _sync(self._handover.parent)
        except OSError as error:
            log.error(
                "event=state_not_written file=%s reason=%s effect=clients_miss_what_was_not_sent_yet",
                self._handover,
                error,
            )
            return False
        return True

    def pass_on(self, data: bytes | None) -> None:
        """Leave to the next run what came from the last one, where this one has made no use of it."""
        if data is not None:
            self.bequeath(data)

    def inherit(self, now: float) -> bytes | None:
        """What the last run left, which is taken away from the next; None when that was nothing, or long ago."""
        try:
            with open(self._handover, "rb") as file:
                self._handover.unlink()
                age = now - os.fstat(file.fileno()).st_mtime
                if age > HANDOVER_AGE:
                    log.info("event=handover_too_old age=%d", age)
                    return None
                return file.read(HANDOVER_SIZE)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("event=handover_not_read file=%s reason=%s", self._handover, error)
            return None

    def _append(self, line: bytes) -> None:
        """Add a line. Opened each time, for another daemon may have put a new file in this one's place."""
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # The line break comes first: what a full disk cut short must not run into the next line.
            os.write(handle, b"\n" + line)
        finally:
            os.close(handle)

    def _compact(self) -> None:
        """Take in what the file says, and put a new file with the intervals in its place."""
        # A session's epoch is up to EPOCH_LENGTH older than the session.
        oldest = self._newest - int(self._session_age) - EPOCH_LENGTH
        if self._path.exists():
            self.revoked.load(self._path.read_text(errors="replace"), oldest_epoch=oldest)
        self.revoked.forget(oldest)
        fresh = _beside(self._path)
        try:
            _write(fresh, "".join(f"{line}\n" for line in self.revoked.lines()).encode())
            fresh.replace(self._path)
        finally:
            fresh.unlink(missing_ok=True)
        self._appended = 0


def _key(path: Path) -> bytes:
    """The key, made at the first start. Its file is for its owner only."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    fresh = _beside(path)
    try:
        _write(fresh, secrets.token_bytes(KEY_SIZE))
        os.link(fresh, path)  # fails when another mcpd was faster, whose key then counts
    except FileExistsError:
        pass
    finally:
        fresh.unlink(missing_ok=True)
    return path.read_bytes()


def _beside(path: Path) -> Path:
    """A name for a new file that nobody else uses."""
    return path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")


def _sync(directory: Path) -> None:
    """Make durable which files there are."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)
