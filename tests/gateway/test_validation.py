from __future__ import annotations

import subprocess
import sys
import time

import msgspec
import pytest
from msgspec import Raw

from mcpd.backends.base import Entry
from mcpd.gateway import validation
from mcpd.gateway.validation import check_arguments, check_result, why_unusable, wrong_arguments, wrong_result

WEATHER = Raw(
    b'{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1}},'
    b'"required":["city","country"]}'
)
FREE = Raw(b'{"type":"object"}')


def schema(**members):
    return msgspec.json.encode({"type": "object", **members})


def test_valid():
    assert check_arguments("weather", WEATHER, Raw(b'{"city":"Oslo","country":"NO","days":1.0,"x":1}')) is None
    assert check_result("weather", WEATHER, Raw(b'{"city":"Oslo","country":"NO"}')) is None


@pytest.mark.parametrize("arguments", [None, Raw(b"null"), Raw(b"{}"), b"{}"])
def test_no_arguments_are_an_empty_object(arguments):
    assert check_arguments("t", FREE, arguments) is None
    fault = check_arguments("t", WEATHER, arguments)
    assert fault is not None
    assert "arguments: 'city' is a required property" in fault


def test_a_model_can_act_on_the_text():
    assert check_arguments("weather", WEATHER, Raw(b'{"city":5}')) == (
        "invalid arguments for tool 'weather': arguments.city: 5 is not of type 'string'; "
        "arguments: 'country' is a required property"
    )


def test_result():
    assert check_result("t", WEATHER, Raw(b'{"city":1,"country":"NO"}')) == (
        "invalid result of tool 't': structuredContent.city: 1 is not of type 'string'"
    )
    assert check_result("t", WEATHER, None) == "invalid result of tool 't': structuredContent is missing"


def test_paths_of_inner_values():
    inner = schema(properties={"a": {"type": "array", "items": {"properties": {"b": {"type": "null"}}}}})
    fault = check_arguments("t", inner, b'{"a":[{},{"b":1}]}')
    assert fault is not None
    assert "arguments.a[1].b: 1 is not of type 'null'" in fault


def test_at_most_five_errors():
    many = schema(properties={name: {"type": "string"} for name in "abcdefgh"})
    fault = check_arguments("t", many, msgspec.json.encode(dict.fromkeys("abcdefgh", 1)))
    assert fault is not None
    assert fault.count("is not of type") == 5
    assert fault.endswith("; and more")


def test_errors_are_short():
    fault = check_arguments("t", schema(properties={"a": {"maxLength": 1}}), b'{"a":"%b"}' % (b"x" * 100_000))
    assert fault is not None
    assert len(fault) < 2 * validation.ERROR_MAX


def test_the_closest_alternative_is_named():
    fault = check_arguments("t", schema(properties={"a": {"anyOf": [{"type": "null"}, {"minimum": 5}]}}), b'{"a":3}')
    assert fault is not None
    assert "is not valid under any of the given schemas (" in fault


@pytest.mark.parametrize(
    ("dialect", "keywords"),
    [
        ("https://json-schema.org/draft/2020-12/schema", {"prefixItems": [{"type": "string"}]}),
        ("https://json-schema.org/draft/2019-09/schema", {"items": [{"type": "string"}]}),
        ("http://json-schema.org/draft-07/schema#", {"items": [{"type": "string"}]}),
        ("http://json-schema.org/draft-07/schema", {"items": [{"type": "string"}]}),
        ("http://json-schema.org/draft-06/schema#", {"items": [{"type": "string"}]}),
        ("http://json-schema.org/draft-04/schema#", {"items": [{"type": "string"}]}),
    ],
)
def test_dialects(dialect, keywords):
    text = msgspec.json.encode({"$schema": dialect, "properties": {"a": keywords}})
    assert why_unusable(text) is None
    assert check_arguments("t", text, b'{"a":["x"]}') is None
    assert check_arguments("t", text, b'{"a":[1]}') is not None


def test_the_default_dialect_is_2020_12():
    assert check_arguments("t", schema(properties={"a": {"prefixItems": [{"type": "null"}]}}), b'{"a":[1]}') is not None


@pytest.mark.parametrize(
    "text",
    [
        b'{"$defs":{"a":{"type":"string"}},"properties":{"x":{"$ref":"#/$defs/a"}}}',
        b'{"$defs":{"a":{"$anchor":"n","type":"string"}},"properties":{"x":{"$ref":"#n"}}}',
        b'{"$defs":{"a":{"$id":"urn:a","type":"string"}},"properties":{"x":{"$ref":"urn:a"}}}',
        b'{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a":{"type":"string"}},'
        b'"properties":{"x":{"$ref":"#/definitions/a"}}}',
    ],
)
def test_references_inside_the_schema(text):
    assert why_unusable(text) is None
    assert check_arguments("t", text, b'{"x":"s"}') is None
    assert check_arguments("t", text, b'{"x":1}') is not None


UNUSABLE = {
    "remote reference": (
        b'{"$ref":"http://127.0.0.1:9/schema.json"}',
        "does not resolve, and nothing is fetched",
    ),
    "remote file": (b'{"properties":{"a":{"$ref":"file:///etc/passwd"}}}', "does not resolve"),
    "dangling reference": (b'{"properties":{"a":{"$ref":"#/$defs/b"}}}', "does not resolve"),
    "unknown anchor": (b'{"properties":{"a":{"$ref":"#b"}}}', "does not resolve"),
    "unknown dialect": (
        b'{"$schema":"https://example.com/mine"}',
        "dialect https://example.com/mine is unknown",
    ),
    "dialect that is no text": (b'{"$schema":5}', "dialect 5 is unknown"),
    "dialect that is no URI": (b'{"$schema":"http://["}', "unknown"),
    "invalid": (b'{"type":"objekt"}', "invalid at $.type"),
    "not an object": (b"[]", "not an object"),
    "not JSON": (b"{", "not JSON"),
    "too deep": (b'{"not":' * 70 + b"{}" + b"}" * 70, "more than 64 levels"),
    "far too deep": (b'{"not":' * 50_000 + b"{}" + b"}" * 50_000, ""),
    "too many values": (b'{"enum":[' + b"1," * 20_000 + b"1]}", "more than 10000 values"),
    "too large": (b'{"title":"%b"}' % (b"x" * validation.SCHEMA_MAX), "larger than"),
    "costly pattern for names": (b'{"patternProperties":{"(a+)+$":{}}}', "may take forever"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_schemas_check_nothing_and_say_why(case):
    text, reason = UNUSABLE[case]
    why = why_unusable(Raw(text))
    assert why is not None
    assert reason in why
    assert check_arguments("t", Raw(text), b'{"a":1}') is None
    assert check_result("t", Raw(text), b'{"a":1}') is None


def took(function, *arguments):
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def test_references_that_multiply_are_cut_off():
    levels = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    bomb = msgspec.json.encode({"$defs": {**levels, "a40": {"type": "object"}}, "$ref": "#/$defs/a0"})
    seconds, fault = took(check_arguments, "t", bomb, b"{}")
    assert fault is None
    assert seconds < 2  # unbounded it would be days


def test_references_in_a_circle_are_cut_off():
    assert check_arguments("t", b'{"$ref":"#"}', b"{}") is None
    assert check_arguments("t", b'{"$defs":{"a":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}', b"{}") is None


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*$", "^(a?){30}a{30}$", "a*a*a*a*$", "(", r"\p{L}+", "a{99999999999}"]
)
def test_costly_and_foreign_patterns_are_not_tried(pattern):
    text = schema(properties={"a": {"pattern": pattern}})
    seconds, fault = took(check_arguments, "t", text, b'{"a":"%b!"}' % (b"a" * 1000))
    assert fault is None
    assert seconds < 1


@pytest.mark.parametrize(
    "pattern", ["^[a-z]+$", r"^\d{4}-\d{2}$", "^[a-z]+-[0-9]+$", "^x(?:y|z)?$", r"^[\w.*+]+\+$", "^[]a]*$"]
)
def test_ordinary_patterns_are_tried(pattern):
    text = schema(properties={"a": {"pattern": pattern}})
    assert check_arguments("t", text, b'{"a":"!!!"}') is not None
    assert check_arguments("t", text, b'{"a":5}') is None


def test_a_long_text_is_not_matched():
    text = schema(properties={"a": {"pattern": "^b"}})
    assert check_arguments("t", text, b'{"a":"%b"}' % (b"a" * 5000)) is None


def test_unique_items_does_not_compare_each_with_each():
    text = schema(properties={"a": {"uniqueItems": True}})
    items = [{"n": n} for n in range(4000)]
    seconds, fault = took(check_arguments, "t", text, msgspec.json.encode({"a": items}))
    assert fault is None
    assert seconds < 1
    fault = check_arguments("t", text, b'{"a":[{"x":1,"y":2},{"y":2,"x":1}]}')
    assert fault is not None
    assert "non-unique" in fault


def test_a_long_enum_and_many_values_are_cut_off():
    text = schema(properties={"a": {"items": {"enum": list(range(3000))}}})
    seconds, fault = took(check_arguments, "t", text, msgspec.json.encode({"a": ["x"] * 5000}))
    assert seconds < 2
    assert fault is None or "is not one of" in fault


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"a":[' + b"1," * 20_000 + b"1]}",
        b'{"a":1,"b":"%b"}' % (b"x" * validation.VALUE_MAX),
        b'{"a":1,"%b":1}' % (b"x" * 2000),
        b'{"a":1,"b":"\\ud800"}',
    ],
    ids=["deep", "very deep", "many values", "large", "long name", "lone surrogate"],
)
def test_values_beyond_bounds_are_left_to_the_backend(value):
    assert check_arguments("t", schema(properties={"a": {"type": "string"}}), value) is None


def test_nothing_is_imported_until_the_first_check():
    code = "import sys, mcpd.gateway.validation; sys.exit('jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- tools


def test_a_tool_is_checked_by_its_own_schemas():
    schema = msgspec.json.encode({"type": "object", "required": ["n"]})
    tool = Entry("t", b'{"name":"t","inputSchema":%b,"outputSchema":%b}' % (schema, schema))
    assert wrong_arguments("x_t", tool, b'{"n":1}') is None
    assert "invalid arguments for tool 'x_t'" in (wrong_arguments("x_t", tool, b"{}") or "")
    assert wrong_result("x_t", tool, b'{"content":[],"structuredContent":{"n":1}}') is None
    assert wrong_result("x_t", tool, b'{"resultType":"complete","structuredContent":{"n":1}}') is None
    assert "'n' is a required property" in (wrong_result("x_t", tool, b'{"structuredContent":{}}') or "")
    assert wrong_result("x_t", tool, b"[]") == "invalid result of tool 'x_t': not a JSON object"
    free = Entry("t", b'{"name":"t"}')
    assert wrong_arguments("x_t", free, b"5") is None
    assert wrong_result("x_t", free, b"5") is None


@pytest.mark.parametrize("result", [b'{"isError":true}', b'{"resultType":"input_required"}', b'{"resultType":"task"}'])
def test_a_result_without_an_outcome_is_not_checked(result):
    assert wrong_result("t", Entry("t", b'{"outputSchema":{"required":["n"]}}'), result) is None
