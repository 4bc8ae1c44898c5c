"""Rows about resources, prompts and completion, and how long answers may be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.compatibility.columns import LIST_TTL, Bench
from tests.compatibility.rows import NONE, YES, Theme
from tests.fixtures.everything_content import PNG

if TYPE_CHECKING:
    from tests.fixtures.peer import JSON

CONTENT = Theme("Resources, prompts, completion")
row = CONTENT.row

NOWHERE = "test://nowhere"
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


@row("Lists of resources, templates and prompts")
async def listed(bench: Bench) -> str:
    client = await bench.client()
    resources = await client.all_of("resources/list", "resources")
    assert {"test://static-text", "test://static-binary"} <= {each["uri"] for each in resources}
    [template] = await client.all_of("resources/templates/list", "resourceTemplates")
    assert template["uriTemplate"] == "test://template/{id}/data"
    prompts = {each["name"]: each for each in await client.all_of("prompts/list", "prompts")}
    assert [each["name"] for each in prompts["test_prompt_with_arguments"]["arguments"]] == ["arg1", "arg2"]
    return YES


@row("Read: text, binary, by template")
async def read(bench: Bench) -> str:
    client = await bench.client()

    async def one(uri: str) -> JSON:
        [found] = (await client.request("resources/read", {"uri": uri})).result["contents"]
        assert found["uri"] == uri
        return dict(found)

    assert (await one("test://static-text"))["text"] == "This is the content of the static text resource."
    assert (await one("test://static-binary"))["blob"] == PNG
    assert '"id":"7"' in (await one("test://template/7/data"))["text"]
    return YES


@row("Resource that is not found, `uri` in the error's data", "-32002", "not-found", M_="-32602")
async def not_found(bench: Bench) -> str:
    client = await bench.client()
    error = (await client.request("resources/read", {"uri": NOWHERE})).error
    assert error.data["uri"] == NOWHERE
    return str(error.code)


@row("Prompt: plain, with arguments, with image and resource")
async def prompt(bench: Bench) -> str:
    client = await bench.client()

    async def blocks(name: str, **arguments: str) -> list[JSON]:
        got = (await client.request("prompts/get", {"name": name, "arguments": arguments})).result
        return [message["content"] for message in got["messages"]]

    assert await blocks("test_simple_prompt") == [{"type": "text", "text": "This is a simple prompt for testing."}]
    [filled] = await blocks("test_prompt_with_arguments", arg1="a", arg2="ä")
    assert filled["text"] == "Prompt with arguments: arg1='a', arg2='ä'"
    assert (await blocks("test_prompt_with_image"))[0]["data"] == PNG
    assert (await blocks("test_prompt_with_embedded_resource", resourceUri="test://x"))[0]["resource"][
        "uri"
    ] == "test://x"
    return YES


@row("Unknown prompt, or prompt without its arguments", "-32602")
async def unknown_prompt(bench: Bench) -> str:
    client = await bench.client()
    codes = {
        (await client.request("prompts/get", {"name": name})).error.code
        for name in ("no_such_prompt", "test_prompt_with_arguments")
    }
    [code] = codes
    return str(code)


async def completed(bench: Bench, version: str = "", **members: JSON) -> list[str]:
    reference = {"type": "ref/prompt", "name": "test_prompt_with_arguments"}
    params = {"ref": reference, "argument": {"name": "arg2", "value": "par"}, **members}
    outcome = await (await bench.client(version)).request("completion/complete", params)
    return list(outcome.result["completion"]["values"])


@row("Completion, of a prompt and of a template")
async def completion(bench: Bench) -> str:
    assert await completed(bench) == ["paris", "park", "party"]
    template = {"type": "ref/resource", "uri": "test://template/{id}/data"}
    assert await completed(bench, ref=template) == ["paris", "park", "party"]
    return YES


@row("Completion that knows the other arguments (`context`)")
async def context(bench: Bench) -> str:
    chosen = {"arguments": {"arg1": "parma"}}
    assert await completed(bench, context=chosen) == ["parma", "paris", "park", "party"]
    return YES


@row("Unknown reference in a completion", "-32602")
async def unknown_reference(bench: Bench) -> str:
    client = await bench.client()
    params = {"ref": {"type": "ref/prompt", "name": "no_such_prompt"}, "argument": {"name": "a", "value": ""}}
    return str((await client.request("completion/complete", params)).error.code)


def kept(result: JSON) -> str:
    """What a result says of how long it may be kept."""
    if "ttlMs" not in result:
        assert "cacheScope" not in result
        return NONE
    return f"{result['ttlMs'] / 1000:g} s {result['cacheScope']}"


@row("How long a list may be kept", "60 s private", "caching", L_=NONE, MM=f"{LIST_TTL / 1000:g} s public")
async def lists_kept(bench: Bench) -> str:
    client = await bench.client()
    [hint] = {kept((await client.request(method)).result) for method in LISTS}
    return hint


@row("How long a resource may be kept", "0 s private", "caching", L_=NONE, MM="60 s private")
async def resource_kept(bench: Bench) -> str:
    client = await bench.client()
    uri = {"uri": "test://template/kept/data"}  # no other row reads it
    first, second = [(await client.request("resources/read", uri)).result for _ in range(2)]
    if bench.cell == "MM":
        assert 0 < second["ttlMs"] <= first["ttlMs"], "it is fresh from now on, not from when it was read"
    return kept(first)


@row("`resultType` and the server's name in results", YES, "caching", L_=NONE)
async def signed(bench: Bench) -> str:
    client = await bench.client()
    results = [
        (await client.request(method)).result for method in (*LISTS, "server/discover")[: 5 if bench.is_modern else 4]
    ]
    results.append((await client.call("test_simple_text")).result)
    types = {result.get("resultType") for result in results}
    names = {result.get("_meta", {}).get("io.modelcontextprotocol/serverInfo", {}).get("name") for result in results}
    if bench.is_modern:
        assert (types, names) == ({"complete"}, {"mcpd"})
        return YES
    assert (types, names) == ({None}, {None})
    return NONE
