"""The form of the file: `schema.json`, deviations from it in words, and texts turned into seconds and bytes.

Theory of operation. `jsonschema` is the authority on every deviation. Its import costs some 2 MiB and 25 ms,
which a daemon would pay, and carry for ever, to learn that its file is fine. So `fits` looks first. It knows
the keywords that the schema uses, and says yes only where all of them hold; on anything else jsonschema is
asked, and tells all that is wrong.
"""

from __future__ import annotations

import difflib
import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from mcpd.config.faults import Faults, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.exceptions import ValidationError

    from mcpd.config.document import Value
    from mcpd.config.faults import Path

Schema = dict[str, Any]

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")

_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map",
}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}
_HINTS = {
    "timeout": "see 'timeouts': init, call_idle, call_max, list, ask",
    "serverUrl": "write 'url'",
    "httpUrl": "write 'url'",
    "endpoint": "write 'url'",
    "envFile": "write 'env' with ${file:/path} or ${NAME} as values",
    "alwaysAllow": "which calls need a question is for the client to say; drop it",
    "autoApprove": "which calls need a question is for the client to say; drop it",
    "inputs": "mcpd asks nobody; use ${NAME} or ${file:/path}",
    "port": "it belongs under 'listen'",
    "host": "it belongs under 'listen'",
    "separator": "it belongs under 'naming'",
    "cmd": "write 'command'",
    "environment": "write 'env'",
    "backends": "write 'mcpServers'",
    "namespace": "write 'prefix'",
}
"""Keys that clients and other gateways use, where no spelling is near enough to guess."""


def load_schema() -> Schema:
    """The schema that ships with the package."""
    text = resources.files("mcpd.config").joinpath("schema.json").read_text(encoding="utf-8")
    return cast(Schema, json.loads(text))


class Shape:
    """One schema. `check` looks at a tree, `convert` turns a checked one into the model's units."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.definitions: dict[str, Schema] = schema.get("$defs", {})

    def resolve(self, schema: Schema) -> Schema:
        """The schema with what its `$ref` names merged in; its own keywords win."""
        reference = schema.get("$ref")
        if reference is None:
            return schema
        return {**self.definitions[str(reference).removeprefix("#/$defs/")], **schema}

    def check(self, value: Value, raw: Value, faults: Faults) -> None:
        """Add a fault for everything in `value` that the schema does not allow.

        `raw` is the same tree before substitution: messages quote that, never a substituted value.
        """
        if not self.fits(self.schema, value):
            self._explain(value, raw, faults)

    # --- the quick yes ---

    def fits(self, schema: Schema, value: Value) -> bool:
        """Whether the value is certainly valid. No means: ask jsonschema."""
        return all(self._holds(keyword, operand, schema, value) for keyword, operand in schema.items())

    def _holds(self, keyword: str, operand: Any, schema: Schema, value: Value) -> bool:  # noqa: ANN401
        match keyword:
            case "title" | "description" | "default" | "$defs" | "$schema" | "$id":
                return True
            case "$ref":
                return self.fits(self.definitions[operand.removeprefix("#/$defs/")], value)
            case "type":
                kinds = operand if isinstance(operand, list) else [operand]
                return any(_is(kind, value) for kind in kinds)
            case "enum":
                return isinstance(value, str) and value in operand
            case "anyOf":
                return any(self.fits(choice, value) for choice in operand)
            case "required":
                return not isinstance(value, dict) or value.keys() >= set(operand)
            case "properties" | "additionalProperties" | "propertyNames":
                return not isinstance(value, dict) or self._map_holds(keyword, operand, schema, value)
            case "items":
                return not isinstance(value, list) or all(self.fits(operand, item) for item in value)
            case "maxItems":
                return not isinstance(value, list) or len(value) <= operand
            case "pattern":
                return not isinstance(value, str) or re.fullmatch(operand, value) is not None
            case "minLength":
                return not isinstance(value, str) or len(value) >= operand
            case "maxLength":
                return not isinstance(value, str) or len(value) <= operand
            case "minimum" | "maximum" | "exclusiveMinimum":
                return isinstance(value, bool) or not isinstance(value, int | float) or _within(schema, value)
        return False

    def _map_holds(self, keyword: str, operand: Any, schema: Schema, value: dict[str, Value]) -> bool:  # noqa: ANN401
        if keyword == "properties":
            return all(self.fits(operand[key], inner) for key, inner in value.items() if key in operand)
        if keyword == "propertyNames":
            return all(self.fits(operand, key) for key in value)
        known = schema.get("properties", {})
        others = [inner for key, inner in value.items() if key not in known]
        return not others if operand is False else all(self.fits(operand, inner) for inner in others)

    # --- what is wrong, in words ---

    def _explain(self, value: Value, raw: Value, faults: Faults) -> None:
        # Not at the top: see the theory of operation.
        import jsonschema
        from jsonschema.exceptions import ValidationError

        def pattern(_: object, expression: str, instance: object, __: object) -> Iterator[ValidationError]:
            # The library searches, and Python's `$` lets a line end pass behind it.
            if isinstance(instance, str) and re.fullmatch(expression, instance) is None:
                yield ValidationError("does not match")

        extend = cast(Any, jsonschema.validators.extend)
        checker = extend(jsonschema.Draft202012Validator, {"pattern": pattern})
        for error in checker(self.schema).iter_errors(value):
            self._tell(error, raw, faults)
            if faults.full:
                return  # a body of an operator's can have a hundred thousand

    def _tell(self, error: ValidationError, raw: Value, faults: Faults) -> None:
        path = cast("Path", tuple(error.absolute_path))
        schema = cast(Schema, error.schema)
        operand = cast(Any, error.validator_value)
        if "propertyNames" in error.absolute_schema_path:
            name = str(error.instance)
            faults.add((*path, name), "not a usable name", f"it must be {schema['title']}")
            return
        shown = _shown(_at(raw, path))
        match error.validator:
            case "additionalProperties":
                known: dict[str, object] = schema.get("properties", {})
                for key in cast("dict[str, object]", error.instance):
                    if key not in known and not faults.full:
                        faults.add((*path, key), "unknown key", _guess(key, list(known)))
            case "required":
                for key in operand:
                    if key not in cast("dict[str, object]", error.instance):
                        faults.add((*path, key), "missing", "it must be given")
            case "not" | "minProperties":
                faults.add(path, f"expected {schema['title']}" if "title" in schema else "not allowed")
            case "type" | "anyOf" | "pattern":
                kinds = operand if isinstance(operand, list) else [operand]
                words = " or ".join(_WORDS[str(kind)] for kind in kinds if str(kind) in _WORDS)
                remedy = ""
                if words == "text" and isinstance(error.instance, bool | int | float):
                    remedy = "put it in quotes"
                faults.add(path, f"expected {schema.get('title') or words}, got {shown}", remedy)
            case "enum":
                near = difflib.get_close_matches(str(_at(raw, path)), operand, 1)
                remedy = f"did you mean '{near[0]}'?" if near else ""
                choices = ", ".join(f"'{choice}'" for choice in operand)
                faults.add(path, f"expected one of {choices}, got {shown}", remedy)
            case "minimum" | "exclusiveMinimum" | "maximum":
                faults.add(path, f"must be {_BOUNDS[error.validator]} {operand}, got {shown}")
            case "minLength":
                faults.add(path, "must not be empty")
            case "maxLength":
                faults.add(path, f"must have at most {operand} characters")
            case "maxItems":
                faults.add(path, f"must have at most {operand} items")
            case _:
                faults.add(path, f"does not fit the schema ({error.validator})")

    # --- units ---

    def convert(self, schema: Schema, value: Value, path: Path, faults: Faults) -> Any:  # noqa: ANN401
        """A checked value in the model's form: seconds, bytes, tuples; absent where it is null.

        The bounds that the schema sets for numbers are applied to texts such as `2m` here.
        """
        kind = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        full = self.resolve(schema)
        if kind in ("duration", "size", "optionalSize"):
            number = seconds(value) if kind == "duration" else octets(value)
            reason = _bound(full, number)
            if reason:
                faults.add(path, f"{reason}, got {_shown(value)}")
            return number
        if isinstance(value, list):
            return tuple(str(item) for item in value)
        if isinstance(value, dict) and "properties" in full:
            return {
                key: self.convert(full["properties"][key], inner, (*path, key), faults)
                for key, inner in value.items()
                if inner is not None
            }
        if full.get("type") == "integer":
            return int(cast(float, value))
        if full.get("type") == "number":
            return float(cast(float, value))
        return value


def seconds(value: Value) -> float:
    """A checked duration: a number is seconds already."""
    return _quantity(value, _UNITS)


def octets(value: Value) -> int:
    """A checked size: a number is bytes already."""
    return int(_quantity(value, _SIZES))


def _quantity(value: Value, units: dict[str, float] | dict[str, int]) -> float:
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, str) else None
    if match is None:
        return float(cast(float, value))
    return float(match.group(1)) * units[match.group(2)]


def _within(schema: Schema, number: float) -> bool:
    return (
        number >= schema.get("minimum", number)
        and number <= schema.get("maximum", number)
        and ("exclusiveMinimum" not in schema or number > schema["exclusiveMinimum"])
    )


def _bound(schema: Schema, number: float) -> str:
    """The bound that a number is beyond, in words."""
    for keyword, words in _BOUNDS.items():
        if keyword in schema and not _within({keyword: schema[keyword]}, number):
            return f"must be {words} {schema[keyword]}"
    return ""


def _is(kind: str, value: Value) -> bool:
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
    return False


def _at(tree: Value, path: Path) -> Value:
    for step in path:
        if isinstance(tree, dict):
            tree = tree.get(str(step))
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
    return tree


def _shown(value: Value) -> str:
    """A value as a message quotes it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a map"
        case list():
            return "a list"
        case str():
            return f"'{shorten(value)}'"
    return shorten(str(value))


def _guess(key: str, known: list[str]) -> str:
    if key in _HINTS:
        return _HINTS[key]
    plain = {name.lower().replace("_", "").replace("-", ""): name for name in known}
    near = difflib.get_close_matches(key.lower().replace("_", "").replace("-", ""), list(plain), 1)
    if near:
        return f"did you mean '{plain[near[0]]}'?"
    return "known here: " + ", ".join(sorted(known))
