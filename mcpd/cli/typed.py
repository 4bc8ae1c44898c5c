"""Arguments as they are typed, as the JSON that a schema wants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.control.client import Body

BOOLEANS: Final = {"true": True, "yes": True, "y": True, "false": False, "no": False, "n": False}


class Mistyped(Exception):
    """What was typed is not what is wanted. The message says both."""


def arguments(words: Iterable[str], schema: Body) -> Body:
    """`name=value …` as an object; what the schema says nothing of is a string. Raises: Mistyped."""
    properties = schema.get("properties")
    known: Body = properties if isinstance(properties, dict) else {}
    found: Body = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator or not name:
            raise Mistyped(f"{word!r} is not NAME=VALUE")
        if name in found:
            raise Mistyped(f"{name} is given twice")
        wanted = known.get(name)
        found[name] = value(text, wanted if isinstance(wanted, dict) else {}, name)
    return found


def value(text: str, schema: Body, name: str = "") -> object:
    """One value of the type that the schema names; where it names several, the first that fits. Raises: Mistyped."""
    kinds = schema.get("type")
    wanted: list[str] = kinds if isinstance(kinds, list) else [kinds] if isinstance(kinds, str) else []
    if not wanted and isinstance(schema.get("enum"), list):
        return next((each for each in schema["enum"] if _shown(each) == text), text)
    for kind in wanted:
        try:
            return _READ[kind](text)
        except (KeyError, ValueError):
            pass
    if not wanted:
        return text
    what = f"{name} is " if name else "this is "
    raise Mistyped(f"{what}{' or '.join(_WORDS.get(kind, kind) for kind in wanted)}, not {text[:80]!r}")


def _shown(each: object) -> str:
    return each if isinstance(each, str) else json.dumps(each)


def _boolean(text: str) -> bool:
    return BOOLEANS[text.lower()]


def _number(text: str) -> float | int:
    number: Any = json.loads(text)
    if type(number) not in (int, float):
        raise ValueError
    return number  # type: ignore[no-any-return] # it was just looked at


def _integer(text: str) -> int:
    number = _number(text)
    if isinstance(number, float) and not number.is_integer():
        raise ValueError
    return int(number)


def _null(text: str) -> None:
    if text not in ("", "null"):
        raise ValueError


def _json_of(kind: type) -> object:
    def read(text: str) -> object:
        found = json.loads(text)
        if not isinstance(found, kind):
            raise ValueError
        return found

    return read


_READ: Final[dict[str, Any]] = {
    "string": str,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "object": _json_of(dict),
    "array": _json_of(list),
    "null": _null,
}
_WORDS: Final = {
    "string": "a text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "an object as JSON",
    "array": "a list as JSON",
    "null": "null",
}
