"""Rows about servers that do not answer, cannot be started, or die. The server of the place `poor` ends with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.compatibility.content import kept
from tests.compatibility.rows import NONE, YES, Theme

if TYPE_CHECKING:
    from tests.compatibility.columns import Bench
    from tests.fixtures.peer import Outcome

FAILING = Theme("Servers that fail")
row = FAILING.row


def failure_of(outcome: Outcome, server: str = "all") -> str:
    """How a call failed, which must say whose fault it is."""
    if "error" in outcome.answer:
        assert f"'{server}'" in outcome.error.message, outcome.answer
        return str(outcome.error.code)
    assert (outcome.result.get("isError"), f"'{server}'" in outcome.text) == (True, True), outcome.answer
    return "tool error"


@row("Lists, while one of the servers cannot be started", "the others", "down")
async def lists(bench: Bench) -> str:
    client = await bench.client(place="poor")
    page = (await client.request("tools/list")).result
    assert "echo" in {tool["name"] for tool in page["tools"]}
    assert kept(page) == ("0 s private" if bench.is_modern else NONE)
    return "the others"


@row("Call of a tool of that server", "-32602", "down")
async def down(bench: Bench) -> str:
    outcome = await (await bench.client(place="poor")).call("down_tool")
    assert "down" in outcome.error.message, "the message names the server that is not there"
    return str(outcome.error.code)


@row("Server that does not answer in time", "-32603", "failures")
async def silent(bench: Bench) -> str:
    return failure_of(await (await bench.client(place="poor")).call("hang"))


@row("Server that dies in mid-call", "-32603", "failures")
async def dies(bench: Bench) -> str:
    return failure_of(await (await bench.client(place="poor")).call("crash"))


@row("The next call, where mcpd can start the server again", NONE, "failures", ___stdio=YES)
async def next_call(bench: Bench) -> str:
    client = await bench.client(place="poor")
    outcome = await client.call("test_simple_text")
    if "error" in outcome.answer:
        assert failure_of(outcome) == "-32603"
        return NONE
    assert outcome.text
    return YES
