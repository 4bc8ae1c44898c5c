"""Checks tool arguments and structured results against the JSON schemas that tools declare.

A check answers None or a text that a model can act on. Schemas come from backends and values from clients,
so neither is trusted with time or memory: nothing is fetched, and a schema or value beyond a bound is not
checked at all. That is no hole: the backend has the last word about its own arguments.

jsonschema is imported when the first schema is used: it costs some 10 MiB, and a daemon that validates
nothing should not pay for them.

Source: "Tools" of each version; JSON Schema 2020-12 is the default dialect since 2025-11-25, and `$schema` is
honoured.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from mcpd.errors import ProtocolError
from mcpd.protocol import jsonrpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jsonschema import ValidationError
    from jsonschema.protocols import Validator
    from referencing import Resource
    from referencing._core import Resolver

    from mcpd.backends.base import Entry
    from mcpd.protocol.jsonrpc import Buffer

SCHEMA_MAX: Final = 256 * 1024
"""Bytes of a schema; real ones have a few KiB, the largest seen 100 KiB."""

VALUE_MAX: Final = 1024 * 1024
"""Bytes of a checked value; larger ones are data in bulk, whose check would hold up everybody."""

NODES_MAX: Final = 10_000
"""Values in a schema or checked value, for the same reason."""

DEPTH_MAX: Final = 64
"""Levels of a schema or checked value: the validator recurses."""

STEPS_MAX: Final = 20_000
"""Keywords evaluated in one check, about a tenth of a second. Ends what references can multiply."""

ERRORS_MAX: Final = 5
"""Errors told at once: enough to mend a call in one go."""

ERROR_MAX: Final = 300
"""Characters of one error; it repeats the value that is wrong."""

PATTERN_TEXT_MAX: Final = 1024
"""Characters of a string that a `pattern` is tried on: `re` cannot be interrupted."""

CACHE_MAX: Final = 512
"""Compiled schemas kept, by their text."""


def wrong_arguments(name: str, tool: Entry, arguments: Buffer | None) -> str | None:
    """What the tool's own schema finds wrong with a call's arguments."""
    schema = jsonrpc.members_of(tool.raw).get("inputSchema")
    return check_arguments(name, schema, arguments) if schema is not None else None


def wrong_result(name: str, tool: Entry, result: Buffer) -> str | None:
    """What the tool's own schema finds wrong with a result; one that says it is an error, or not the last word, may
    look as it likes."""
    schema = jsonrpc.members_of(tool.raw).get("outputSchema")
    if schema is None:
        return None
    try:
        members = jsonrpc.members_of(result)
    except (ProtocolError, ValueError):
        return f"invalid result of tool '{name}': not a JSON object"
    if bytes(members.get("isError", b"")) == b"true" or bytes(members.get("resultType", _COMPLETE)) != _COMPLETE:
        return None
    return check_result(name, schema, members.get("structuredContent"))


_COMPLETE: Final = b'"complete"'


def check_arguments(tool: str, schema: Buffer, arguments: Buffer | None) -> str | None:
    """What is wrong with a call's arguments, or None. Absent and null arguments count as {}."""
    value = b"{}" if arguments is None or bytes(arguments) == b"null" else bytes(arguments)
    faults = _check(bytes(schema), value, "arguments")
    return faults and f"invalid arguments for tool '{tool}': {faults}"


def check_result(tool: str, schema: Buffer, structured: Buffer | None) -> str | None:
    """What is wrong with a result's structuredContent, or None. Not for results with isError."""
    if structured is None:
        return f"invalid result of tool '{tool}': structuredContent is missing"
    faults = _check(bytes(schema), bytes(structured), "structuredContent")
    return faults and f"invalid result of tool '{tool}': {faults}"


def why_unusable(schema: Buffer) -> str | None:
    """Why nothing is checked against this schema, or None."""
    compiled = _compiled(bytes(schema))
    return compiled if isinstance(compiled, str) else None


_TRIPS: Final = (
    RecursionError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    re.error,
)
"""What the library raises on keywords of a shape it does not expect and on references in a circle."""


class _TooCostly(Exception):
    """A check ran into STEPS_MAX."""


class _Budget:
    """Steps left in the check that is running; checks are synchronous, so there is only one."""

    left = 0


def _check(schema: bytes, text: bytes, label: str) -> str | None:
    validator = _compiled(schema)
    if isinstance(validator, str) or len(text) > VALUE_MAX:
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the codecs have let it through, so it is JSON that this decoder cannot read
    if _beyond_bounds(value):
        return None
    from referencing.exceptions import Unresolvable  # is loaded by now

    _Budget.left = STEPS_MAX
    try:
        errors = list(islice(validator.iter_errors(value), ERRORS_MAX + 1))
    except (_TooCostly, Unresolvable, *_TRIPS):
        return None
    return _text(errors, label) if errors else None


def _text(errors: list[ValidationError], label: str) -> str:
    lines = list(dict.fromkeys(_line(error, label) for error in errors[:ERRORS_MAX]))
    if len(errors) > ERRORS_MAX:
        lines.append("and more")
    return "; ".join(lines)


def _line(error: ValidationError, label: str) -> str:
    from jsonschema.exceptions import best_match

    path = label + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path)
    message = _shortened(error.message)
    # "is not valid under any of the given schemas" helps nobody; the alternative that came closest does.
    inner = best_match(error.context) if error.context else None
    if inner is not None:
        message += f" ({_shortened(inner.message)})"
    return f"{path}: {message}"


def _shortened(text: str) -> str:
    return text if len(text) <= ERROR_MAX else f"{text[: ERROR_MAX // 2]} … {text[-ERROR_MAX // 2 :]}"


@lru_cache(maxsize=CACHE_MAX)
def _compiled(text: bytes) -> Validator | str:
    """A validator, or why there is none."""
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # has no stubs
    from referencing import Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    if len(text) > SCHEMA_MAX:
        return f"the schema is larger than {SCHEMA_MAX} bytes"
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "the schema is not JSON"
    if not isinstance(schema, dict):
        return "the schema is not an object"
    fault = _beyond_bounds(schema) or _costly_pattern(schema)
    if fault:
        return f"the schema has {fault}"
    dialect = _dialect(schema.get("$schema"))
    if dialect is _UNKNOWN:
        return f"the schema's dialect {_shortened(str(schema['$schema']))} is unknown"
    checker = _bounded(dialect)
    _Budget.left = STEPS_MAX
    try:
        try:
            invalid = next(checker(dialect.META_SCHEMA, registry=REGISTRY).iter_errors(schema), None)
        except _TooCostly:
            invalid = None  # a very large one; if it is also wrong, the checks against it will trip and say nothing
        if invalid is not None:
            return f"the schema is invalid at {invalid.json_path}: {_shortened(invalid.message)}"
        resource = Resource.from_contents(schema, default_specification=DRAFT202012)
        _resolve_all(resource, REGISTRY.resolver_with_root(resource))
    except Unresolvable as error:
        return f"the schema's reference {_shortened(error.ref)} does not resolve, and nothing is fetched"
    except _TRIPS as error:
        return f"the schema cannot be used: {_shortened(str(error))}"
    validator: Validator = checker(schema, registry=REGISTRY)  # without a way to retrieve: nothing is fetched
    return validator


def _resolve_all(resource: Resource[Any], resolver: Resolver[Any]) -> None:
    """Look every reference up. Raises: Unresolvable."""
    schema = resource.contents
    if isinstance(schema, dict):
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            reference = schema.get(keyword)
            if isinstance(reference, str):
                resolver.lookup(reference)
    for inner in resource.subresources():
        _resolve_all(inner, resolver.in_subresource(inner))


def _beyond_bounds(value: object) -> str | None:
    """What a value has too much of, or None."""
    level: list[object] = [value]
    nodes = 0
    for _ in range(DEPTH_MAX):
        nodes += len(level)
        if nodes > NODES_MAX:
            return f"more than {NODES_MAX} values"
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                if any(len(name) > PATTERN_TEXT_MAX for name in node):
                    return f"a name of more than {PATTERN_TEXT_MAX} characters"
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        if not below:
            return None
        level = below
    return f"more than {DEPTH_MAX} levels"


def _costly_pattern(schema: object) -> str | None:
    """A pattern for property names that must not be tried, or None.

    The library tries these in several keywords, so one of them spoils the schema. `pattern` is our own.
    """
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(node.values())
            patterns = node.get("patternProperties")
            for pattern in patterns if isinstance(patterns, dict) else ():
                if _regex(pattern) is None:
                    return f"the pattern {_shortened(pattern)}, which may take forever to try"
        elif isinstance(node, list):
            stack.extend(node)
    return None


# Escapes and character classes, inside which quantifiers are plain characters.
_ATOMS: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_UNBOUNDED: Final = re.compile(r"[*+]|\{\d*,\d*\}")
_REPEATED_GROUP: Final = re.compile(r"\)\s*[*+{]")


@lru_cache(maxsize=CACHE_MAX)
def _regex(pattern: str) -> re.Pattern[str] | None:
    """The pattern if trying it takes at most quadratic time, else None.

    Python's `re` backtracks: a repeated group can take exponential time, each quantifier adds a power.
    """
    bare = _ATOMS.sub("x", pattern)
    unbounded = len(_UNBOUNDED.findall(bare))
    anchored = pattern.startswith("^") and "|" not in bare
    if unbounded > (2 if anchored else 1) or _REPEATED_GROUP.search(bare):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's remarks on other dialects of patterns
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return None  # ECMA 262 has what Python has not


# ---- the library's keywords, bounded


_Loose: TypeAlias = Any
"""The library's functions are untyped."""

_UNKNOWN: Final[_Loose] = object()


def _dialect(named: object) -> _Loose:
    from jsonschema.validators import Draft202012Validator, validator_for

    if named is None:
        return Draft202012Validator
    try:
        return validator_for({"$schema": named}, default=_UNKNOWN) if isinstance(named, str) else _UNKNOWN
    except ValueError:
        return _UNKNOWN  # not even a URI


@lru_cache(maxsize=16)  # there are half a dozen dialects
def _bounded(dialect: _Loose) -> _Loose:
    """The dialect with every keyword counted, and without those that may take forever."""
    from jsonschema.validators import extend

    own = {"pattern": _pattern, "uniqueItems": _unique_items}
    keywords = {**dialect.VALIDATORS, **{name: own[name] for name in own if name in dialect.VALIDATORS}}
    counted = {name: _counted(keyword) for name, keyword in keywords.items()}
    return extend(dialect, counted)  # type: ignore[no-untyped-call]  # so in its stubs


def _counted(keyword: Callable[..., _Loose]) -> Callable[..., _Loose]:
    def count(validator: _Loose, value: object, instance: object, schema: object) -> _Loose:
        _Budget.left -= 1 + (len(value) if isinstance(value, list | dict) else 0)
        if _Budget.left < 0:
            raise _TooCostly
        return keyword(validator, value, instance, schema)

    return count


def _pattern(validator: object, pattern: str, instance: object, schema: object) -> Iterator[ValidationError]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and len(instance) <= PATTERN_TEXT_MAX:
        regex = _regex(pattern)
        if regex is not None and regex.search(instance) is None:
            yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique_items(validator: object, wanted: object, instance: object, schema: object) -> Iterator[ValidationError]:
    """The library compares each with each."""
    from jsonschema import ValidationError

    if wanted is True and isinstance(instance, list):
        texts = {msgspec.json.encode(item, order="sorted") for item in instance}
        if len(texts) < len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")
