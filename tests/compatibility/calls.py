"""Rows about tools: what is listed, what a call may answer, and how it may fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from tests.compatibility.clients import EXTENSION, Client
from tests.compatibility.rows import NONE, YES, Theme
from tests.fixtures.everything_content import PNG, WAV

if TYPE_CHECKING:
    from tests.compatibility.columns import Bench
    from tests.fixtures.peer import JSON

TOOLS = Theme("Tools")
row = TOOLS.row

TASKS: JSON = {"extensions": {EXTENSION: {}}}
POLL = 0.05
"""Seconds between two looks at a task."""


async def blocks(client: Client, tool: str) -> list[JSON]:
    """The content that a tool answers."""
    return list((await client.call(tool)).result["content"])


async def tool_of(bench: Bench, name: str) -> JSON:
    """A tool as it is listed."""
    tools = await (await bench.client()).all_of("tools/list", "tools")
    return next(tool for tool in tools if tool["name"] == name)


@row("List, with titles, annotations, icons and schemas")
async def listed(bench: Bench) -> str:
    echo = await tool_of(bench, "echo")
    assert (echo["title"], echo["annotations"]) == ("Echo", {"readOnlyHint": True, "idempotentHint": True})
    assert echo["icons"][0]["sizes"] == ["48x48"]
    contact = await tool_of(bench, "json_schema_2020_12_tool")
    assert contact["inputSchema"]["$defs"]["address"]["$anchor"] == "addressDef"
    assert "outputSchema" in await tool_of(bench, "add")
    return YES


@row("`execution` of a tool, which 2025-11-25 alone has", "left out", "tasks", _M=NONE)
async def execution(bench: Bench) -> str:
    assert "execution" not in await tool_of(bench, "task_only")
    return NONE if bench.has_modern_server else "left out"


@row("Text, image, audio, embedded resource, and several at once")
async def content(bench: Bench) -> str:
    client = await bench.client()
    assert await blocks(client, "test_simple_text") == [
        {"type": "text", "text": "This is a simple text response for testing."}
    ]
    assert await blocks(client, "test_image_content") == [{"type": "image", "data": PNG, "mimeType": "image/png"}]
    assert await blocks(client, "test_audio_content") == [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]
    [embedded] = await blocks(client, "test_embedded_resource")
    assert embedded["resource"]["uri"] == "test://embedded-resource"
    mixed = await blocks(client, "test_multiple_content_types")
    assert [each["type"] for each in mixed] == ["text", "image", "resource"]
    return YES


@row("Audio for a client of 2024-11-05", "resource", "older-content", M_=NONE)
async def audio(bench: Bench) -> str:
    if bench.is_modern:
        return NONE
    [block] = await blocks(await bench.legacy("2024-11-05", able=True), "test_audio_content")
    assert (block["resource"]["blob"], block["resource"]["mimeType"]) == (WAV, "audio/wav")
    return str(block["type"])


@row("Link to a resource")
async def link(bench: Bench) -> str:
    [block] = await blocks(await bench.client(), "resource_link")
    assert (block["type"], block["uri"]) == ("resource_link", "test://static-text")
    return YES


@row("Link to a resource, for a client of 2025-03-26", "text", "older-content", M_=NONE)
async def link_as_text(bench: Bench) -> str:
    if bench.is_modern:
        return NONE
    [block] = await blocks(await bench.legacy("2025-03-26"), "resource_link")
    assert "test://static-text" in block["text"]
    return str(block["type"])


@row("Structured content")
async def structured(bench: Bench) -> str:
    result = (await (await bench.client()).call("add", {"a": 2, "b": 3})).result
    assert result["structuredContent"] == {"sum": 5}
    return YES


@row("Structured content, for a client of 2025-03-26", "text", "older-content", M_=NONE)
async def structured_as_text(bench: Bench) -> str:
    if bench.is_modern:
        return NONE
    result = (await (await bench.legacy("2025-03-26")).call("add", {"a": 2, "b": 3})).result
    assert "structuredContent" not in result
    assert result["content"][0]["text"] == '{"sum": 5}'
    return "text"


@row("Structured content that is an array", YES, "array", LM="text")
async def array(bench: Bench) -> str:
    tool = await tool_of(bench, "list_numbers")
    result = (await (await bench.client()).call("list_numbers")).result
    assert result["content"][0]["text"] == "[1, 2, 3]"
    if "structuredContent" in result:
        assert result["structuredContent"] == [1, 2, 3]
        return YES
    assert "outputSchema" not in tool
    return "text"


@row("Arguments and results of 200 kB")
async def large(bench: Bench) -> str:
    client = await bench.client()
    value = "ä" * 100_000
    seen: Any = await client.data("echo", {"value": value})
    assert seen["arguments"]["value"] == value
    return YES


@row("Result that says the tool failed")
async def tool_error(bench: Bench) -> str:
    result = (await (await bench.client()).call("test_error_handling")).result
    assert result["isError"] is True
    assert result["content"][0]["text"] == "This tool intentionally returns an error for testing"
    return YES


@row("Unknown tool", "-32602")
async def unknown_tool(bench: Bench) -> str:
    return str((await (await bench.client()).call("no_such_tool")).error.code)


@row("JSON-RPC error of the server, with its data")
async def rpc_error(bench: Bench) -> str:
    for code in (-32602, -32603, 4711):
        error = (await (await bench.client()).call("protocol_error", {"code": code})).error
        assert (error.code, error.message, error.data) == (code, "failed on request", {"detail": "kept"})
    return YES


@row("Error with a code that 2026-07-28 reserves", "-32603", "reserved", L_=YES)
async def reserved(bench: Bench) -> str:
    error = (await (await bench.client()).call("protocol_error", {"code": -32050})).error
    if error.code == -32050:
        assert error.data == {"detail": "kept"}
        return YES
    assert error.data["error"] == {"code": -32050, "message": "failed on request", "data": {"detail": "kept"}}
    return str(error.code)


@row("Tool that runs as a task only", YES, "task-tool")
async def task_only(bench: Bench) -> str:
    client, asking = await bench.client(), await bench.client(able=True)
    assert await client.text("task_only", {"seconds": 0.05}) == "the job is done"
    assert (await client.call("task_only", {"fail": True})).result["isError"] is True
    assert (await client.call("task_only", {"error": True})).error.message == "the job broke"
    assert await asking.text("task_only", {"ask": True}) == "the job is done: accept"
    return YES


@row("A client's wish for a task", "not heard", "tasks")
async def wish(bench: Bench) -> str:
    params = {"name": "slow_compute", "arguments": {"label": "x"}, "task": {"ttl": 60_000}}
    outcome = await (await bench.client()).request("tools/call", params)
    assert outcome.text == "computed x"
    return "not heard"


@row("Extension io.modelcontextprotocol/tasks", "-32601", "tasks", MM=YES, LM=NONE, LL=NONE)
async def tasks(bench: Bench) -> str:
    if not bench.is_modern:
        found = (await bench.legacy()).peer.server["capabilities"]
        assert "tasks" not in found
        assert "extensions" not in found
        return NONE
    client = await bench.modern()
    offered = EXTENSION in (await client.exchange("server/discover")).result["capabilities"].get("extensions", {})
    if not offered:
        refused = await client.request("tasks/get", {"taskId": "t"}, capabilities=TASKS)
        return str(refused.error.code)
    able = {**(await bench.modern(able=True)).declared, **TASKS}
    made = (await client.call("confirm_delete", {"filename": "x"}, capabilities=able)).result
    assert made["resultType"] == "task"
    task = {"taskId": made["taskId"]}
    state = await task_until(client, task, able, "input_required")
    [key] = state["inputRequests"]
    answers = {"inputResponses": {key: {"action": "accept", "content": {"confirm": True}}}}
    assert "result" in (await client.request("tasks/update", {**task, **answers}, capabilities=able)).answer
    state = await task_until(client, task, able, "completed")
    assert state["result"]["content"][0]["text"] == "x: accept"
    other = {"taskId": (await client.call("slow_compute", {"seconds": 30}, capabilities=able)).result["taskId"]}
    assert "result" in (await client.request("tasks/cancel", other, capabilities=able)).answer
    await task_until(client, other, able, "cancelled")
    return YES


async def task_until(client: Client, task: JSON, capabilities: JSON, status: str) -> JSON:
    """Looks until a task is in that state."""
    while True:
        state = (await client.request("tasks/get", task, capabilities=capabilities)).result
        if state["status"] == status:
            return state
        await trio.sleep(POLL)
