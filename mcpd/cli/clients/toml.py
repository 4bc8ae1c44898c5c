"""TOML as Codex has it: puts a table into a text where everything else stays as it was."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER: Final = re.compile(r"^[ \t]*\[[^\n]*$", re.MULTILINE)
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def read(text: str) -> dict[str, Any]:
    """The whole. Raises: ValueError."""
    return tomllib.loads(text)


def put(text: str, path: tuple[str, str], table: Mapping[str, object]) -> str:
    """The text with this table there: in the place of the one that is there, else at the end.

    What comes of it is for the caller to read again: a table can be written in more ways than are understood here.
    Raises: ValueError, where the text is no TOML.
    """
    read(text)
    new = written(path, table)
    for header in _HEADER.finditer(text):
        if _names(header[0]) == path:
            # Comments that stand before the next table belong to that one.
            following = next(
                (each.start() for each in _HEADER.finditer(text, header.end()) if _names(each[0])[:2] != path),
                len(text),
            )
            behind = text[header.end() : following]
            kept = re.search(r"(?:\n[ \t]*(?:#[^\n]*)?)*\Z", behind)
            end = header.end() + (kept.start() if kept is not None else len(behind))
            return text[: header.start()] + new.rstrip("\n") + text[end:]
    gap = "" if not text.strip() else "\n" if text.endswith("\n") else "\n\n"
    return text + gap + new


def written(path: tuple[str, str], table: Mapping[str, object]) -> str:
    """A table with its header; texts and lists of texts are all there is."""
    lines = [f"[{'.'.join(map(_key, path))}]", *(f"{_key(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _names(header: str) -> tuple[str, ...]:
    """What a table's header names; empty for what is none."""
    try:
        found: Any = tomllib.loads(header)
    except tomllib.TOMLDecodeError:
        return ()
    names: list[str] = []
    while isinstance(found, dict) and found:
        [(name, found)] = found.items()
        names.append(name)
    return tuple(names)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(value: object) -> str:
    return f"[{', '.join(map(_value, value))}]" if isinstance(value, list) else _text(str(value))


def _text(value: str) -> str:
    # JSON's strings are TOML's basic ones, but for this character, which JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
