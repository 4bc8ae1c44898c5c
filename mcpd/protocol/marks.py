"""The marks in a tool's inputSchema that say which arguments are repeated as headers (`x-mcp-header`).

Theory of operation. A mark belongs to a property that can be found by names alone, from the root of the schema through
`properties`; anywhere else it makes the whole tool invalid. So every place that holds a schema is looked at, and no
place that holds data (`default`, `enum`, `examples`), where the same word means nothing. References are not followed.

Source: 2026-07-28 "Streamable HTTP" (custom headers); RFC 9110, 5.6.2 (token); JSON Schema 2020-12 and draft-07
(applicators).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcpd.protocol.jsonrpc import Buffer

MARK: Final = "x-mcp-header"
"""The member of a property's schema that names its header."""

MARKS_MAX: Final = 64
"""Marks in one schema. Each is a header of every call: h11 takes no more than a hundred with a request."""

SUBSCHEMAS_MAX: Final = 10_000
"""Schemas in a schema that are searched for marks; those of real tools have some hundred."""

SHOWN: Final = 80
"""Characters of a name in an error: what is in a schema comes from a stranger."""

Path: TypeAlias = tuple[str, ...]
"""Names of properties, from the arguments inward."""


def read_marks(schema: Buffer | None) -> dict[Path, str]:
    """The marked properties of an inputSchema and their tokens, in the order of its text.

    Raises: ValueError saying which mark is wrong and why."""
    data = b"" if schema is None else bytes(schema)
    if MARK.encode() not in data and b"\\u00" not in data:
        return {}
    marks: dict[Path, str] = {}
    owners: dict[str, Path] = {}
    for path, node in _schemas_in(_decode(data)):
        if MARK not in node:
            continue
        if not path:
            raise ValueError(f"{MARK} stands where no chain of properties leads")
        token = _token(path, node)
        owner = owners.setdefault(token.lower(), path)
        if owner is not path:
            raise ValueError(f"{MARK} {token[:SHOWN]!r} of {_spell(path)} is that of {_spell(owner)} as well")
        marks[path] = token
    if len(marks) > MARKS_MAX:
        raise ValueError(f"more than {MARKS_MAX} properties have {MARK}")
    return marks


_Node: TypeAlias = dict[str, object]

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TYPES: Final = ("string", "integer", "boolean")
_INNER: Final = frozenset(
    (
        *("items", "prefixItems", "additionalItems", "contains", "unevaluatedItems"),
        *("additionalProperties", "unevaluatedProperties", "propertyNames"),
        *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "contentSchema"),
    )
)
"""Keywords whose value is a schema or an array of schemas. What is data (`default`, `enum`, …) has no marks."""
_INNER_BY_NAME: Final = frozenset(("patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"))


def _decode(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise ValueError("the schema is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("the schema is nested too deeply") from None


def _schemas_in(root: object) -> Iterator[tuple[Path | None, _Node]]:
    """Every schema in a schema, in the order of the text, with its path of properties; None where there is none."""
    todo: list[tuple[Path | None, object]] = [((), root)]
    seen = 0
    while todo:
        path, found = todo.pop()
        if not isinstance(found, dict):
            continue
        seen += 1
        if seen > SUBSCHEMAS_MAX:
            raise ValueError(f"the schema has more than {SUBSCHEMAS_MAX} schemas in it")
        node = cast(_Node, found)
        yield path, node
        inner: list[tuple[Path | None, object]] = []
        for keyword, value in node.items():
            if keyword == "properties" and isinstance(value, dict):
                inner += [(None if path is None else (*path, name), part) for name, part in value.items()]
            elif keyword in _INNER:
                inner += [(None, part) for part in (value if isinstance(value, list) else (value,))]
            elif keyword in _INNER_BY_NAME and isinstance(value, dict):
                inner += [(None, part) for part in value.values()]
        todo.extend(reversed(inner))


def _token(path: Path, node: _Node) -> str:
    token = node[MARK]
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ValueError(f"{MARK} of {_spell(path)} is no token of RFC 9110")
    if node.get("type") not in _TYPES:
        raise ValueError(f"{MARK} of {_spell(path)}, whose type is none of {', '.join(_TYPES)}")
    return token


def _spell(path: Path) -> str:
    return repr(".".join(path)[:SHOWN])
