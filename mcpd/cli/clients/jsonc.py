"""JSON as editors write it: with comments and commas too many. Reads it, and puts a member into it, where everything
else stays as it was, character for character.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_COMMENT: Final = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_COMMA: Final = re.compile(rf"{_STRING}|,(?=\s*[}}\]])")
_INDENT: Final = re.compile(r"^[ \t]+(?=[^\s])", re.MULTILINE)
_VALUE: Final = json.JSONDecoder()

MARK: Final = "\ufeff"
"""The byte order mark that some editors put before a text."""


class Member(NamedTuple):
    """Where one is in a text."""

    key: str
    at: int
    start: int
    """Of its value."""
    end: int


def read(text: str) -> Any:  # noqa: ANN401 - a JSON value
    """The value; None for a text that has nothing in it. Raises: ValueError."""
    bare = plain(text)
    try:
        return json.loads(bare) if bare.strip() else None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def put(text: str, path: tuple[str, ...], value: object) -> str:
    """The text with this value there; objects on the way that are missing are made.

    Raises: ValueError, where something on the way is no object, or the text is no such JSON.
    """
    if not plain(text).strip():
        return text + json.dumps(_nested(path, value), indent=2, ensure_ascii=False) + "\n"
    read(text)
    bare = plain(text)
    at = len(bare) - len(bare.lstrip())
    for depth, key in enumerate(path):
        if bare[at] != "{":
            raise ValueError(f"{'.'.join(path[:depth]) or 'the whole'} is no object")
        members, close = members_of(bare, at)
        found = next((each for each in reversed(members) if each.key == key), None)
        if found is None:
            return _insert(text, at, close, members, key, _nested(path[depth + 1 :], value))
        if depth == len(path) - 1:
            return text[: found.start] + _written(text, value, _margin(text, found.at)) + text[found.end :]
        at = found.start
    raise ValueError("no path")


def plain(text: str) -> str:
    """The same as strict JSON, each character in its place: what is too much becomes spaces."""
    return _COMMA.sub(_keep_strings, _without_comments(text))


def members_of(bare: str, at: int) -> tuple[list[Member], int]:
    """Those of the object that begins there, and where it closes."""
    found: list[Member] = []
    at = _skip(bare, at + 1)
    while bare[at] != "}":
        key, end = _VALUE.raw_decode(bare, at)
        start = _skip(bare, _skip(bare, end) + 1)
        _, after = _VALUE.raw_decode(bare, start)
        found.append(Member(key, at, start, after))
        at = _skip(bare, after)
        if bare[at] == ",":
            at = _skip(bare, at + 1)
    return found, at


def _insert(text: str, opening: int, close: int, members: list[Member], key: str, value: object) -> str:
    line_end = "\r\n" if "\r\n" in text else "\n"
    if not members:
        margin = _margin(text, opening)
        inner = margin + _unit(text)
        new = f"{line_end}{inner}{_member(text, key, value, inner)}"
        if not text[opening + 1 : close].strip():
            return f"{text[: opening + 1]}{new}{line_end}{margin}{text[close:]}"
        # There are comments, which stay behind the new member.
        return text[: opening + 1] + new + text[opening + 1 :]
    last = members[-1]
    comma = _without_comments(text).find(",", last.end, close)
    if comma < 0:
        text, comma, close = text[: last.end] + "," + text[last.end :], last.end, close + 1
        trailing = ""
    else:
        trailing = ","
    margin = _margin(text, last.at)
    line = text.find("\n", comma, close)
    if line < 0 or text[text.rfind("\n", 0, last.at) + 1 : last.at].strip():
        return f"{text[: comma + 1]} {_member(text, key, value, margin)}{trailing}{text[comma + 1 :]}"
    line -= text[line - 1] == "\r"
    return f"{text[:line]}{line_end}{margin}{_member(text, key, value, margin)}{trailing}{text[line:]}"


def _member(text: str, key: str, value: object, margin: str) -> str:
    return f"{json.dumps(key, ensure_ascii=False)}: {_written(text, value, margin)}"


def _written(text: str, value: object, margin: str) -> str:
    lines = json.dumps(value, indent=_unit(text), ensure_ascii=False).split("\n")
    return ("\r\n" if "\r\n" in text else "\n").join([lines[0], *(margin + line for line in lines[1:])])


def _margin(text: str, at: int) -> str:
    """What the line begins with that has this place."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    """By how much a level is indented here."""
    found = _INDENT.search(text)
    return found[0] if found is not None else "  "


def _nested(path: tuple[str, ...], value: object) -> object:
    for key in reversed(path):
        value = {key: value}
    return value


def _without_comments(text: str) -> str:
    return _COMMENT.sub(_keep_strings, text.replace(MARK, " ", 1) if text.startswith(MARK) else text)


def _keep_strings(match: re.Match[str]) -> str:
    found = match[0]
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
