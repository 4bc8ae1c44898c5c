"""The official Python SDK in front of mcpd and its demo servers, on every transport, in both eras, in seconds.

The first run installs the SDK into .cache/interop; later ones find it there, whichever Python they run on.
"""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.fixtures.peer import LATEST, MODERN, ROOT, start_daemon
from tests.interop.client import ClientFailure, ProgramClient
from tests.interop.kinds import PROGRAMS
from tests.interop.matrix import WIDTH, Column, render
from tests.interop.packages import PYTHON_SDK_2
from tests.packages import install_all

if TYPE_CHECKING:
    from pathlib import Path

DEMOS = ("calculator", "notes", "clock")
WELCOME = "notes://welcome"


@pytest.fixture(scope="module")
def sdk() -> list[str]:
    """The argv of the client program, with the SDK installed."""
    trio.run(install_all, [PYTHON_SDK_2])
    return [str(PYTHON_SDK_2.python), str(PROGRAMS / "sdk_2.py")]


def configuration() -> dict[str, Any]:
    servers = {
        name: {
            "command": sys.executable,
            "args": ["-m", f"mcpd.demo.{name}"],
            "env": {"PYTHONPATH": str(ROOT)},
        }
        for name in DEMOS
    }
    return {"mcpServers": servers}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["legacy", MODERN])
@pytest.mark.parametrize("transport", ["http", "sse", "stdio"])
async def test_the_official_sdk_uses_every_feature(sdk: list[str], transport: str, mode: str, tmp_path: Path) -> None:
    file = tmp_path / "mcpd.json"
    file.write_text(json.dumps(configuration()))
    mcpd = [sys.executable, "-m", "mcpd", "--config", str(file), "--transport", "stdio"]
    target = {
        "transport": transport,
        "mode": mode,
        "command": [*mcpd, "--state-dir", str(tmp_path / "state"), "--log-level", "warning"],
        "env": {},
        "root": tmp_path.as_uri(),
    }
    async with AsyncExitStack() as stack:
        if transport != "stdio":
            daemon = await stack.enter_async_context(start_daemon(configuration()))
            target["url"] = f"{daemon.base}/{'mcp' if transport == 'http' else 'sse'}"
        client = await stack.enter_async_context(ProgramClient(sdk, target))
        assert client.server["protocolVersion"] == (LATEST if mode == "legacy" else MODERN)
        assert client.server["serverInfo"]["name"] == "mcpd"
        await use_tools(client)
        if mode == "legacy":
            await use_what_ended(client)
        await use_resources(client)
        await use_prompts(client)
        await answer_questions(client)
        await client.cancel_call("clock_countdown", seconds=60, steps=10)
        assert (await client.call("calculator_add", a=2, b=40))["structuredContent"] == {"result": 42}
        await client.leave()


async def use_tools(client: ProgramClient) -> None:
    names = {tool["name"] for tool in (await client.request("tools/list"))["tools"]}
    assert {"calculator_add", "notes_find_notes", "clock_countdown"} <= names
    assert (await client.call("calculator_add", a=2, b=40))["structuredContent"] == {"result": 42}
    assert (await client.call("calculator_divide", a=1, b=0))["isError"]
    with pytest.raises(ClientFailure, match="no_such_tool"):
        await client.call("no_such_tool")
    result, reports = await client.call_with_progress("clock_countdown", seconds=0.2, steps=4)
    assert "over" in result["content"][0]["text"]
    assert [report["progress"] for report in reports] == [0, 1, 2, 3, 4]


async def use_what_ended(client: ProgramClient) -> None:
    """What 2026-07-28 has no more."""
    await client.request("logging/setLevel", {"level": "info"})
    await client.call("clock_countdown", seconds=0.1, steps=1)
    await client.wait_notification("notifications/message", level="info")
    assert await client.request("ping") == {}


async def use_resources(client: ProgramClient) -> None:
    uris = {resource["uri"] for resource in (await client.request("resources/list"))["resources"]}
    assert WELCOME in uris
    templates = (await client.request("resources/templates/list"))["resourceTemplates"]
    assert "notes://{title}" in {template["uriTemplate"] for template in templates}
    await client.request("resources/subscribe", {"uri": WELCOME})
    await client.text("notes_append_to_note", title="welcome", text="a heron came by")
    await client.wait_notification("notifications/resources/updated", uri=WELCOME)
    await client.request("resources/unsubscribe", {"uri": WELCOME})
    read = await client.request("resources/read", {"uri": WELCOME})
    assert "a heron came by" in read["contents"][0]["text"]
    client.notifications.clear()  # The servers that started after the client have changed the list, too.
    await client.text("notes_add_note", title="fresh", text="new")
    await client.wait_notification("notifications/resources/list_changed")
    listed = (await client.request("resources/list"))["resources"]
    assert "notes://fresh" in {resource["uri"] for resource in listed}


async def use_prompts(client: ProgramClient) -> None:
    names = {prompt["name"] for prompt in (await client.request("prompts/list"))["prompts"]}
    assert {"notes_summarize_note", "notes_review_notes"} <= names
    wanted = {"name": "notes_summarize_note", "arguments": {"note": "ideas"}}
    messages = (await client.request("prompts/get", wanted))["messages"]
    assert "# ideas" in messages[0]["content"]["text"]
    ref = {"type": "ref/prompt", "name": "notes_summarize_note"}
    completed = await client.request("completion/complete", {"ref": ref, "argument": {"name": "note", "value": "wel"}})
    assert completed["completion"]["values"] == ["welcome"]


async def answer_questions(client: ProgramClient) -> None:
    await client.text("notes_draft_note", title="drafted", topic="herons")
    read = await client.request("resources/read", {"uri": "notes://drafted"})
    assert "An answer of the client's own model." in read["contents"][0]["text"]
    reminded = await client.text("clock_remind", text="feed the heron", seconds=0)
    assert reminded == "The user has done it: feed the heron"
    asked = [question["method"] for question in client.questions]
    assert "sampling/createMessage" in asked
    assert "elicitation/create" in asked


def test_the_matrix_shows_what_passed_failed_and_was_left_out() -> None:
    reached = {"new": MODERN, "old": LATEST, "older": LATEST}
    column = Column("sdk", "http", {"b": "a reason"}, {"a"}, {"c": "it cannot"}, ["a remark"], 1.5, MODERN, reached)
    lines = render([column], ["a", "b", "c", "never-run"]).splitlines()
    assert [line.split() for line in lines[:7]] == [
        ["sdk"],
        ["check", "http"],
        ["agreed", "on", MODERN],
        ["a", "ok"],
        ["b", "FAILED"],
        ["c", "-"],
        ["seconds", "1.5"],
    ]
    assert lines[7:11] == [
        "",
        "FAILED sdk http b: a reason",
        "note: sdk http: a remark",
        "servers reached: 2025-11-25: old, older; 2026-07-28: new (all)",
    ]
    assert lines[-1] == "  c: it cannot (sdk)"


def test_a_wide_matrix_is_shown_in_blocks() -> None:
    columns = [Column(f"client-{number:02}", "http", passed={"a"}) for number in range(20)]
    lines = render(columns, ["a"]).splitlines()
    assert max(map(len, lines)) <= WIDTH
    heads = [line.split() for line in lines if "client" in line]
    assert len(heads) == 3
    assert [word for head in heads for word in head] == [column.client for column in columns]
