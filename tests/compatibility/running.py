"""Rows about a call while it runs: progress, log lines, cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.compatibility.clients import PROGRESS
from tests.compatibility.rows import NONE, YES, Theme
from tests.compatibility.wire import counted
from tests.fixtures.peer import PeerError

if TYPE_CHECKING:
    from tests.compatibility.clients import Client
    from tests.compatibility.columns import Bench

RUNNING = Theme("While a call runs")
row = RUNNING.row

MESSAGE = "notifications/message"
LINES = ["Tool execution started", "Tool processing data", "Tool execution completed"]


@row("Progress, to a token that is text, a number or 0")
async def progress(bench: Bench) -> str:
    client = await bench.client()
    for token in ("p", 7, 0):
        outcome = await client.call("test_tool_with_progress", token=token)
        told = outcome.said(PROGRESS)
        assert [(type(each["progressToken"]), each["progressToken"]) for each in told] == [(type(token), token)] * 3
        assert [(each["progress"], each["total"]) for each in told] == [(0, 100), (50, 100), (100, 100)]
        assert told[1]["message"] == "50 of 100"
        assert outcome.text != f"reported to {token!r}", "the server has a token of mcpd's own"
    assert not (await client.call("test_tool_with_progress")).said(PROGRESS)
    return YES


@row("Progress, then a question")
async def progress_and_question(bench: Bench) -> str:
    client = await bench.client(able=True)
    outcome = await client.call("test_streaming_elicitation", token="s")
    assert outcome.text == "gone on"
    assert outcome.said(PROGRESS)[0]["progress"] == 50
    return YES


async def lines(client: Client, level: str | None) -> list[str]:
    """What a tool logs whose lines are all at info."""
    outcome = await client.call("test_tool_with_logging", level=level)
    assert outcome.text == "logged three times"
    return [str(each["data"]) for each in outcome.said(MESSAGE)]


@row("Log lines where no level was set", "all", "log-level", LM="none", M_="none")
async def unlevelled(bench: Bench) -> str:
    found = await lines(await bench.client(able=True), None)
    assert found in ([], LINES)
    return "all" if found else "none"


@row("Log lines from a level on")
async def levels(bench: Bench) -> str:
    client = await bench.client()
    assert await lines(client, "debug") == LINES
    assert await lines(client, "info") == LINES
    assert await lines(client, "warning") == []
    outcome = await client.call("log", {"level": "error", "text": "heard"}, level="warning")
    assert [each["level"] for each in outcome.said(MESSAGE)] == ["error"]
    return YES


@row("Unknown log level", "-32602")
async def unknown_level(bench: Bench) -> str:
    client = await bench.client()
    try:
        return str((await client.call("test_simple_text", level="loud")).error.code)
    except PeerError as refused:
        return str(refused.code)


@row("Log line that belongs to no call", YES, "unsolicited", ML="dropped", _M=NONE)
async def unsolicited(bench: Bench) -> str:
    client = await bench.client()
    async with client.listening("tools") as news:  # type: ignore[attr-defined]
        outcome = await client.call("log_late", level=None if bench.is_modern else "debug")
        if outcome.result.get("isError"):
            assert bench.has_modern_server
            return NONE
        if not bench.is_modern:
            assert (await news.wait(MESSAGE))["data"] == "late"
            return YES
        await client.call("test_trigger_tool_change")
        await news.wait("notifications/tools/list_changed")  # `wait` takes no other message before it
    return "dropped"


@row("Cancelled by the client")
async def cancelled(bench: Bench) -> str:
    before = (await bench.stats())["cancelled"]
    client = await bench.client()
    async with client.began("sleep", {"seconds": 30}) as call:  # type: ignore[attr-defined]
        await call.working()
        await call.cancel()
        await counted(bench, before + 1)
        assert call.answer.get("error", {}).get("code") in (None, -32800), call.answer
    return YES


@row("Cancelled by the client while it is asked", YES, M_=NONE)
async def cancelled_while_asked(bench: Bench) -> str:
    """A modern client's question is the answer: there is nothing to cancel any more."""
    client = await bench.client(able=True)
    if bench.is_modern:
        return NONE
    asked, never = trio.Event(), trio.Event()

    async def leave_open(params: object) -> None:
        asked.set()
        await never.wait()

    client.callbacks["elicitation/create"] = leave_open
    try:
        async with client.began("test_elicitation", {"message": "?"}) as call:  # type: ignore[attr-defined]
            await asked.wait()
            await call.cancel()
            assert await client.text("test_simple_text")
            assert call.answer.get("error", {}).get("code") in (None, -32800), call.answer
    finally:
        del client.callbacks["elicitation/create"]
    return YES
