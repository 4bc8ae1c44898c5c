from __future__ import annotations

import msgspec
import pytest

from mcpd.config.model import Config
from mcpd.control.catalogue import list_prompts, list_resources, list_tools
from mcpd.control.refusal import Refusal
from tests.control.parts import ask, operations
from tests.gateway.fakes import FakeBackend, catalogue, make_gateway


async def test_entries_are_as_clients_see_them_and_say_whose_they_are(tmp_path):
    ops = operations(tmp_path)
    listed = {"a": catalogue(tools=["x"], prompts=["p"]), "b": catalogue(tools=["x"], resources=["f:1"])}
    listed["b"] = listed["b"].with_kind("resourceTemplates", catalogue(resourceTemplates=["f:{n}"]).resource_templates)
    backends = [FakeBackend(name, each) for name, each in listed.items()]
    ops.gateway = make_gateway(tmp_path / "2", *backends, config=Config(servers=tuple(b.spec for b in backends)))
    answer = await list_tools(ops, ask())
    assert [(each["name"], each["server"], each["own_name"]) for each in answer["tools"]] == [
        ("a_x", "a", "x"),
        ("b_x", "b", "x"),
    ]
    assert msgspec.json.decode(msgspec.json.encode(await list_tools(ops, ask(query={"server": "b"})))) == {
        "tools": [{"name": "b_x", "server": "b", "own_name": "x", "definition": {"name": "b_x"}}]
    }
    [prompt] = (await list_prompts(ops, ask()))["prompts"]
    assert (prompt["name"], prompt["server"]) == ("a_p", "a")
    answer = await list_resources(ops, ask())
    assert [each["uri"] for each in answer["resources"]] == ["f:1"]
    assert [each["uriTemplate"] for each in answer["resource_templates"]] == ["f:{n}"]


@pytest.mark.parametrize("work", [list_tools, list_resources, list_prompts])
async def test_a_server_that_is_not_there_is_no_empty_list(work, tmp_path):
    with pytest.raises(Refusal, match="no server 'c'"):
        await work(operations(tmp_path), ask(query={"server": "c"}))
