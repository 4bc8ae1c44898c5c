"""What a server asks the user, asked at the terminal: a form field by field, or an address to open.

Source: "Elicitation" of each version.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final, Protocol

from mcpd.cli.table import printable
from mcpd.cli.typed import Mistyped, value

if TYPE_CHECKING:
    from mcpd.control.client import Body

FORMATS: Final = {
    "email": re.compile(r"[^@\s]+@[^@\s]+"),
    "uri": re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+"),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "date-time": re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?"),
}

DECLINE: Final = "!"
"""What is typed to decline; the end of input cancels."""


class Left(Exception):
    """The user gives no (more) answers. `action` is the protocol's word."""

    def __init__(self, action: str) -> None:
        self.action = action
        super().__init__(action)


class Screen(Protocol):
    """Where it is asked."""

    def say(self, text: str) -> None:
        """One line."""

    def ask(self, prompt: str) -> str:
        """One line of the user's. Raises: EOFError."""


class Terminal:
    """stderr and stdin: stdout is for the result."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr)

    def ask(self, prompt: str) -> str:
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")


def answer(screen: Screen, method: str, params: Body) -> Body:
    """The answer to one question."""
    if method != "elicitation/create":
        # Not declared, so not asked by who goes by the rules.
        screen.say(f"the server asks for {printable(method)}, which mcpctl has not")
        return {"action": "cancel"}
    screen.say(printable(str(params.get("message", ""))))
    try:
        if params.get("mode") == "url":
            return _address(screen, params)
        return {"action": "accept", "content": _fields(screen, params.get("requestedSchema") or {})}
    except Left as left:
        return {"action": left.action}


def _address(screen: Screen, params: Body) -> Body:
    screen.say(f"  open {printable(str(params.get('url', '')))}")
    wanted = _line(screen, "  go on? [y/n] ")
    return {"action": "accept" if wanted.lower() in ("y", "yes") else "decline"}


def _fields(screen: Screen, schema: Body) -> Body:
    properties = schema.get("properties")
    required = schema.get("required") or ()
    content: Body = {}
    fields: Body = properties if isinstance(properties, dict) else {}
    if fields:
        screen.say(f"  ({DECLINE} declines, Ctrl-D cancels)")
    elif _line(screen, "  accept? [y/n] ").lower() not in ("y", "yes"):
        raise Left("decline")
    for name, wanted in fields.items():
        if isinstance(wanted, dict):
            given = _field(screen, name, wanted, required=name in required)
            if given is not None:
                content[name] = given
    return content


def _field(screen: Screen, name: str, wanted: Body, *, required: bool) -> object:
    """One value, None where none is given."""
    title = printable(str(wanted.get("title") or name))
    if wanted.get("description"):
        screen.say(f"  {printable(str(wanted['description']))}")
    choices = _choices(wanted)
    if choices:
        for number, (_, label) in enumerate(choices, 1):
            screen.say(f"    {number}. {printable(label)}")
    default = wanted.get("default")
    hint = f" [{printable(_typed(default))}]" if default is not None else "" if required else " (may be empty)"
    while True:
        text = _line(screen, f"  {title}{hint}: ")
        if not text:
            if default is not None:
                return default
            if not required:
                return None
            screen.say("  it is needed")
            continue
        try:
            return _read(text, wanted, choices)
        except Mistyped as wrong:
            screen.say(f"  {wrong}")


def _line(screen: Screen, prompt: str) -> str:
    """Raises: Left."""
    try:
        text = screen.ask(prompt).strip()
    except EOFError:
        screen.say("")
        raise Left("cancel") from None
    if text == DECLINE:
        raise Left("decline")
    return text


def _read(text: str, wanted: Body, choices: list[tuple[str, str]]) -> object:
    """Raises: Mistyped."""
    if wanted.get("type") == "array":
        return [_chosen(each.strip(), choices) for each in text.split(",") if each.strip()]
    if choices:
        return _chosen(text, choices)
    found = value(text, wanted)
    _check(found, wanted)
    return found


def _check(found: object, wanted: Body) -> None:
    """Raises: Mistyped."""
    if isinstance(found, str):
        least, most = wanted.get("minLength", 0), wanted.get("maxLength", len(found))
        if not least <= len(found) <= most:
            raise Mistyped(f"this has from {least} to {wanted.get('maxLength', 'any number of')} characters")
        form = FORMATS.get(str(wanted.get("format")))
        if form is not None and form.fullmatch(found) is None:
            raise Mistyped(f"this is no {wanted['format']}")
    elif not isinstance(found, bool) and isinstance(found, (int, float)):
        if found < wanted.get("minimum", found):
            raise Mistyped(f"this is at least {wanted['minimum']}")
        if found > wanted.get("maximum", found):
            raise Mistyped(f"this is at most {wanted['maximum']}")


def _choices(wanted: Body) -> list[tuple[str, str]]:
    """Values and their labels; none where anything may be typed."""
    items = wanted.get("items")
    for source in (wanted, items if isinstance(items, dict) else {}):
        for key in ("oneOf", "anyOf"):
            if isinstance(source.get(key), list):
                titled = [each for each in source[key] if isinstance(each, dict) and "const" in each]
                return [(str(each["const"]), str(each.get("title", each["const"]))) for each in titled]
        if isinstance(source.get("enum"), list):
            names = source.get("enumNames") or source["enum"]
            return [(str(each), str(name)) for each, name in zip(source["enum"], names, strict=False)]
    return []


def _chosen(text: str, choices: list[tuple[str, str]]) -> str:
    """Raises: Mistyped."""
    values = [each for each, _ in choices]
    if text in values:
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= len(values):
        return values[int(text) - 1]
    raise Mistyped("type one of the numbers")


def _typed(default: object) -> str:
    return ("no", "yes")[default] if isinstance(default, bool) else str(default)
