"""Which part of the file system a child sees, in systemd's words, as rules for Landlock. Pure but for the functions
that it is handed.

Theory of operation
    1. systemd's three lists say of a path and everything below it that it is read-only, that it can be written to, or
       that it is not there. The longest path decides; what no list covers stays as it is.
    2. Landlock knows the opposite: all is forbidden, and a rule allows a directory and everything below it. Nothing
       can be taken out of it again. So a directory with something less allowed below it gets no rule itself, but each
       of its entries does, except the one on the way down.
    3. That has a price, which the manual tells: in such a directory nothing can be made or listed, and what somebody
       else makes in it later is out of reach until the child is started again.
    4. A symbolic link gets no rule: what it leads to has one, or is not to be reached. The paths of the lists are
       followed first, for the same reason (`survey`).
    5. /dev and /proc stay as they are unless a list names them, as with ProtectSystem=strict: no program runs without
       /dev/null, and Landlock itself keeps a child from the memory and environment of processes outside.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RULES_MAX: Final = 10_000
"""A rule is a file opened and a system call: 50 ms for so many. Directories that are taken apart have dozens of
entries."""

EXEMPT: Final = ("/dev", "/proc")


class Access(enum.IntEnum):
    """What may be done with a path and everything below; a smaller one allows less."""

    NONE = 0
    LIST = 1
    """Only the names in directories."""
    READ = 2
    WRITE = 3


@dataclass(frozen=True, slots=True)
class View:
    """Absolute paths. Empty: nothing is restricted."""

    read_only_paths: tuple[str, ...] = ()
    read_write_paths: tuple[str, ...] = ()
    inaccessible_paths: tuple[str, ...] = ()
    private_paths: tuple[str, ...] = ()
    """Directories that mcpd keeps for itself; see `privacy`."""
    needed_paths: tuple[str, ...] = ()
    """What in these is the child's all the same: its home, and where it starts."""
    other_user: bool = False
    """Whether the child runs as somebody else than mcpd."""

    def __bool__(self) -> bool:
        return bool(self.read_only_paths or self.inaccessible_paths)

    def modes(self, where: Mapping[str, str]) -> dict[str, Access]:
        """What is said of each real path. `where` has those of the lists' paths that count. Where two lists name the
        same one, the stricter holds.
        """
        found: dict[str, Access] = {}
        for paths, access in (
            (self.inaccessible_paths, Access.NONE),
            (self.read_only_paths, Access.READ),
            (self.read_write_paths, Access.WRITE),
        ):
            for path in paths:
                if path in where:
                    found.setdefault(where[path], access)
        for path in ("/", *EXEMPT):
            found.setdefault(path, Access.WRITE)
        return found


class TooManyRules(ValueError):
    """A directory that has to be taken apart has too many entries."""


def rules(
    named: Mapping[str, Access],
    *,
    entries: Callable[[str], list[str]],
    more: Mapping[str, Access] = MappingProxyType({}),
) -> list[tuple[str, Access, bool]]:
    """What is allowed: paths, what may be done with them, and whether a list names them; what was only found in a
    directory may be gone before the rule is made. `entries` gives the names in a directory without symbolic links.
    `more` says something of further paths, which are there or not.

    Raises: OSError of `entries`; TooManyRules.
    """
    modes = {**named, **more}
    found: list[tuple[str, Access, bool]] = []
    for path, access in _allowed("/", modes["/"], modes, entries):
        if len(found) == RULES_MAX:
            raise TooManyRules(path)
        found.append((path, access, path in named))
    return found


def _allowed(
    path: str, access: Access, modes: dict[str, Access], entries: Callable[[str], list[str]]
) -> Iterator[tuple[str, Access]]:
    below = {each: mode for each, mode in modes.items() if each != path and is_below(each, path)}
    if access is Access.NONE or all(mode >= access for mode in below.values()):
        if access is not Access.NONE:
            yield path, access
        # What is allowed more, or at all, below.
        for each in sorted(below):
            if not any(other != each and is_below(each, other) for other in below):
                yield from _allowed(each, modes[each], modes, entries)
        return
    gently = all(mode >= Access.LIST for mode in below.values())
    if gently:
        yield path, Access.LIST
    # A path that is wanted and not there is an error, as it is where nothing is taken apart.
    names = {_first(each, path) for each, mode in below.items() if mode > Access.LIST}
    try:
        names.update(entries(path))
    except PermissionError:
        if not gently:
            raise
        # Nobody lists this directory; the way down goes through it.
        names.update(_first(each, path) for each in below)
    for name in sorted(names):
        inner = os.path.join(path, name)
        if inner in modes:
            yield from _allowed(inner, modes[inner], modes, entries)
        elif any(is_below(each, inner) for each in below):
            yield from _allowed(inner, access, modes, entries)
        else:
            yield inner, access


def longest(path: str, modes: Mapping[str, Access]) -> str:
    """The path that decides about this one."""
    return max((each for each in modes if is_below(path, each)), key=len)


def _first(path: str, top: str) -> str:
    """The first name on the way down."""
    return path[len(top.rstrip("/")) + 1 :].partition("/")[0]


def is_below(path: str, top: str) -> bool:
    """Whether it is the same one or below it."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def entries_of(path: str) -> list[str]:
    """The names in a directory, without symbolic links. Raises: OSError."""
    with os.scandir(path) as found:
        return [entry.name for entry in found if not entry.is_symlink()]
