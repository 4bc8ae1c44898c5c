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
       resolved first, for the same reason.
    5. /dev and /proc stay as they are unless a list names them, as with ProtectSystem=strict: no program runs without
       /dev/null, and Landlock itself keeps a child from the memory and environment of processes outside.
    6. What mcpd keeps for itself is no child's to read: with the admin token it could have a command run outside of
       its view. Of that only names can be seen; then the directories around it can still be listed, because the right
       to list may be given for a directory and all below it without the right to read. Where the child may write
       around it, this would take from it what its view gives, and whoever can write there can become an operator in
       other ways: it stays as it is, and the log says so.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    """Directories that mcpd keeps for itself."""
    needed_paths: tuple[str, ...] = ()
    """What in these is the child's all the same: its home, and where it starts."""

    def __bool__(self) -> bool:
        return bool(self.read_only_paths or self.inaccessible_paths)

    def modes(self, resolve: Callable[[str], str]) -> dict[str, Access]:
        """What is said of each path, resolved. Where two lists name the same one, the stricter holds."""
        found: dict[str, Access] = {}
        for paths, access in (
            (self.inaccessible_paths, Access.NONE),
            (self.read_only_paths, Access.READ),
            (self.read_write_paths, Access.WRITE),
        ):
            for path in paths:
                found.setdefault(resolve(path), access)
        for path in ("/", *EXEMPT):
            found.setdefault(path, Access.WRITE)
        return found

    def privacy(
        self, modes: dict[str, Access], resolve: Callable[[str], str], writable: Callable[[str], bool]
    ) -> tuple[dict[str, Access], list[str]]:
        """What is said of private paths besides `modes`, and those of them that the child can read: because a list
        names them, or because it may write around them.
        """
        said: dict[str, Access] = {}
        exposed: list[str] = []
        for path in map(resolve, self.private_paths):
            decides = _longest(path, modes)
            access = modes[decides]
            if access <= Access.LIST:
                continue
            if path in modes or (access is Access.WRITE and writable(os.path.dirname(path))):
                exposed.append(path)
                continue
            said[path] = Access.LIST
            for needed in map(resolve, self.needed_paths):
                if needed != path and _is_below(needed, path) and _longest(needed, modes) == decides:
                    said[needed] = access
        return said, exposed

    def exposed(self) -> list[str]:
        """Private paths that the child can read. Goes by paths as they are written, and so never waits for a disk."""
        if not self:
            return []
        return self.privacy(self.modes(os.path.normpath), os.path.normpath, _is_writable)[1]


class TooManyRules(ValueError):
    """A directory that has to be taken apart has too many entries."""


def rules(
    view: View,
    *,
    resolve: Callable[[str], str] = os.path.realpath,
    entries: Callable[[str], list[str]],
    writable: Callable[[str], bool] | None = None,
) -> list[tuple[str, Access, bool]]:
    """What is allowed: paths, what may be done with them, and whether a list names them; what was only found in a
    directory may be gone before the rule is made. `entries` gives the names in a directory without symbolic links,
    `writable` says of one whether something can be made in it.

    Raises: OSError of `entries`; TooManyRules.
    """
    named = view.modes(resolve)
    modes = named | view.privacy(named, resolve, writable or _is_writable)[0]
    found: list[tuple[str, Access, bool]] = []
    for path, access in _allowed("/", modes["/"], modes, entries):
        if len(found) == RULES_MAX:
            raise TooManyRules(path)
        found.append((path, access, path in named))
    return found


def _allowed(
    path: str, access: Access, modes: dict[str, Access], entries: Callable[[str], list[str]]
) -> Iterator[tuple[str, Access]]:
    below = {each: mode for each, mode in modes.items() if each != path and _is_below(each, path)}
    if access is Access.NONE or all(mode >= access for mode in below.values()):
        if access is not Access.NONE:
            yield path, access
        # What is allowed more, or at all, below.
        for each in sorted(below):
            if not any(other != each and _is_below(each, other) for other in below):
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
        elif any(_is_below(each, inner) for each in below):
            yield from _allowed(inner, access, modes, entries)
        else:
            yield inner, access


def _longest(path: str, modes: dict[str, Access]) -> str:
    """The path that decides about this one."""
    return max((each for each in modes if _is_below(path, each)), key=len)


def _first(path: str, top: str) -> str:
    """The first name on the way down."""
    return path[len(top.rstrip("/")) + 1 :].partition("/")[0]


def _is_writable(path: str) -> bool:
    return os.access(path, os.W_OK)


def _is_below(path: str, top: str) -> bool:
    """Whether it is the same one or below it."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def entries_of(path: str) -> list[str]:
    """The names in a directory, without symbolic links. Raises: OSError."""
    with os.scandir(path) as found:
        return [entry.name for entry in found if not entry.is_symlink()]
