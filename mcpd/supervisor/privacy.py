"""What of the file system mcpd keeps for itself, whatever the lists of a view say: its state directory, where the admin
token is, with which a child could have a command run outside of its view.

Rules
    1. Of a private directory only names can be seen. Then the directories around it can still be listed, because
       Landlock's right to list may be given for a directory and all below it without the right to read.
    2. What a child needs in there is its own: its home and where it starts. Both count only where they lie as they are
       written: a child that may write around them could make them links.
    3. Who names a private directory, or something in it, has it; but as it is written, not by a link.
    4. Where the child and mcpd may write to the directory around it, hiding it would take from the child what its view
       gives, and who can write there can become an operator in other ways. It stays as it is, and the log says so.
    5. So it does where the directories around it have more entries than there can be rules.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mcpd.supervisor.view import Access, Misled, TooManyRules, entries_of, is_below, longest, rules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcpd.supervisor.view import View

    Resolve = Callable[[str], str]

Rules = list[tuple[str, Access, bool]]


def rules_of(view: View) -> Rules:
    """`rules`, with what is private kept so. Blocks. Raises: OSError; TooManyRules; Misled."""
    more = privacy(view, view.modes(os.path.realpath))[0]
    try:
        return rules(view, entries=entries_of, more=more)
    except TooManyRules:
        if not more:
            raise
        return rules(view, entries=entries_of)


def exposed(view: View) -> list[str]:
    """Private paths that a child with this view can read. Blocks. Empty where it cannot have its view at all."""
    if not view:
        return []
    try:
        more, found = privacy(view, view.modes(os.path.realpath))
        if more:
            rules(view, entries=entries_of, more=more)
    except TooManyRules:
        return [*found, *(path for path in map(os.path.realpath, view.private_paths) if path in more)]
    except (OSError, Misled):
        return []
    return found


def _is_writable(path: str) -> bool:
    return os.access(path, os.W_OK)


def privacy(
    view: View,
    modes: Mapping[str, Access],
    *,
    resolve: Resolve = os.path.realpath,
    writable: Callable[[str], bool] = _is_writable,
) -> tuple[dict[str, Access], list[str]]:
    """What is said of private paths, and of what is in them, besides `modes`; and which of them can be read, or
    replaced by others. `writable` says of a directory whether mcpd's user can make something in it.
    """
    said: dict[str, Access] = {}
    found: list[str] = []
    lists = [os.path.normpath(path) for path in (*view.read_only_paths, *view.read_write_paths)]
    for private in map(os.path.normpath, view.private_paths):
        path = resolve(private)
        spelled = {resolve(each) for each in lists if is_below(each, private) or is_below(each, path)}
        led = {each for each in modes if is_below(each, path) and modes[each] > Access.LIST} - spelled
        others = {each: mode for each, mode in modes.items() if each not in led}
        decides = longest(path, others)
        access = others[decides]
        if access > Access.LIST and (path == decides or (access is Access.WRITE and writable(os.path.dirname(path)))):
            found.append(path)
            continue
        said |= dict.fromkeys((path, *led), min(access, Access.LIST))
        for needed in map(os.path.normpath, view.needed_paths):
            inside = _inside(needed, private, path)
            if inside and resolve(needed) == inside and longest(inside, others) == decides:
                said[inside] = access
        if _can_be_replaced(private, others, resolve, writable):
            found.append(path)
    return said, found


def _inside(path: str, *tops: str) -> str:
    """Where it lies in the last of these names of one directory; empty if it does not."""
    for top in tops:
        if path != top and is_below(path, top):
            return os.path.join(tops[-1], os.path.relpath(path, top))
    return ""


def _can_be_replaced(path: str, modes: Mapping[str, Access], resolve: Resolve, writable: Callable[[str], bool]) -> bool:
    """Whether there is a link on the way to it in a directory that the child may write to."""
    while path != "/":
        above, name = os.path.split(path)
        real = resolve(above)
        if resolve(path) != os.path.join(real, name) and modes[longest(real, modes)] is Access.WRITE and writable(real):
            return True
        path = above
    return False
