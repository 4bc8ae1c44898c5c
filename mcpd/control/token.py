"""The admin token: who has it may change mcpd over the HTTP port, for a command that is added is a command that is run.

It is the systemd credential `mcpd-admin-token` where there is one; else it is made at the first start, in a file of the
state directory that nobody else can read, not even for the moment in which it is written.

Rules.
1. A token that is there and cannot be used is not replaced by another one: whoever configured it would not know which
   one counts. Then nobody has it, which ends no start, and the log says what to do.
2. A file that others could read, or have written, may be known to them, and is not used. Of a credential the service
   manager takes care, whose access lists look like bits for the group.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import stat
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.config.model import Secrets
from mcpd.control.refusal import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from mcpd.config.model import Config

log = logging.getLogger("mcpd.control")

CREDENTIAL: Final = "mcpd-admin-token"
FILE: Final = "admin-token"
SIZE: Final = 32
"""Random bytes of one that is made here."""
LEAST: Final = 16
"""Characters of one that is given: shorter ones can be guessed."""
MOST: Final = 4096
SCHEME: Final = b"bearer "
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
CHALLENGE: Final = b'WWW-Authenticate: Bearer realm="mcpd"\r\n'


class Token:
    """The secret, and where it is kept."""

    def __init__(self, secret: str, where: str) -> None:
        """`secret` is empty where there is none: then nobody has it."""
        self._secret = secret.encode()
        self.where = where

    def __repr__(self) -> str:
        return f"Token({self.where!r})"

    def hidden_in(self, config: Config) -> Config:
        """The configuration, with this among the secrets that nothing must show."""
        if not self._secret:
            return config
        known = Secrets.of({*config.secrets.values, self._secret.decode()})
        return msgspec.structs.replace(config, secrets=known)

    def require(self, authorization: bytes | None) -> None:
        """Raises: Refusal, unless this is the value of the header Authorization that has the token."""
        if not self._secret:
            raise self._refusal("there is no admin token, so nobody may do this", "mcpd's log says why")
        if authorization is None:
            raise self._refusal(
                "this needs the admin token", f"send 'Authorization: Bearer …' with what is in {self.where}"
            )
        given = authorization[len(SCHEME) :].strip() if authorization[: len(SCHEME)].lower() == SCHEME else b""
        if not hmac.compare_digest(given, self._secret):
            raise self._refusal("this is not the admin token", f"it is in {self.where}")

    def _refusal(self, message: str, remedy: str) -> Refusal:
        return Refusal(HTTPStatus.UNAUTHORIZED, "unauthorized", message, remedy, headers=CHALLENGE)


NOBODY: Final = Token("", "")
"""Where nobody is asked for one."""


def find_token(state: Path, credentials: Path | None) -> Token:
    """The credential, the file, or a new file. Without any of them nobody is let in, and the log says why."""
    if credentials is not None:
        path, where = credentials / CREDENTIAL, f"the credential {CREDENTIAL}"
        try:
            return Token(_text(path, private=False), where)
        except (FileNotFoundError, NotADirectoryError):
            pass  # systemd sets the directory for any credential
        except OSError as error:
            remedy = f"let mcpd's user read it, as LoadCredential={CREDENTIAL}: does, or unset CREDENTIALS_DIRECTORY"
            return _none(path, where, error, remedy)
        except ValueError as error:
            return _none(path, where, error, "give another one and restart mcpd")
    path = state / FILE
    remedy = "delete it and restart mcpd, which makes a new one"
    try:
        if not path.exists():
            _make(path)
        return Token(_text(path, private=True), str(path))
    except PermissionError as error:
        return _none(path, str(path), error, f"'chmod 600' and 'chown' it to mcpd's user, or {remedy}")
    except OSError as error:
        return _none(path, str(path), error, "see to it that mcpd can write there, and restart it")
    except ValueError as error:
        return _none(path, str(path), error, remedy)


def _none(path: Path, where: str, reason: Exception, remedy: str) -> Token:
    log.warning("event=no_admin_token file=%s reason=%s remedy=%r", path, reason, remedy)
    return Token("", where)


def _text(path: Path, *, private: bool) -> str:
    """What is in it. Raises: OSError; PermissionError also where it is to be private and is not; ValueError."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if private and found.st_uid != os.geteuid():
            raise PermissionError(f"it belongs to another user, {found.st_uid}, who may know it")
        if private and found.st_mode & OTHERS:
            raise PermissionError(f"its mode is {stat.S_IMODE(found.st_mode):o}, so that others may know it")
        text = file.read(MOST + 1).decode("ascii").strip()
    if not LEAST <= len(text) <= MOST:
        raise ValueError(f"a token has from {LEAST} to {MOST} characters")
    return text


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
