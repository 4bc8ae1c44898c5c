from __future__ import annotations

import json

import jsonschema
import msgspec
import pytest

from mcpd.control.openapi import REASONS, document, statuses
from mcpd.control.operations import TABLE
from mcpd.control.refusal import Refusal
from mcpd.control.table import Operation, number
from tests.control.parts import controlled
from tests.control.test_server import ask, request

WHOLE = json.loads(msgspec.json.encode(document(TABLE)))
ROWS = [pytest.param(row, id=f"{row.method} {row.path}") for row in TABLE]


async def work(operations, ask):
    return None


def found(row: Operation):
    return WHOLE["paths"][row.path][row.method.lower()]


def references(value):
    if isinstance(value, dict):
        yield from (each for key, each in value.items() if key == "$ref")
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def schemas(value):
    if isinstance(value, dict):
        yield from (each for key, each in value.items() if key == "schema")
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from schemas(each)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_described(row):
    described = found(row)
    assert (described["operationId"], described["summary"]) == (row.id, row.summary)
    names = [(each["in"], each["name"]) for each in described["parameters"]]
    assert [name for where, name in names if where == "query"] == [each.name for each in row.query]
    assert {f"{{{name}}}" for where, name in names if where == "path"} == {
        part for part in row.path.split("/") if part.startswith("{")
    }
    assert (("header", "If-Match") in names) is row.changes
    assert ("requestBody" in described) is (row.body is not None)
    assert described["responses"].keys() >= {str(status) for status in statuses(row)}


def test_nothing_else_is_described():
    assert sum(len(each) for each in WHOLE["paths"].values()) == len(TABLE)


def test_everything_that_is_referred_to_is_there():
    for reference in references(WHOLE):
        where = WHOLE
        for step in reference.removeprefix("#/").split("/"):
            where = where[step]
        assert where


def test_every_schema_is_one():
    for schema in (*schemas(WHOLE["paths"]), *WHOLE["components"]["schemas"].values()):
        jsonschema.Draft202012Validator.check_schema(schema)


def test_what_a_schema_defines_for_itself_moves():
    body = {"$schema": "x", "type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}
    body["$defs"] = {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"type": "string"}}
    row = Operation("POST", "/v1/x/{name}", work, "Works.", changes=True, body=body, query=(number("n", "N.", most=2),))
    made = document([row])
    described = made["paths"]["/v1/x/{name}"]["post"]
    content = {"application/json": {"schema": described["requestBody"]["content"]["application/json"]["schema"]}}
    assert described["requestBody"] == {"required": True, "content": content}
    assert content["application/json"]["schema"] == {
        "type": "object",
        "properties": {"a": {"$ref": "#/components/schemas/work.a"}},
    }
    assert made["components"]["schemas"]["work.a"] == {"anyOf": [{"$ref": "#/components/schemas/work.b"}]}
    assert made["components"]["schemas"]["work.b"] == {"type": "string"}
    assert {404, 412, 413, 415} <= set(statuses(row))


def test_a_stream_and_an_answer_without_a_body_are_told():
    rows = [
        Operation("GET", "/v1/a", work, "Streams.", stream="text/event-stream"),
        Operation("DELETE", "/v1/b", work, "Removes.", changes=True, status=204),
    ]
    made = document(rows)["paths"]
    assert list(made["/v1/a"]["get"]["responses"]["200"]["content"]) == ["text/event-stream"]
    assert "content" not in made["/v1/b"]["delete"]["responses"]["204"]


def test_every_status_has_its_words():
    assert {status for row in TABLE for status in statuses(row)} <= REASONS.keys()


async def test_it_is_served_and_says_what_answers_are(tmp_path):
    async with controlled(tmp_path) as (path, _):
        status, _, body = await ask(path, request("GET", "/v1/openapi.json"))
        assert (status, body) == (200, WHOLE)
        for row in TABLE:
            if row.method == "GET" and row.answer:
                target = row.path.replace("{name}", "b")
                status, _, body = await ask(path, request("GET", target))
                assert status == 200, target
                schema = found(row)["responses"]["200"]["content"]["application/json"]["schema"]
                jsonschema.validate(body, {**schema, "components": WHOLE["components"]})


def test_a_refusal_is_what_it_is_said_to_be():
    body = json.loads(Refusal(404, "not_found", "there is no such thing").encode())
    jsonschema.validate(body, WHOLE["components"]["schemas"]["Refusal"])
