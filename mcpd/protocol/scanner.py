"""Splits JSON that msgspec refuses and RFC 8259 allows: strings with a lone surrogate, half of an emoji
(`"\\ud83d"`).

Such texts come from tools that cut strings by UTF-16 units. They are rare, so this is the slow road: the
standard library's scanner finds where each value ends, and the values stay the bytes they came as. Nothing
that the scanner builds is kept, and little of it is built: numbers and nested objects become small integers.
"""

from __future__ import annotations

import json
import re
from typing import Final, NoReturn

from msgspec import Raw

PARTS_MAX: Final = 10_000
"""Members or elements that are split one by one, at some microseconds each, while nothing else runs."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")  # the scanner takes NaN and Infinity, JSON has neither


_scan: Final = json.JSONDecoder(
    parse_int=bool, parse_float=bool, parse_constant=_refuse_constant, object_pairs_hook=len
).raw_decode


def has_surrogate(data: bytes) -> bool:
    """Whether the slow road could help: without such an escape, msgspec's verdict stands."""
    return _SURROGATE.search(data) is not None


def scan_object(data: bytes) -> dict[str, Raw]:
    """The members of a JSON object. Raises: ValueError, RecursionError when it is not one, or has too
    many."""
    text = data.decode()
    at = _open(text, "{")
    members: dict[str, Raw] = {}
    while text[at : at + 1] != "}":
        if members:
            at = _pass(text, at, ",")
        if len(members) == PARTS_MAX:
            raise ValueError(f"more than {PARTS_MAX} members and a lone surrogate")
        name, at = _scan(text, at)
        at = _pass(text, _skip(text, at), ":")
        start = at
        _value, at = _scan(text, start)
        if not isinstance(name, str) or name in members:
            raise ValueError("expected a new member")
        members[name] = Raw(text[start:at].encode())
        at = _skip(text, at)
    _end(text, at + 1)
    return members


def scan_array(data: bytes, most: int = PARTS_MAX) -> list[Raw]:
    """The elements of a JSON array. Raises: ValueError, RecursionError when it is not one, or longer than
    `most`."""
    text = data.decode()
    at = _open(text, "[")
    elements: list[Raw] = []
    while text[at : at + 1] != "]":
        if elements:
            at = _pass(text, at, ",")
        if len(elements) == most:
            raise ValueError(f"more than {most} elements and a lone surrogate")
        start = at
        _value, at = _scan(text, start)
        elements.append(Raw(text[start:at].encode()))
        at = _skip(text, at)
    _end(text, at + 1)
    return elements


def _open(text: str, bracket: str) -> int:
    return _pass(text, _skip(text, 0), bracket)


def _pass(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise ValueError(f"expected {mark}")
    return _skip(text, at + 1)


def _end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise ValueError("trailing characters")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None, "the pattern matches nothing, too"
    return found.end()
