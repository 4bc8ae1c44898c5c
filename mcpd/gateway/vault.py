"""The session key and the list of ended sessions, kept in the state directory so that both survive a restart."""

from __future__ import annotations

import logging
import os
import secrets
from typing import TYPE_CHECKING, Final

from mcpd.errors import ConfigError
from mcpd.gateway.seal import KEY_SIZE, Revoked, Seal

if TYPE_CHECKING:
    from pathlib import Path

    from mcpd.gateway.seal import Claims

log = logging.getLogger("mcpd.gateway")

COMPACT_AT: Final = 4096
"""Appended lines after which the file is written anew: a line is 25 bytes, so the file stays around 100 KiB."""


class Vault:
    """Opens the state directory's secrets; `revoke` is durable against a crash of mcpd when it returns."""

    def __init__(self, directory: Path, *, now: float, session_age: float) -> None:
        self.revoked = Revoked()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.seal = Seal(_key(directory / "session.key"))
            self._path = directory / "sessions.ended"
            if self._path.exists():
                self.revoked.load(self._path.read_text(), oldest_epoch=int(now - session_age))
            self._file = -1
            self._compact()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot use the state directory: {error}", file=str(directory), remedy="give another with --state-dir"
            ) from None

    def revoke(self, claims: Claims) -> None:
        """End a session for good."""
        if not self.revoked.add(*claims.identity):
            return
        try:
            os.write(self._file, b"%d %d %d\n" % (claims.epoch, claims.serial, claims.serial))
            self._appended += 1
            if self._appended > COMPACT_AT:
                self._compact()
        except OSError as error:
            log.error("event=state_not_written file=%s reason=%s effect=ended_sessions_may_return", self._path, error)

    def _compact(self) -> None:
        """Write the intervals to a new file and put it in the old one's place."""
        fresh = self._path.with_suffix(".new")
        lines = self.revoked.lines()
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.replace(self._path)
        if self._file >= 0:
            os.close(self._file)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._appended = 0

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _key(path: Path) -> bytes:
    """The key, made at the first start. Its file appears whole or not at all, and only for its owner."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    fresh = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, secrets.token_bytes(KEY_SIZE))
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(fresh, path)  # fails when another mcpd was faster, whose key then counts
    except FileExistsError:
        pass
    os.unlink(fresh)
    return path.read_bytes()
