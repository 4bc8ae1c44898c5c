"""Where the paths of a view lead, looked at once: who can change that could do so between two looks.

Theory of operation
    1. Every symbolic link on the way is followed, and the directory is remembered that it lies in.
    2. A link is *loose* if the child's user may write to its directory, or to one around it, and so may the child: by
       the view, as far as that is certain, or because a list lets it write there. The child, or another process of its
       own, can have made it, to have something else allowed at the next start.
    3. What is certain are the paths that no link leads to which that user could make. Otherwise a loose link could
       say of its own directory that it cannot be written to.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from mcpd.supervisor.view import Access, View, is_below, longest

if TYPE_CHECKING:
    from collections.abc import Callable

LINKS_MAX: Final = 40
"""As many as the kernel follows."""


class Misled(ValueError):
    """A path is a link that the child can have made: the path, and where it leads."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads, and the real directories in which a link was followed."""

    path: str
    links: tuple[str, ...] = ()


def follow(path: str) -> Place:
    """What is not there leads nowhere else. Blocks."""
    links: list[str] = []
    real, todo = "/", path.split("/")[::-1]
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            real = os.path.dirname(real)
            continue
        here = os.path.join(real, name)
        try:
            target = os.readlink(here) if len(links) < LINKS_MAX else ""
        except OSError:
            target = ""
        if not target:
            real = here
            continue
        links.append(real)
        todo += target.split("/")[::-1]
        if target.startswith("/"):
            real = "/"
    return Place(real, tuple(links))


def is_writable(path: str) -> bool:
    """Whether mcpd's user can make something in it, or let itself do so: no view keeps an owner from changing the mode
    of a directory."""
    try:
        return os.access(path, os.W_OK) or os.stat(path).st_uid == os.geteuid()
    except OSError:
        return False


def is_open(path: str) -> bool:
    """Whether somebody else than root can, as far as its mode tells."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return found.st_uid != 0 or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


class Survey:
    """A view, and what its paths are."""

    def __init__(
        self,
        view: View,
        *,
        follow: Callable[[str], Place] = follow,
        writable: Callable[[str], bool] | None = None,
    ) -> None:
        """`writable` says of a directory whether the child's user can make something in it. Blocks. Raises: Misled."""
        listed = (*view.inaccessible_paths, *view.read_only_paths, *view.read_write_paths)
        self.view = view
        self.writable = writable = writable or (is_open if view.other_user else is_writable)
        self._places = {path: follow(path) for path in {*listed, *view.private_paths, *view.needed_paths}}
        self._tops = [self.where(path) for path in view.read_write_paths]
        loose = {path for path in listed if any(map(writable, self._ways(path)))}
        self._certain = view.modes({path: self.where(path) for path in listed if path not in loose})
        self.modes = view.modes({path: self.where(path) for path in listed})
        """What is said of each real path."""
        for path in listed:
            if self.is_loose(path):
                raise Misled(path, self.where(path))

    def where(self, path: str) -> str:
        """The real path of one of the view's."""
        return self._places[path].path

    def is_loose(self, path: str) -> bool:
        """Whether there is a link on the way to it that the child can have made, or can make another one."""
        return any(self.writable(each) and self._may_write(each) for each in self._ways(path))

    def _ways(self, path: str) -> set[str]:
        """The directories of its links, and those around them: who may write to one can put away what is in it, and
        back again, so that nobody sees who may write to that."""
        return {each for link in self._places[path].links for each in (link, *map(str, PurePath(link).parents))}

    def _may_write(self, path: str) -> bool:
        certain = self._certain
        return certain[longest(path, certain)] is Access.WRITE or any(is_below(path, top) for top in self._tops)
