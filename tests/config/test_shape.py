"""The quick yes of `fits` against jsonschema, and the units."""

from __future__ import annotations

import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpd.config.faults import MAX_FAULTS, ConfigErrors, Faults
from mcpd.config.shape import Shape, load_schema, octets, seconds

SCHEMA = load_schema()
SHAPE = Shape(SCHEMA)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-1, 70_000)
    | st.floats(0, 100)
    | st.sampled_from(["", "a", "a\n", "30s", "16MiB", "stdio", "http", "off", "shared", "always", "_", "http://x/"])
)


def _near(schema):
    """Trees that are like what the schema describes, and often not quite."""
    full = SHAPE.resolve(schema)
    if "propertyNames" in full:
        names = st.sampled_from(["a", "b.c", "-x", "y\n", "z" * 65])
        return SCALARS | st.dictionaries(names, st.deferred(lambda: _near({"$ref": "#/$defs/server"})), max_size=2)
    if "properties" in full:
        keys = {key: st.deferred(lambda entry=entry: _near(entry)) for key, entry in full["properties"].items()}
        chosen = st.lists(st.sampled_from([*keys, "unknown"]), max_size=4, unique=True)
        return SCALARS | chosen.flatmap(lambda some: st.fixed_dictionaries({k: keys.get(k, SCALARS) for k in some}))
    if full.get("type") == "array":
        return SCALARS | st.lists(SCALARS, max_size=3)
    if "additionalProperties" in full:
        return SCALARS | st.dictionaries(st.sampled_from(["A", "B"]), SCALARS, max_size=2)
    choices = [full["default"]] if "default" in full else []
    return SCALARS | st.sampled_from([*full.get("enum", []), *choices, None])


TREES = _near(SCHEMA)


@given(TREES)
def test_fits_never_says_yes_to_what_jsonschema_refuses(tree):
    valid = VALIDATOR.is_valid(tree)
    if SHAPE.fits(SCHEMA, tree):
        assert valid
    faults = Faults("f")
    SHAPE.check(tree, tree, faults)
    if not valid:
        assert faults.paths


def test_the_schema_is_a_schema_and_fits_knows_its_keywords():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    good = {
        "mcpServers": {"a": {"command": "x", "args": ["y"], "timeouts": {"init": "2m"}}},
        "listen": {"port": 1},
    }
    assert SHAPE.fits(SCHEMA, good)
    assert not SHAPE.fits({"multipleOf": 2}, 4)


def test_every_pattern_is_anchored():
    patterns = re.findall(r"'pattern': '([^']*)'", repr(SCHEMA))
    assert patterns
    assert all(pattern.startswith("^") and pattern.endswith("$") for pattern in patterns)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (1, 1),
        (0.5, 0.5),
        ("1.5s", 1.5),
        ("2m", 120),
        ("1h", 3600),
        ("30d", 2_592_000),
        ("500ms", 0.5),
        ("7", 7),
        ("2 m", 120),
    ],
)
def test_seconds(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"), [(1, 1), ("16MiB", 2**24), ("64KiB", 2**16), ("1 GiB", 2**30), ("12B", 12), ("7", 7)]
)
def test_octets(text, value):
    assert octets(text) == value
    assert type(octets(text)) is int


def test_convert_applies_bounds_to_texts():
    faults = Faults("f")
    schema = SCHEMA["properties"]["limits"]
    assert SHAPE.convert(schema, {"body": "1GiB", "session_age": "1d", "head": None}, ("limits",), faults) == {
        "body": 2**30,
        "session_age": 86400.0,
    }
    assert not faults.paths
    SHAPE.convert(schema, {"body": "2GiB", "session_age": "1s"}, ("limits",), faults)
    assert faults.paths == {("limits", "body"), ("limits", "session_age")}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"name": {"type": "string"}}, "additionalProperties": False}, 1),
        ({"additionalProperties": {"type": "string"}}, 1),
    ],
)
def test_what_has_very_many_faults_is_not_read_to_its_end(schema, value):
    faults, told = Faults(""), []
    tree = {f"k{number}": value for number in range(10_000)}
    add = faults.add
    faults.add = lambda *fault: (told.append(fault), add(*fault))
    Shape(schema).check(tree, tree, faults)
    assert len(told) == MAX_FAULTS


def test_what_must_be_given_is_missed_by_its_name():
    schema = {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string"}}}
    for tree, missing in (({"a": "x", "b": 1}, []), ({"a": "x"}, ["b"]), ({}, ["a", "b"]), ([], [""])):
        faults = Faults("")
        Shape(schema).check(tree, tree, faults)
        found = []
        if faults.paths:
            with pytest.raises(ConfigErrors) as caught:
                faults.raise_any()
            found = [error.path for error in caught.value.errors]
        assert found == missing
