"""The forms that tools and results take in each version, and the checking of arguments."""

from __future__ import annotations

import pytest

from mcpd.demo.call import ToolError
from mcpd.demo.offer import VERSIONS, Tool, check_arguments, object_or_empty, result, schema, shown


def test_members_appear_with_their_version():
    entry = {"name": "n", "annotations": {}, "title": "t", "outputSchema": {}}
    assert [sorted(shown(entry, version)) for version in VERSIONS] == [
        ["name"],
        ["annotations", "name"],
        ["annotations", "name", "outputSchema", "title"],
        ["annotations", "name", "outputSchema", "title"],
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_results_carry_what_the_version_has(version):
    assert result("text", version) == {"content": [{"type": "text", "text": "text"}]}
    structured = result({"ä": 1}, version)
    assert structured["content"] == [{"type": "text", "text": '{"ä": 1}'}]
    assert structured.get("structuredContent") == ({"ä": 1} if version >= "2025-06-18" else None)
    link = {"type": "resource_link", "name": "n", "uri": "u://x"}
    shown_link = link if version >= "2025-06-18" else {"type": "text", "text": "n: u://x"}
    assert result([link], version) == {"content": [shown_link]}


@pytest.mark.parametrize(
    ("described", "good", "bad"),
    [
        ({"type": "string", "maxLength": 2}, ["", "ab"], ["abc", 1, None, "\ud800"]),
        ({"type": "integer", "minimum": 0, "maximum": 5}, [0, 5], [-1, 6, 1.5, "1", True]),
        ({"type": "number"}, [1, 1.5, -1e308], [True, "1", float("inf"), float("nan"), 10**400]),
        ({"type": "boolean"}, [True, False], [0, "true", None]),
        ({"type": "string", "enum": ["a", "b"]}, ["a"], ["c"]),
    ],
)
def test_arguments_are_checked_against_their_schema(described, good, bad):
    tool = Tool({"inputSchema": schema({"x": described}, ["x"])}, lambda call, x: "")
    for value in good:
        check_arguments(tool, {"x": value})
    for value in bad:
        with pytest.raises(ToolError, match="x"):
            check_arguments(tool, {"x": value})


def test_missing_and_unknown_arguments_are_named():
    tool = Tool({"inputSchema": schema({"x": {"type": "string"}}, ["x"])}, lambda call, x: "")
    with pytest.raises(ToolError, match="missing: x"):
        check_arguments(tool, {})
    with pytest.raises(ToolError, match="no argument 'y'; there is x"):
        check_arguments(tool, {"x": "", "y": 1})


def test_absent_null_and_empty_are_the_same():
    assert [object_or_empty(value) for value in (None, {}, [], 1, {"a": 1})] == [{}, {}, {}, {}, {"a": 1}]
