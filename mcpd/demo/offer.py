"""What a demo server offers, and how it looks in each version of MCP.

A `Tool` is its entry in the list and a function. `shown` removes from an entry what the negotiated version
does not know; `result` turns what a function returned into a tool result of that version.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

from mcpd.demo.call import JSON, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")

# Members of list entries by the first version that has them.
SINCE = (("annotations", "2025-03-26"), ("title", "2025-06-18"), ("outputSchema", "2025-06-18"))

PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
}

MAX_NUMBER = 1e308
"""Numbers beyond it overflow in the arithmetic of nearly every JSON reader."""


class Tool(NamedTuple):
    """A tool: `listing` is its entry in tools/list of the newest version.

    `run` gets a Call and the arguments by name, and returns a text, an object (structured content) or a list
    of content blocks.
    """

    listing: JSON
    run: Callable[..., str | JSON | list[JSON]]


class Prompt(NamedTuple):
    """A prompt: `run` gets the arguments by name and returns the text of the one user message."""

    listing: JSON
    run: Callable[..., str]


class Documents(NamedTuple):
    """The resources of a server: `entries` lists them, `read` returns the contents of one or None."""

    entries: Callable[[], list[JSON]]
    read: Callable[[str], JSON | None]
    templates: list[JSON]


def at_least(version: str, floor: str) -> bool:
    return VERSIONS.index(version) >= VERSIONS.index(floor)


def schema(properties: JSON, required: list[str]) -> JSON:
    """An object schema that takes nothing but these properties."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def shown(entry: JSON, version: str) -> JSON:
    """The entry without the members that came after `version`."""
    return {
        name: value
        for name, value in entry.items()
        if all(name != member or at_least(version, since) for member, since in SINCE)
    }


def result(value: str | JSON | list[JSON], version: str) -> JSON:
    """A tool result. Raises: nothing; what a version cannot carry becomes text."""
    if isinstance(value, str):
        return {"content": [text_block(value)]}
    if isinstance(value, list):
        return {"content": [block_shown(block, version) for block in value]}
    answer: JSON = {"content": [text_block(json.dumps(value, ensure_ascii=False))]}
    if at_least(version, "2025-06-18"):
        answer["structuredContent"] = value
    return answer


def text_block(text: str) -> JSON:
    return {"type": "text", "text": text}


def block_shown(block: JSON, version: str) -> JSON:
    if block.get("type") == "resource_link" and not at_least(version, "2025-06-18"):
        return text_block(f"{block.get('name')}: {block.get('uri')}")
    return block


def check_arguments(tool: Tool, arguments: JSON) -> None:
    """Checks the arguments against what our own schemas use: types, enums, limits and required names.

    Raises: ToolError that names the argument and what it should be.
    """
    described = tool.listing["inputSchema"]
    properties: dict[str, JSON] = described["properties"]
    missing = [name for name in described["required"] if name not in arguments]
    if missing:
        raise ToolError(f"missing: {', '.join(missing)}")
    for name, value in arguments.items():
        if name not in properties:
            raise ToolError(f"there is no argument {name!r}; there is {', '.join(properties) or 'none'}")
        check_value(name, value, properties[name])


def check_value(name: str, value: object, described: JSON) -> None:
    kind = described["type"]
    right = isinstance(value, PYTHON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not right:
        raise ToolError(f"{name} must be of type {kind}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not (math.isfinite(value) if isinstance(value, float) else abs(value) <= MAX_NUMBER):
            raise ToolError(f"{name} is not a usable number")
        if value < described.get("minimum", value) or value > described.get("maximum", value):
            raise ToolError(f"{name} must be {described.get('minimum', '')}…{described.get('maximum', '')}")
    if isinstance(value, str):
        check_text(name, value, described.get("maxLength", len(value)))
    if "enum" in described and value not in described["enum"]:
        raise ToolError(f"{name} must be one of {', '.join(map(str, described['enum']))}")


def check_text(name: str, value: str, longest: int) -> None:
    if len(value) > longest:
        raise ToolError(f"{name} must not be longer than {longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can express half a surrogate pair; a URI and a file cannot.
        raise ToolError(f"{name} is not valid Unicode") from None


def argument_entries(arguments: dict[str, str]) -> list[JSON]:
    """name → description as the arguments of a prompt; all are required."""
    return [{"name": name, "description": description, "required": True} for name, description in arguments.items()]


def object_or_empty(value: object) -> JSON:
    """Absent, null and {} are the same for params and arguments, whatever a client sends."""
    return value if isinstance(value, dict) else {}
