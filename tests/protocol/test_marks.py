"""`x-mcp-header` in schemas: found where it may stand, refused everywhere else."""

from __future__ import annotations

import json

import pytest

from mcpd.protocol.marks import MARK, MARKS_MAX, SHOWN, SUBSCHEMAS_MAX, read_marks

M = {"type": "string", MARK: "Region"}


def marks(schema: object):
    return read_marks(json.dumps(schema).encode())


def fault(schema: object) -> str:
    with pytest.raises(ValueError, match=MARK) as raised:
        marks(schema)
    return str(raised.value)


# ---- where it may stand


@pytest.mark.parametrize("kind", ["string", "integer", "boolean"])
def test_types(kind):
    assert marks({"properties": {"a": {"type": kind, MARK: "A"}}}) == {("a",): "A"}


@pytest.mark.parametrize("token", ["Region", "x", "X-Trace-Id", "!#$%&'*+-.^_`|~09azAZ", "a" * 200])
def test_tokens(token):
    assert marks({"properties": {"a": {**M, MARK: token}}}) == {("a",): token}


def test_any_depth_in_the_order_of_the_text():
    schema = {
        "type": "object",
        "properties": {
            "z": {**M, MARK: "Z"},
            "o": {
                "type": "object",
                "properties": {"p": {"properties": {"q": {**M, MARK: "Q"}}}, "a": {**M, MARK: "A"}},
            },
            "b": {**M, MARK: "B"},
        },
    }
    assert list(marks(schema).items()) == [(("z",), "Z"), (("o", "p", "q"), "Q"), (("o", "a"), "A"), (("b",), "B")]


@pytest.mark.parametrize(
    "schema",
    [
        # A property that is called so.
        {"properties": {MARK: {"type": "string"}}},
        {"properties": {"properties": {"properties": {MARK: {"type": "string"}}}}},
        # Data.
        {"default": {MARK: "Region"}},
        {"properties": {"a": {"enum": [{MARK: 1}], "const": {MARK: 1}, "examples": [{MARK: 1}], "default": {MARK: 1}}}},
        {"properties": {"a": {"description": MARK, "x-other": {MARK: 1}}}},
        {"required": [MARK]},
        {"$comment": MARK},
        # No schemas.
        {"properties": [{MARK: 1}]},
        {"properties": {"a": True, "b": None, "c": MARK}},
        {"$defs": [{MARK: 1}], "items": MARK, "allOf": MARK, "not": 1},
        [{MARK: 1}],
        MARK,
        None,
    ],
)
def test_where_it_means_nothing(schema):
    assert marks(schema) == {}


def test_no_schema():
    assert read_marks(None) == {}
    assert read_marks(b"{}") == {}


def test_other_spellings_of_the_word():
    assert read_marks(rb'{"properties":{"a":{"type":"string","\u0078-mcp-header":"A"}}}') == {("a",): "A"}
    assert read_marks(rb'{"x":"\ud83d","properties":{"a":{"type":"string","x-mcp-header":"A"}}}') == {("a",): "A"}


# ---- where it may not

ELSEWHERE = [
    M,
    {"items": M},
    {"items": [{}, M]},
    {"prefixItems": [M]},
    {"additionalItems": M},
    {"contains": M},
    {"unevaluatedItems": M},
    {"additionalProperties": M},
    {"unevaluatedProperties": M},
    {"patternProperties": {"^a": M}},
    {"propertyNames": M},
    {"dependentSchemas": {"a": M}},
    {"dependencies": {"a": M, "b": ["c"]}},
    {"allOf": [{}, M]},
    {"anyOf": [M]},
    {"oneOf": [M]},
    {"not": M},
    {"if": M},
    {"then": M},
    {"else": M},
    {"contentSchema": M},
    {"$defs": {"x": M}},
    {"definitions": {"x": M}},
]


@pytest.mark.parametrize("schema", ELSEWHERE)
@pytest.mark.parametrize(
    "around",
    [
        lambda schema: schema,
        lambda schema: {"anyOf": [{"properties": {"deep": schema}}]},
        lambda schema: {"$defs": {"x": {"properties": {"deep": {"properties": {"er": schema}}}}}},
    ],
)
def test_elsewhere_it_makes_the_tool_invalid(schema, around):
    assert "no chain of properties" in fault(around(schema))


@pytest.mark.parametrize("schema", [schema for schema in ELSEWHERE if schema is not M])
def test_under_a_property_it_does_too(schema):
    assert "no chain of properties" in fault({"properties": {"good": M, "bad": schema}})


def test_only_properties_in_between():
    assert "no chain" in fault({"allOf": [{"properties": {"a": M}}]})
    assert "no chain" in fault({"properties": {"a": {"items": {"properties": {"b": M}}}}})


@pytest.mark.parametrize(
    "kind",
    ["number", "object", "array", "null", "String", "", None, 1, ["string"], ["string", "null"], {"const": "string"}],
)
def test_types_that_have_no_header(kind):
    assert "'a'" in fault({"properties": {"a": {"type": kind, MARK: "A"}}})


def test_a_type_must_be_said():
    assert "'a'" in fault({"properties": {"a": {MARK: "A"}}})
    assert "'a'" in fault({"properties": {"a": {"$ref": "#/$defs/x", MARK: "A"}}, "$defs": {"x": {"type": "string"}}})
    assert "'a'" in fault({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}], MARK: "A"}}})


@pytest.mark.parametrize(
    "token", ["", " ", "a b", "a:b", "a\r\nb", "a\n", "é", "a/b", "(a)", '"a"', "\x00", None, 1, True, [], {}, ["A"]]
)
def test_what_is_no_token(token):
    assert "token" in fault({"properties": {"a": {**M, MARK: token}}})


@pytest.mark.parametrize("other", ["Region", "region", "REGION"])
def test_two_of_one_name(other):
    message = fault({"properties": {"a": M, "b": {"properties": {"c": {**M, MARK: other}}}}})
    assert "'a'" in message
    assert "'b.c'" in message


def test_names_of_strangers_are_not_repeated_at_any_length():
    long = "x" * 10_000
    assert len(fault({"properties": {long: {MARK: "A"}}})) < 4 * SHOWN
    assert len(fault({"properties": {long: {**M, MARK: long}, long + "y": {**M, MARK: long}}})) < 6 * SHOWN


# ---- bounds


def test_so_many_marks():
    def marked(count: int):
        return {"properties": {f"p{n}": {**M, MARK: f"H{n}"} for n in range(count)}}

    assert len(marks(marked(MARKS_MAX))) == MARKS_MAX
    assert str(MARKS_MAX) in fault(marked(MARKS_MAX + 1))


def test_so_many_schemas():
    def crowded(count: int):
        return {"properties": {"a": M}, "anyOf": [{}] * count}

    assert marks(crowded(SUBSCHEMAS_MAX - 2)) == {("a",): "Region"}
    with pytest.raises(ValueError, match=str(SUBSCHEMAS_MAX)):
        marks(crowded(SUBSCHEMAS_MAX - 1))


def test_a_deep_schema():
    depth = 300
    text = b'{"properties":{"a":' * depth + json.dumps(M).encode() + b"}}" * depth
    assert read_marks(text) == {("a",) * depth: "Region"}


@pytest.mark.parametrize(
    "text",
    [
        b'{"x-mcp-header":' + b"[" * 100_000,
        b'{"x-mcp-header":' * 100_000,
        b'{"x-mcp-header"',
        b"x-mcp-header",
        b'{"x-mcp-header":"\xff"}',
        rb'{"x-mcp-header":"\ud83d"',
        rb'{"x-mcp-header":"\ud83d","x":' + b"[" * 100_000,
    ],
)
def test_what_is_no_json(text):
    with pytest.raises(ValueError, match=r"."):
        read_marks(text)
