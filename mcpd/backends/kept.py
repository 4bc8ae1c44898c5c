"""The last known catalogue of each server on disk, so that lists can be answered before any server is up.

Theory of operation. One file a server: a line that says what the file is, then what the server said of itself and what
it listed, as MessagePack, which holds an entry's JSON as the bytes that it is. `load` reads a file at once, for nothing
can go on before; `store` and `forget` only take a note, and `run` does what is noted, in a thread.

    mcpd-catalogue <format> <identity of the configuration> <digest of the rest>

Rules.
1. A file counts for one configuration: whatever makes a server another one, or shows its tools to somebody else, makes
   the file another server's, and it is removed. The identity is a keyed digest, so that nothing can be guessed from it.
2. What is damaged, of another format or too large is as good as nothing: it is said, and the file is removed.
3. A file appears whole or not at all. It is not synced to disk: what a crash of the machine leaves of it is damaged.
4. Nothing here fails a call or delays one.
5. Several daemons may share the directory. Each touches what it uses; what nobody has used for UNUSED goes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import trio

from mcpd.backends.base import Catalogue  # noqa: TC001 - msgspec reads the annotations below
from mcpd.protocol.handshake import ServerHello  # noqa: TC001 - the same

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from mcpd.config.model import ServerSpec

log = logging.getLogger("mcpd.backends")

FORMAT: Final = 1
"""Of the files. Another one whenever `LastKnown`, or anything in it, gets or loses a field or changes its meaning."""

MAGIC: Final = b"mcpd-catalogue"

DELAY: Final = 1.0
"""Seconds in which changes become one write: servers announce every tool on its own, and a hundred start together."""

FAREWELL: Final = 2.0
"""Seconds for the last write when mcpd ends: the disk may hang, and the stop must not."""

SIZE_MAX: Final = 8 << 20
"""Bytes of one file. The largest public servers need some hundred KiB, and all files are read before mcpd is ready."""

UNUSED: Final = 90 * 86400.0
"""Seconds after which a file that no daemon has used is removed: its server was renamed, or is configured no more."""

TOUCH: Final = 86400.0
"""Seconds between two touches of a file that stays as it is: often enough for UNUSED."""


class LastKnown(msgspec.Struct, frozen=True):
    """All that lists and calls need of a server before it is up."""

    hello: ServerHello
    catalogue: Catalogue


_decoder: Final = msgspec.msgpack.Decoder(LastKnown)


class KeptCatalogues:
    """The files of all servers. `key` is a secret of this state directory, for rule 1."""

    def __init__(self, directory: Path, key: bytes) -> None:
        self._directory = directory
        self._key = key
        self._due: dict[str, tuple[bytes, LastKnown] | None] = {}
        """What is to be written, by server, under which identity; None: the file is to be removed."""
        self._noted = trio.Event()
        self._mine: dict[str, bytes] = {}
        """The servers that this daemon has, each with the identity of its configuration."""
        self._written: dict[str, bytes] = {}
        """The first line of what is on disk, as far as this daemon knows."""

    def load(self, spec: ServerSpec) -> LastKnown | None:
        """What is known of a server of exactly this configuration. Never raises; blocks as long as the disk does."""
        mine = self._mine[spec.name] = self._identity(spec)
        path = self._path(spec.name)
        try:
            with path.open("rb") as file:
                data = file.read(SIZE_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("backend=%s event=catalogue_unreadable file=%s reason=%s", spec.name, path, error)
            return None
        line, _, body = data.partition(b"\n")
        try:
            identity = _check(line, body)
            if identity != mine:
                log.info("backend=%s event=catalogue_outdated reason=its configuration is another one", spec.name)
                self.forget(spec.name)
                return None
            known = _decoder.decode(body)
        except (ValueError, RecursionError) as error:
            log.warning("backend=%s event=catalogue_ignored file=%s reason=%s", spec.name, path, error)
            self.forget(spec.name)
            return None
        self._written[spec.name] = line
        return known

    def store(self, spec: ServerSpec, known: LastKnown) -> None:
        """Note what is known of a server now. One that lost its place to another configuration has nothing to say."""
        identity = self._identity(spec)
        if self._mine.get(spec.name) == identity:
            self._due[spec.name] = (identity, known)
            self._noted.set()

    def forget(self, name: str) -> None:
        """What the file of a server says does not count."""
        self._due[name] = None
        self._noted.set()

    def retain(self, names: Collection[str]) -> None:
        """Only these servers are configured now; those that were before are forgotten."""
        for name in self._mine.keys() - names:
            del self._mine[name]
            self.forget(name)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Write what is noted, until cancelled; then what is still noted is written, if the disk lets it."""
        task_status.started()
        try:
            await trio.to_thread.run_sync(self._sweep, frozenset(self._mine), abandon_on_cancel=True)
            while True:
                await self._noted.wait()
                await trio.sleep(DELAY)
                await self._flush()
        finally:
            with trio.move_on_after(FAREWELL, shield=True):
                await self._flush()

    async def _flush(self) -> None:
        due, self._due = self._due, {}
        self._noted = trio.Event()
        if not due:
            return
        try:
            # A thread that the disk keeps waiting is left behind when mcpd ends: it holds nothing that anybody needs.
            await trio.to_thread.run_sync(self._write_all, due, abandon_on_cancel=True)
        except trio.Cancelled:
            self._due = {**due, **self._due}  # once more, for the last time
            raise

    # ---- in a thread ---------------------------------------------------------------------------------------

    def _write_all(self, due: dict[str, tuple[bytes, LastKnown] | None]) -> None:
        """Do what is noted, and strike it out."""
        for name, what in list(due.items()):
            try:
                if what is None:
                    self._remove(name)
                else:
                    self._write(name, *what)
            except OSError as error:
                log.warning(
                    "backend=%s event=catalogue_not_kept file=%s reason=%s effect=the next start waits for the server",
                    name,
                    self._path(name),
                    error,
                )
            del due[name]

    def _write(self, name: str, identity: bytes, known: LastKnown) -> None:
        """Bring a file up to date. Raises: OSError."""
        body = msgspec.msgpack.encode(known)
        path = self._path(name)
        line = b"%b %d %b %b" % (MAGIC, FORMAT, identity, _digest(body))
        if len(line) + 1 + len(body) > SIZE_MAX:
            log.warning("backend=%s event=catalogue_too_large bytes=%d limit=%d", name, len(body), SIZE_MAX)
            self._remove(name)
            return
        if self._written.get(name) == line and _touch(path):
            return
        self._directory.mkdir(mode=0o700, exist_ok=True)
        # No server's name begins with a dot.
        fresh = self._directory / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            with open(fresh, "xb", opener=_private) as file:
                file.writelines((line, b"\n", body))
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        self._written[name] = line

    def _remove(self, name: str) -> None:
        self._written.pop(name, None)
        self._path(name).unlink(missing_ok=True)

    def _sweep(self, mine: frozenset[str]) -> None:
        """Remove what nobody has used for long (rule 5)."""
        horizon = time.time() - UNUSED
        # Whatever cannot be removed is looked at again at the next start.
        with suppress(OSError):
            for path in self._directory.iterdir():
                if path.name not in mine and path.stat().st_mtime < horizon:
                    path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _identity(self, spec: ServerSpec) -> bytes:
        """Rule 1. Values of inherited variables do not count: they are another at each login, and name no other
        server."""
        facts = (
            *nature(spec),
            spec.user,
            spec.group,
            spec.tls,
        )
        return _digest(msgspec.json.encode(facts), self._key)


def nature(spec: ServerSpec) -> tuple[object, ...]:
    """What makes a server another one, whatever is asked of it: how it is reached or started."""
    return (
        spec.transport,
        spec.command,
        spec.args,
        spec.cwd,
        sorted(spec.env.items()),
        sorted(spec.inherit_env),
        spec.url,
        sorted(spec.headers.items()),
        spec.era,
    )


def _check(line: bytes, body: bytes) -> bytes:
    """The identity that a file is for. Raises: ValueError, if it says that it is something else than it should be."""
    words = line.split(b" ")
    if len(words) != 4 or words[0] != MAGIC:
        raise ValueError("it is no kept catalogue")
    if words[1] != b"%d" % FORMAT:
        raise ValueError("it is of another version of mcpd")
    if len(line) + 1 + len(body) > SIZE_MAX:
        raise ValueError(f"it has more than {SIZE_MAX} bytes")
    if words[3] != _digest(body):
        raise ValueError("it is damaged")
    return words[2]


def _digest(data: bytes, key: bytes = b"") -> bytes:
    """As text."""
    return hashlib.blake2b(data, digest_size=16, key=key).hexdigest().encode()


def _touch(path: Path) -> bool:
    """Say that a file is in use; False when it is not there any more."""
    try:
        if path.stat().st_mtime < time.time() - TOUCH:
            os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
