"""Everything that a configuration is read from: the main file, the files of `servers.d` beside it, and the overlay.

Rules.
1. A fault in any file refuses all of it.
2. The overlay must not keep mcpd from starting: at the start (`lenient`) a faulty entry is left out, and a file that
   cannot be understood set aside. Both are told, in `Config.problems`. Later they are faults like any other, and what
   is in effect stays.
3. What is read is bounded: each file, their number, and what they have in all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from mcpd.config.build import Source, build, definitions
from mcpd.config.faults import ConfigErrors
from mcpd.config.load import MAX_FILE, read_drop_in, read_main, source_of
from mcpd.config.overlay import REMEDY, ChangeRefused, Overlay, decode, encode
from mcpd.config.store import Store
from mcpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mcpd.config.model import Config
    from mcpd.config.origins import Origin

DIRECTORY: Final = "servers.d"
SUFFIXES: Final = (".yaml", ".yml", ".json")

MAX_FILES: Final = 1000
"""Drop-ins: one for each server is enough for the largest setups known."""

NO_OVERLAY: Final = "no_overlay"

Change: TypeAlias = "Callable[[Overlay, Mapping[str, Origin]], Overlay]"
"""What is to become of the overlay, given what files define. Raises: ChangeRefused."""

Stamp: TypeAlias = "tuple[tuple[str, int, int, int], ...]"
"""By which changed files are noticed: name, time of change in ns, size and inode of each."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What all sources say. With a change, `write` makes it last."""

    config: Config
    overlay: Overlay = field(default_factory=Overlay)
    before: bytes | None = None
    after: bytes | None = None
    """The overlay's text as it was and as it is to be; None if there is none."""


class Sources:
    """Where one mcpd's configuration is. Everything here blocks as long as the disk does."""

    def __init__(
        self,
        main: Path | None,
        *,
        built_in: tuple[str, str] = ("", ""),
        overlay: Path | None = None,
        environ: Mapping[str, str],
        credentials_directory: Path | None = None,
        override: Callable[[Config], Config] = lambda config: config,
    ) -> None:
        """Without a main file, `built_in` has the name and the text that are used instead. Without an overlay there are
        no changes that last. `override` is applied to what was read."""
        self._main = main
        self._built_in = built_in
        self._store = Store(overlay) if overlay is not None else None
        self._environ = environ
        self._credentials = credentials_directory
        self._override = override

    def read(self, change: Change | None = None, *, lenient: bool = False, set_aside: bool = False) -> Reading:
        """Read all, as if the change had been made. `lenient` and `set_aside` are for the start (rule 2).

        Raises: ConfigErrors, ChangeRefused.
        """
        main, drop_ins = self._read_files()
        problems: list[str] = []
        before, overlay = self._read_overlay(problems, lenient=lenient, set_aside=set_aside)
        after = before
        if change is not None:
            if self._store is None:
                raise ChangeRefused(
                    NO_OVERLAY,
                    "this mcpd keeps no changes: it speaks to one client, and has no state directory of its own",
                    "start it with --state-dir, or change its file and reload",
                )
            overlay = change(overlay, definitions((main, *drop_ins)))
            after = encode(overlay)
        config = build(
            main,
            drop_ins,
            overlay,
            overlay_file=self._file,
            environ=self._environ,
            credentials_directory=self._credentials,
            lenient=lenient,
        )
        if change is not None and after is not None:
            config = _placed(config, decode(after, self._file))
        aside = self._store.aside() if self._store is not None else []
        problems += (
            f"{path} was set aside: nothing in it is in effect (look into it, then remove it)" for path in aside
        )
        config = msgspec.structs.replace(config, problems=(*problems, *config.problems))
        return Reading(self._override(config), overlay, before, after)

    @property
    def _file(self) -> str:
        return str(self._store.path) if self._store is not None else ""

    def write(self, reading: Reading) -> bool:
        """Have the change last; False if the disk would not say that it outlives a power cut.

        Raises: ChangeRefused, and nothing was changed.
        """
        if self._store is None or reading.after is None or reading.after == reading.before:
            return True
        return self._store.replace(reading.before, reading.after)

    def stamp(self) -> Stamp:
        """What can be seen of the files without reading them."""
        if self._main is None:
            return ()
        try:
            files = self._drop_ins()
        except ConfigErrors:
            files = []
        return tuple(_look(path) for path in (self._main, *files))

    def _read_files(self) -> tuple[Source, list[Source]]:
        if self._main is None:
            name, text = self._built_in
            return source_of(text, name), []
        errors: list[ConfigError] = []
        found: list[Source] = []
        try:
            files = self._drop_ins()
        except ConfigErrors as error:
            files = []
            errors += error.errors
        room = MAX_FILE
        for read, path in ((read_main, self._main), *((read_drop_in, path) for path in files)):
            try:
                found.append(read(path))
                room -= path.stat().st_size if read is read_drop_in else 0
            except ConfigErrors as error:
                errors += error.errors
            except OSError:
                continue  # it went away between the two
            if room < 0:
                reason = f"with this file the directory has more than {MAX_FILE} bytes"
                raise ConfigErrors([*errors, ConfigError(reason, file=str(path))])
        if errors:
            raise ConfigErrors(errors)
        return found[0], found[1:]

    def _drop_ins(self) -> list[Path]:
        """The files beside the main one, by name. Raises: ConfigErrors."""
        assert self._main is not None
        directory = self._main.absolute().parent / DIRECTORY
        try:
            names = [name for name in os.listdir(directory) if name.endswith(SUFFIXES) and not name.startswith(".")]
        except FileNotFoundError:
            return []
        except OSError as error:
            remedy = "it must be a directory that mcpd's user can read"
            raise ConfigErrors(
                [ConfigError(f"cannot be read: {error.strerror}", file=str(directory), remedy=remedy)]
            ) from None
        if len(names) > MAX_FILES:
            raise ConfigErrors([ConfigError(f"more than {MAX_FILES} files", file=str(directory))])
        return [directory / name for name in sorted(names)]

    def _read_overlay(self, problems: list[str], *, lenient: bool, set_aside: bool) -> tuple[bytes | None, Overlay]:
        store = self._store
        if store is None:
            return None, Overlay()
        file = str(store.path)
        try:
            data = store.read()
        except OSError as error:
            problem = ConfigError(f"cannot be read: {error.strerror}", file=file, remedy=REMEDY)
            if not lenient:
                raise ConfigErrors([problem]) from None
            problems.append(f"{problem}; servers that were added while mcpd ran are missing")
            return None, Overlay()
        try:
            return data, Overlay() if data is None else decode(data, file)
        except ConfigErrors as error:
            if not lenient:
                raise
            problems += (f"{each}; servers that were added while mcpd ran are missing" for each in error.errors)
        if set_aside:
            try:
                store.set_aside()
            except OSError as error:
                problems.append(f"{file} cannot be set aside: {error.strerror}")
        return None, Overlay()


def _placed(config: Config, written: Overlay) -> Config:
    """The same with the lines that servers of the overlay will be in."""
    origins = {
        name: msgspec.structs.replace(origin, line=written.servers[name].lines[()])
        if origin.added is not None
        else origin
        for name, origin in config.origins.items()
    }
    return msgspec.structs.replace(config, origins=origins)


class Still:
    """A configuration that is read from nowhere, and stays as it is."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def read(self, change: Change | None = None) -> Reading:
        """The same as ever. Raises: ChangeRefused."""
        if change is not None:
            raise ChangeRefused(NO_OVERLAY, "this mcpd keeps no changes", "start it with a configuration")
        return Reading(self._config)

    def write(self, reading: Reading) -> bool:
        """There is nothing to write."""
        return True

    def stamp(self) -> Stamp:
        """There is nothing to see."""
        return ()


def _look(path: Path) -> tuple[str, int, int, int]:
    try:
        seen = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), seen.st_mtime_ns, seen.st_size, seen.st_ino
