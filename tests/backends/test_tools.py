"""What is known of tools to call them."""

from __future__ import annotations

import json

import pytest

from mcpd.backends.base import Entry
from mcpd.backends.tools import NO_FACTS, facts_of, valid
from mcpd.protocol.mirror import Parameters

MARKED = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
WRONG = {"type": "object", "properties": {"region": {"type": "array", "x-mcp-header": "Region"}}}
DATA = {"type": "object", "properties": {"x": {"default": {"x-mcp-header": "no mark here"}}}}


def tool(name: str, **members: object) -> Entry:
    members.setdefault("inputSchema", {"type": "object"})
    return Entry(name, json.dumps({"name": name, **members}).encode())


def test_most_tools_have_no_facts():
    assert facts_of(()) == NO_FACTS
    assert facts_of((tool("a"), tool("b", title="x", execution={}), tool("c", annotations={}))) == NO_FACTS


@pytest.mark.parametrize(
    ("execution", "as_task"),
    [
        ({"taskSupport": "required"}, True),
        ({"taskSupport": "optional"}, False),
        ({"taskSupport": "forbidden"}, False),
        ({"taskSupport": None}, False),
        ({"taskSupport": ["required"]}, False),
        ({"x": {"taskSupport": "required"}}, False),
        ("required", False),
        (None, False),
    ],
)
def test_tools_that_run_as_tasks_only(execution, as_task):
    facts = facts_of((tool("other"), tool("slow", execution=execution)))
    assert facts.as_tasks == ({b'"slow"'} if as_task else set())


def test_it_is_the_tools_own_member_that_counts():
    facts = facts_of((tool("t", inputSchema={"properties": {"execution": {"taskSupport": "required"}}}),))
    assert facts == NO_FACTS


def test_arguments_that_are_headers_too():
    facts = facts_of((tool("plain"), tool("marked", inputSchema=MARKED), tool("data", inputSchema=DATA)))
    assert facts.parameters == {b'"marked"': Parameters.read(json.dumps(MARKED).encode())}
    assert facts.parameters[b'"marked"'].headers(b'{"region":"eu"}') == [("Mcp-Param-Region", "eu")]


def test_a_name_is_kept_as_it_is_sent():
    facts = facts_of((tool('say "ä"', execution={"taskSupport": "required"}, inputSchema=MARKED),))
    assert facts.as_tasks == {'"say \\"ä\\""'.encode()}
    assert facts.parameters.keys() == facts.as_tasks


def test_a_wrong_mark_counts_for_nothing():
    assert facts_of((tool("wrong", inputSchema=WRONG, execution={"taskSupport": "required"}),)).as_tasks == {b'"wrong"'}
    assert not facts_of((tool("wrong", inputSchema=WRONG),)).parameters


def test_tools_with_wrong_marks_are_left_out(caplog):
    kept = (
        tool("a"),
        tool("marked", inputSchema=MARKED),
        tool("data", inputSchema=DATA),
        tool("none", inputSchema=None),
    )
    assert valid((*kept, tool("wrong", inputSchema=WRONG)), "b") == kept
    (record,) = caplog.records
    assert "backend=b event=tool_dropped tool='wrong' reason=" in record.message
    assert "region" in record.message


def test_a_mark_that_is_spelled_with_escapes_is_one():
    raw = json.dumps({"name": "t", "inputSchema": MARKED}).replace("x-mcp-header", "x-mcp-\\u0068eader").encode()
    assert facts_of((Entry("t", raw),)).parameters
    raw = raw.replace(b'"string"', b'"array"')
    assert valid((Entry("t", raw),), "b") == ()
