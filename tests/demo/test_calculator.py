"""The calculator, driven over its pipes as mcpd drives it."""

from __future__ import annotations

import json

import pytest

from tests.demo.servers import VERSIONS, check_tools, demo, first_text


@pytest.mark.parametrize("version", VERSIONS)
async def test_answers_in_the_form_of_each_version(version):
    async with demo("calculator") as peer:
        opened = await peer.initialize(version)
        assert opened["protocolVersion"] == version
        assert opened["capabilities"] == {"logging": {}, "tools": {}}
        assert opened["serverInfo"]["name"] == "calculator"
        assert ("title" in opened["serverInfo"]) == (version >= "2025-06-18")
        tools = await peer.list_all("tools/list", "tools")
        assert [tool["name"] for tool in tools] == ["add", "multiply", "divide"]
        check_tools(tools, version)
        result = await peer.call("add", {"a": 2, "b": 0.5})
        assert json.loads(first_text(result)) == {"result": 2.5}
        if version >= "2025-06-18":
            assert result["structuredContent"] == {"result": 2.5}
        else:
            assert "structuredContent" not in result


@pytest.mark.parametrize(
    ("tool", "a", "b", "expected"),
    [
        ("add", 1, 2, "3"),
        ("add", 0.1, 0.2, "0.30000000000000004"),
        ("multiply", 6, 7, "42"),
        ("multiply", -2, 0.25, "-0.5"),
        ("divide", 1, 8, "0.125"),
        ("divide", 84, 2, "42"),
    ],
)
async def test_calculates(tool, a, b, expected):
    async with demo("calculator") as peer:
        await peer.initialize()
        assert await peer.call_text(tool, {"a": a, "b": b}) == f'{{"result": {expected}}}'


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"a": 1, "b": 0}, "zero"),
        ({"a": 1}, "missing: b"),
        ({"a": 1, "b": "2"}, "b must be of type number"),
        ({"a": True, "b": 2}, "a must be of type number"),
        ({"a": 1, "b": 2, "c": 3}, "no argument 'c'"),
        ({"a": 1e308, "b": 1e-308}, "too large"),
        ({"a": 10**400, "b": 1}, "not a usable number"),
    ],
)
async def test_refuses_in_words_that_help(arguments, complaint):
    async with demo("calculator") as peer:
        await peer.initialize()
        result = await peer.call("divide", arguments)
        assert result["isError"] is True
        assert complaint in first_text(result)
        assert "structuredContent" not in result
