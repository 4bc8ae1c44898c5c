"""Puts mcpd's entry into a client's file, and nothing else: comments, order and other settings stay as they are.

Rules.
1. What was written is read again before it counts: but for the entry it must be what was there, else nothing is done.
2. The file is replaced in one step, what was there is kept beside it, and its owner and mode stay.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mcpd.cli.clients import jsonc, toml
from mcpd.cli.clients.own import HOMES

if TYPE_CHECKING:
    from mcpd.cli.clients.forms import Table


class CannotWrite(Exception):
    """The file is left as it was."""


def snippet(client: str, table: Table) -> str:
    """What somebody can put into the file by hand."""
    path = HOMES[client]
    return toml.written(path, table) if client == "codex" else jsonc.put("", path, table)


def with_entry(client: str, text: str, table: Table) -> str:
    """The file's text with mcpd's entry. Raises: CannotWrite."""
    read = toml.read if client == "codex" else jsonc.read
    put = toml.put if client == "codex" else jsonc.put
    section, name = HOMES[client]
    try:
        before = read(text)
        if before is None:
            before = {}
        if not isinstance(before, dict) or not isinstance(before.get(section, {}), dict):
            raise CannotWrite(f"'{section}' is no table there")
        meant = copy.deepcopy(before)
        meant.setdefault(section, {})[name] = table
        if meant == before:
            return text
        after = put(text, (section, name), table)
        if read(after) != meant:
            raise CannotWrite("it is written in a way that is not understood well enough to change it")
    except ValueError as error:
        raise CannotWrite(f"it is not well-formed: {error}") from None
    return after


def write(client: str, file: Path, table: Table) -> Path | None:
    """Put mcpd's entry there. Returns what the file's old content is kept as, None where there was none.

    Raises: CannotWrite; NoChange, where it is there already.
    """
    file = Path(os.path.realpath(file))  # a link to where somebody keeps their files stays one
    try:
        try:
            old: bytes | None = file.read_bytes()
        except FileNotFoundError:
            old = None
        new = with_entry(client, (old or b"").decode("utf-8"), table).encode()
        if new == old:
            raise NoChange
        _make(file.parent)
        kept = _keep(file) if old is not None else None
        _replace(file, new)
    except OSError as error:
        raise CannotWrite(f"{error.filename or file}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise CannotWrite("it is no UTF-8 text") from None
    return kept


class NoChange(Exception):
    """The entry is there already, just so."""


def _make(folder: Path) -> None:
    """A folder and those above it, where they are missing; they belong to whom the one above belongs."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700)
        _same_owner(folder.parent, folder)


def _keep(file: Path) -> Path:
    stem = f"{file.name}.{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1, 100):
        kept = file.with_name(f"{stem}{f'-{number}' if number > 1 else ''}.bak")
        if not kept.exists():
            shutil.copy2(file, kept)
            _same_owner(file, kept)
            return kept
    raise CannotWrite(f"there are copies of it without end: {stem}*")


def _replace(file: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if file.exists():
            shutil.copymode(file, name)
        _same_owner(file if file.exists() else file.parent, Path(name))
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _same_owner(model: Path, file: Path) -> None:
    """Only root can, and only for root it may differ."""
    if os.geteuid() == 0:
        about = model.stat()
        os.chown(file, about.st_uid, about.st_gid)
