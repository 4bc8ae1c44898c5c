"""A file → a tree, and a single file → a checked Config. The file system is touched here; `build` does the rest."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from mcpd.config.build import Source, build, is_text
from mcpd.config.document import parse
from mcpd.config.faults import ConfigErrors
from mcpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path as FilePath

    from mcpd.config.model import Config

MAX_FILE: Final = 4 * 1024 * 1024
"""Bytes of a configuration file: some ten thousand servers."""


def load(path: FilePath, *, environ: Mapping[str, str], credentials_directory: FilePath | None = None) -> Config:
    """Read and check a file that stands alone. YAML, or JSON where the name ends in `.json`.

    Raises: ConfigErrors, with one entry for each fault.
    """
    return build(read_main(path), environ=environ, credentials_directory=credentials_directory)


def loads(text: str, *, name: str, environ: Mapping[str, str], credentials_directory: FilePath | None = None) -> Config:
    """Check a text as `load` checks a file; `name` is for messages, and tells the format.

    Raises: ConfigErrors, with one entry for each fault.
    """
    return build(source_of(text, name), environ=environ, credentials_directory=credentials_directory)


def source_of(text: str, name: str) -> Source:
    """A text as a source. Raises: ConfigErrors."""
    if not is_text(text):
        raise ConfigErrors([ConfigError("not UTF-8 text", file=name)])
    return Source(name, parse(text, name))


def read_main(path: FilePath) -> Source:
    """The main file, which may be a pipe. Raises: ConfigErrors."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, "--config FILE names another one") from error
    return _decoded(path, data)


def read_drop_in(path: FilePath) -> Source:
    """A file of the directory of servers. Raises: ConfigErrors."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigErrors([ConfigError("not a regular file", file=str(path), remedy="move it away")])
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise _unreadable(path, error, "it must be readable for mcpd's user") from error
    return _decoded(path, data)


def _unreadable(path: FilePath, error: OSError | ValueError, remedy: str) -> ConfigErrors:
    why = getattr(error, "strerror", None) or "not a path"
    return ConfigErrors([ConfigError(f"cannot be read: {why}", file=str(path), remedy=remedy)])


def _decoded(path: FilePath, data: bytes) -> Source:
    name = str(path)
    if len(data) > MAX_FILE:
        raise ConfigErrors([ConfigError(f"longer than {MAX_FILE} bytes", file=name)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = ConfigError("not UTF-8 text", file=name, line=line, remedy="save it as UTF-8")
        raise ConfigErrors([problem]) from error
    return source_of(text, name)
