"""What of the file system mcpd keeps for itself, whatever the lists of a view say: its state directory, where the admin
token is, with which a child could have a command run outside of its view.

Rules
    1. Of a private directory only names can be seen. Then the directories around it can still be listed, because
       Landlock's right to list may be given for a directory and all below it without the right to read.
    2. What a child needs in there is its own (its home, and where it starts), and so is what a list names in there.
       Both count only where they lie as they are written: others may have made them links.
    3. Where the child and mcpd may write to the directory around it, hiding it would take from the child what its view
       gives, and who can write there can become an operator in other ways. It stays as it is, and the log says so.
    4. So it does where the directories around it have more entries than there can be rules.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mcpd.supervisor.survey import Misled, Survey
from mcpd.supervisor.view import Access, TooManyRules, entries_of, is_below, longest, rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.supervisor.view import View


def rules_of(view: View) -> list[tuple[str, Access, bool]]:
    """`rules`, with what is private kept so. Blocks. Raises: OSError; TooManyRules; Misled."""
    survey = Survey(view)
    more = privacy(survey)[0]
    try:
        return rules(survey.modes, entries=entries_of, more=more)
    except TooManyRules:
        if not more:
            raise
        return rules(survey.modes, entries=entries_of)


def gaps(view: View, wanted: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """Private paths that a child with this view can read, and which of the `wanted` ones it does not see for their
    privacy. Blocks. Nothing where it cannot have its view at all.
    """
    if not view:
        return [], []
    try:
        survey = Survey(view)
        more, exposed = privacy(survey)
        if more:
            rules(survey.modes, entries=entries_of, more=more)
    except TooManyRules:
        return [*exposed, *(path for path in map(survey.where, view.private_paths) if path in more)], []
    except (OSError, Misled):
        return [], []
    modes = {**survey.modes, **more}
    decides = {each: longest(os.path.realpath(each), modes) for each in wanted}
    return exposed, [each for each, path in decides.items() if path in more and modes[path] <= Access.LIST]


def privacy(survey: Survey) -> tuple[dict[str, Access], list[str]]:
    """What is said of private paths, and of what is in them, besides the lists; and which of them can be read, or
    replaced by others.
    """
    said: dict[str, Access] = {}
    found: list[str] = []
    view, modes = survey.view, survey.modes
    for private in view.private_paths:
        path = survey.where(private)
        lists = (*view.read_only_paths, *view.read_write_paths)
        own = {survey.where(each) for each in lists if _lies_in(each, private, survey)}
        led = {each for each in modes if is_below(each, path) and modes[each] > Access.LIST} - own
        others = {each: mode for each, mode in modes.items() if each not in led}
        decides = longest(path, others)
        access = others[decides]
        if access > Access.LIST and (
            path == decides or (access is Access.WRITE and survey.writable(os.path.dirname(path)))
        ):
            found.append(path)
            continue
        said |= dict.fromkeys((path, *led), min(access, Access.LIST))
        for needed in view.needed_paths:
            there = survey.where(needed)
            if _lies_in(needed, private, survey) and there != path and longest(there, others) == decides:
                said[there] = access
        if survey.is_loose(private):
            found.append(path)
    return said, found


def _lies_in(path: str, private: str, survey: Survey) -> bool:
    """Whether it lies in that directory, or is it, as it is written, by either of the directory's names."""
    text, real = os.path.normpath(path), survey.where(private)
    return any(is_below(text, top) and survey.where(path) == real + text[len(top) :] for top in (private, real))
