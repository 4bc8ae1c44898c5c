"""Exposed names: how tools and prompts of many backends become the names of one server.

Theory of operation. Exposed name = prefix + name, made to fit what clients accept. Names are computed for all
backends in the order of the configuration; the result is a table, and a name is only ever resolved through
it, never by splitting.

Rules.
1. The same backends in the same order give the same names, byte for byte.
2. A backend that is added later in the order renames nothing of those before it.
3. Within a backend, a name that needed no change wins over one that was changed to the same.
4. Every exposed name is unique, of 1 to `name_max` characters, which are `A-Z a-z 0-9 _ -` and those in
   prefix and separator.

Source: "Tool Names" (2025-11-25); the limits of clients: 64 characters of [a-zA-Z0-9_-], some with a prefix
of their own.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIX: Final = 8
"""Characters of the hash that tells shortened or colliding names apart: 32 bits, for lists of at most
thousands."""

BRIEF: Final = 100
"""Characters of a name in a note."""

_DIFFICULT: Final = re.compile(r"[^A-Za-z0-9_-]")


class Names(msgspec.Struct, frozen=True):
    """The names of one backend's entries: exposed names in the order of the real ones, and what was
    remarkable."""

    exposed: tuple[str, ...]
    notes: tuple[str, ...] = ()


def default_prefix(server: str, separator: str) -> str:
    """The prefix of a server that sets none. A server's name may hold dots, which most clients refuse."""
    return _fit(server, separator) + separator


def assign(server: str, prefix: str, names: Sequence[str], *, taken: set[str], separator: str, name_max: int) -> Names:
    """Exposed names for one backend. `taken` holds the names of the backends before it, and is added to."""
    exposed: dict[int, str] = {}
    notes: list[str] = []
    plain = [prefix + name for name in names]
    fitted = [_cut(_fit(wanted, separator + prefix), wanted, name_max) for wanted in plain]
    unchanged = [at for at in range(len(names)) if fitted[at] == plain[at]]
    changed = [at for at in range(len(names)) if fitted[at] != plain[at]]
    for at in (*unchanged, *changed):
        name = fitted[at]
        if name in taken:
            name = _suffixed(name, f"{server}\0{names[at]}", name_max)
            salt = 0
            while name in taken:  # 2⁻³² each time
                salt += 1
                name = _suffixed(fitted[at], f"{server}\0{names[at]}\0{salt}", name_max)
            notes.append(f"{server}: {brief(names[at])} is exposed as {name!r}, for {fitted[at]!r} is taken")
        elif name != plain[at]:
            notes.append(f"{server}: {brief(names[at])} is exposed as {name!r}, which clients accept")
        taken.add(name)
        exposed[at] = name
    return Names(tuple(exposed[at] for at in range(len(names))), tuple(notes))


def brief(name: str) -> str:
    """A name in quotes, for notes: backends may list anything."""
    return repr(name if len(name) <= BRIEF else name[:BRIEF] + "…")


def _fit(name: str, allowed: str) -> str:
    """Every character that clients commonly refuse becomes `_`, but for those that the operator asked for."""
    return _DIFFICULT.sub(lambda match: match[0] if match[0] in allowed else "_", name) or "_"


def _cut(name: str, wanted: str, name_max: int) -> str:
    return name if len(name) <= name_max else _suffixed(name, wanted, name_max)


def _suffixed(name: str, identity: str, name_max: int) -> str:
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:SUFFIX]
    return f"{name[: name_max - SUFFIX - 1]}_{digest}"
