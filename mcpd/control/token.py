"""The admin token: who has it may change mcpd over the HTTP port, for a command that is added is a command that is run.

It is the systemd credential `mcpd-admin-token` where there is one; else it is made at the first start, in a file of the
state directory that nobody else can read, not even for the moment in which it is written.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mcpd.control.refusal import Refusal

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("mcpd.control")

CREDENTIAL: Final = "mcpd-admin-token"
FILE: Final = "admin-token"
SIZE: Final = 32
"""Random bytes of one that is made here."""
LEAST: Final = 16
"""Characters of one that is given: shorter ones can be guessed."""
MOST: Final = 4096
SCHEME: Final = b"bearer "
CHALLENGE: Final = b'WWW-Authenticate: Bearer realm="mcpd"\r\n'


class Token:
    """The secret, and where it is kept."""

    def __init__(self, secret: str, where: str) -> None:
        """`secret` is empty where there is none: then nobody has it."""
        self._secret = secret.encode()
        self.where = where

    def __repr__(self) -> str:
        return f"Token({self.where!r})"

    def require(self, authorization: bytes | None) -> None:
        """Raises: Refusal, unless this is the value of the header Authorization that has the token."""
        if authorization is None:
            raise self._refusal(
                "this needs the admin token", f"send 'Authorization: Bearer …' with what is in {self.where}"
            )
        given = authorization[len(SCHEME) :].strip() if authorization[: len(SCHEME)].lower() == SCHEME else b""
        if not self._secret or not hmac.compare_digest(given, self._secret):
            raise self._refusal("this is not the admin token", f"it is in {self.where}")

    def _refusal(self, message: str, remedy: str) -> Refusal:
        return Refusal(HTTPStatus.UNAUTHORIZED, "unauthorized", message, remedy, headers=CHALLENGE)


def find_token(state: Path, credentials: Path | None) -> Token:
    """The credential, the file, or a new file. Without any of them nobody is let in, and the log says why."""
    if credentials is not None and (credentials / CREDENTIAL).exists():
        return _read(credentials / CREDENTIAL, f"the credential {CREDENTIAL}")
    path = state / FILE
    try:
        if not path.exists():
            _make(path)
    except OSError as error:
        log.warning("event=no_admin_token file=%s reason=%s", path, error)
        return Token("", str(path))
    return _read(path, str(path))


def _read(path: Path, where: str) -> Token:
    try:
        with path.open("rb") as file:
            text = file.read(MOST + 1).decode("ascii").strip()
        if not LEAST <= len(text) <= MOST:
            raise ValueError(f"a token has from {LEAST} to {MOST} characters")
    except (OSError, ValueError) as error:
        log.warning("event=no_admin_token file=%s reason=%s", path, error)
        return Token("", where)
    return Token(text, where)


def _make(path: Path) -> None:
    """Whole or not at all; where another mcpd was faster, its own counts."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(secrets.token_urlsafe(SIZE).encode() + b"\n")
            file.flush()
            os.fsync(fd)
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()
