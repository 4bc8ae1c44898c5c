"""Rows about what is below the messages: headers, arrays of messages, connections and streams that break."""

# ruff: noqa: ASYNC110 - a server in another process tells nothing of what goes on inside it
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio

from tests.compatibility.rows import NONE, YES, Theme
from tests.fixtures.peer import (
    JSON,
    WAIT,
    HttpPeer,
    ModernHttpPeer,
    ModernPeer,
    Peer,
    SsePeer,
    StdioPeer,
    WebSocketPeer,
    open_request,
    read_reply,
)

if TYPE_CHECKING:
    from tests.compatibility.columns import Bench

WIRE = Theme("Headers, batches, connections")
row = WIRE.row

LOOK = 0.05
"""Seconds between two looks at what the server has counted."""


@row("Headers that repeat the request: checked", NONE, "headers", M__http="-32020", M__sse="-32020")
async def headers_checked(bench: Bench) -> str:
    client = await bench.client()
    if bench.column.front_transport != "http" or not bench.is_modern:
        return NONE
    for name, value in (("Mcp-Name", "echo"), ("Mcp-Method", None), ("Mcp-Param-Region", "eu")):
        outcome = await client.call("test_x_mcp_header", {"region": "us"}, headers={name: value})
        assert (outcome.status, outcome.error.code) == (400, -32020), (name, outcome.answer)
    return str(outcome.error.code)


@row("Headers that repeat the request: made for the server", NONE, "headers", _M_http=YES, LM_sse=YES)
async def headers_made(bench: Bench) -> str:
    client = await bench.client()
    one = await client.data("test_x_mcp_header", {"region": "häfen"})
    assert one["region"] == "häfen"
    many = await client.data("mirror", {"label": " a", "count": 42, "dry": True, "place": {"zone": "z"}})
    if not many["headers"]:
        return NONE
    assert one["headers"] == {"mcp-param-region": "=?base64?aMOkZmVu?="}
    assert many["headers"]["mcp-param-count"] == "42"
    assert many["headers"]["mcp-param-zone"] == "z"
    return YES


@row("Array of messages, as 2025-03-26 has it", YES, "batch", M_="-32600")
async def batch(bench: Bench) -> str:
    if bench.is_modern:
        modern = await bench.modern()
        return await send_all(modern.peer, [modern.peer.message("tools/list", request_id=f"b{n}") for n in (1, 2)])
    for version in ("2025-11-25", "2025-03-26"):
        peer = (await bench.legacy(version)).peer
        pings = [{"jsonrpc": "2.0", "id": f"b{n}", "method": "ping"} for n in (1, 2)]
        outcome = await send_all(peer, pings)
        assert version == "2025-03-26" or outcome == "-32600"
    return outcome


async def send_all(peer: Peer | ModernPeer, messages: list[JSON]) -> str:
    """An array of requests, answered one way or another; YES or the code of the error."""
    if isinstance(peer, HttpPeer | ModernHttpPeer | SsePeer):
        extra = peer.headers_of(messages[0]) if isinstance(peer, ModernHttpPeer) else {}
        if isinstance(peer, HttpPeer):
            extra = peer.session_headers()
        return await post_all(peer, messages, extra)
    pipe: Any = peer if isinstance(peer, Peer) else peer.pipe  # type: ignore[attr-defined]
    first = len(pipe.received)
    text = json.dumps(messages)
    await pipe.write(text if isinstance(pipe, WebSocketPeer) else text.encode() + b"\n")
    return await outcome_of(pipe, first)


async def post_all(peer: Any, messages: list[JSON], headers: dict[str, str]) -> str:
    url = peer.endpoint if isinstance(peer, SsePeer) else peer.url
    fields = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers}
    first = len(getattr(peer, "received", ()))
    with trio.fail_after(WAIT):
        async with open_request("POST", url, fields, json.dumps(messages).encode()) as exchange:
            reply = await read_reply(exchange)
    if reply.status >= 300:
        return str(reply.json()["error"]["code"])
    if isinstance(peer, SsePeer):
        return await outcome_of(peer, first)
    answers = reply.json() if "json" in reply.headers["content-type"] else [json.loads(e.data) for e in reply.events()]
    assert sorted(each["id"] for each in answers) == ["b1", "b2"]
    return YES


async def outcome_of(peer: Peer, first: int) -> str:
    """What comes for an array that was sent when so many messages had been received."""

    def answers() -> list[JSON]:
        return [each for each in peer.received[first:] if "method" not in each]

    await peer.wait_until(lambda: len(answers()) == 2 or any("error" in each for each in answers()))
    if "error" in answers()[0]:
        return str(answers()[0]["error"]["code"])
    assert sorted(each["id"] for each in answers()) == ["b1", "b2"]
    return YES


@row("Connection lost in mid-call", "cancelled", "lost", L__http="goes on", ___stdio="answered")
async def lost(bench: Bench) -> str:
    before = (await bench.stats())["cancelled"]
    client = await bench.client(fresh=True)
    async with client.began("sleep", {"seconds": 1}) as call:  # type: ignore[attr-defined]
        await call.working()
        await call.lose()
    if bench.column.transport == "stdio":
        pipe = client.peer if not bench.is_modern else client.peer.pipe  # type: ignore[attr-defined]
        assert isinstance(pipe, StdioPeer)
        assert (pipe.process.returncode, call.answer["result"]["content"][0]["text"]) == (0, "slept")
        return "answered"
    assert not call.answer
    if isinstance(client.peer, HttpPeer):  # type: ignore[attr-defined]
        events = await client.peer.resume(str(client.peer.last_event_id))  # type: ignore[attr-defined]
        assert json.loads(events[-1].data)["result"]["content"][0]["text"] == "slept"
        return "goes on"
    await counted(bench, before + 1)
    return "cancelled"


async def counted(bench: Bench, number: int) -> None:
    """Waits until the server has counted so many cancellations."""
    while (await bench.stats())["cancelled"] < number:
        await trio.sleep(LOOK)


@row("Stream taken up again with Last-Event-ID", NONE, "resumption", L__http=YES)
async def resumed(bench: Bench) -> str:
    client = await bench.client()
    if bench.is_modern or not isinstance(client.peer, HttpPeer):  # type: ignore[attr-defined]
        outcome = await client.call("test_tool_with_progress", token="t")
        assert outcome.result
        return NONE
    peer = client.peer  # type: ignore[attr-defined]
    async with client.began("sleep", {"seconds": 0.5}) as call:  # type: ignore[attr-defined]
        await call.working()
        last = peer.last_event_id
        await call.lose()
    events = [json.loads(event.data) for event in await peer.resume(last) if event.data]
    assert events[-1]["result"]["content"][0]["text"] == "slept"
    assert {each["method"] for each in events[:-1]} <= {"notifications/progress"}
    assert [each["params"]["progress"] for each in events[:-1]] == list(range(2, 2 + len(events) - 1))
    return YES


@row("Server ends its stream in mid-call, to be resumed", NONE, "resumption", _L_http=YES)
async def server_resumed(bench: Bench) -> str:
    text = await (await bench.client()).text("test_reconnection")
    return YES if text == "answered after the stream was closed" else NONE


@row("Server forgets its session", NONE, "sessions", _L_http=YES)
async def forgotten(bench: Bench) -> str:
    if (await (await bench.client()).data("whoami"))["session"] is None:
        return NONE
    client = await bench.client(place="forgetful")
    counts = [(await client.data("counter"))["session"] for _ in range(9)]
    assert counts != sorted(counts), "it has forgotten none"
    return YES
