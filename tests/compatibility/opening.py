"""Rows about how a client begins, and what it and the server learn of each other."""

from __future__ import annotations

from tests.compatibility.clients import SAID
from tests.compatibility.columns import OLDEST, Bench
from tests.compatibility.rows import NONE, YES, Theme
from tests.fixtures.everything_core import INSTRUCTIONS, VERSIONS
from tests.fixtures.peer import CLIENT_INFO, LATEST, META, MODERN, HttpError, HttpPeer, PeerError, SsePeer

OPENING = Theme("Opening")
row = OPENING.row

FAMILIES = {"tools", "prompts", "resources", "logging", "completions"}
UNKNOWN = "2099-01-01"
OLDER_AND_ABLE = ("2024-11-05", "2025-06-18")
"""Versions whose clients can be asked in all rows: each client on stdio has an mcpd of its own."""
VENDOR = "com.example/mark"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@row("initialize / server/discover")
async def opening(bench: Bench) -> str:
    if bench.is_modern:
        found = (await (await bench.modern()).exchange("server/discover")).result
        assert found["supportedVersions"] == [MODERN]
        server = found["_meta"][META + "serverInfo"]
        assert (found["resultType"], found["cacheScope"]) == ("complete", "private")
    else:
        found = (await bench.legacy()).peer.server
        server = found["serverInfo"]
        assert META + "serverInfo" not in str(found)
    assert set(found["capabilities"]) - {"extensions"} == FAMILIES
    assert found["capabilities"]["tools"] == {"listChanged": True}
    assert found["capabilities"]["resources"] == {"listChanged": True, "subscribe": True}
    assert server["name"] == "mcpd"
    return YES


@row("Instructions of the server")
async def instructions(bench: Bench) -> str:
    if bench.is_modern:
        found = (await (await bench.modern()).exchange("server/discover")).result
    else:
        found = (await bench.legacy()).peer.server
    assert found["instructions"] == INSTRUCTIONS
    return YES


@row("Versions of the client", "4", "versions", M_="1")
async def versions(bench: Bench) -> str:
    if bench.is_modern:
        await (await bench.client()).text("test_simple_text")
        return "1"
    for version in VERSIONS:
        client = await bench.legacy(version, able=version in OLDER_AND_ABLE)
        assert client.peer.version == version
        assert await client.text("test_simple_text") == "This is a simple text response for testing."
    return str(len(VERSIONS))


@row("Server of 2024-11-05", YES, "old-server", _M=NONE)
async def old_server(bench: Bench) -> str:
    if bench.has_modern_server:
        return NONE
    client = await bench.client(able=True, place="old")
    assert (await client.data("whoami"))["version"] == OLDEST
    assert await client.text("test_sampling", {"prompt": "?"}) == f"LLM response: {SAID}"
    assert (await client.call("add", {"a": 2, "b": 3})).result["content"][0]["text"] == '{"sum": 5}'
    reference = {"type": "ref/prompt", "name": "test_prompt_with_arguments"}
    params = {
        "ref": reference,
        "argument": {"name": "arg1", "value": "par"},
        "context": {"arguments": {"arg2": "parma"}},
    }
    assert "parma" not in (await client.request("completion/complete", params)).result["completion"]["values"]
    return YES


@row("Unknown version", LATEST, "unknown-version", M_="-32022")
async def unknown_version(bench: Bench) -> str:
    if not bench.is_modern:
        peer = await bench.connect()
        return str((await peer.initialize(UNKNOWN))["protocolVersion"])
    client = await bench.modern()
    for version in (UNKNOWN, LATEST):  # a version with a handshake is none that an envelope can name
        meta, headers = {META + "protocolVersion": version}, {"MCP-Protocol-Version": version}
        refused = await client.exchange("tools/list", meta=meta, headers=headers)
        assert refused.error.data == {"supported": [MODERN], "requested": version}
    return str(refused.error.code)


@row("Request without session / with half an envelope", "-32600", M_="-32602")
async def nothing_said(bench: Bench) -> str:
    if bench.is_modern:
        half = {META + "clientCapabilities": None}
        refused = (await (await bench.modern()).exchange("tools/list", meta=half)).error
        assert META + "clientCapabilities" in refused.message
        return str(refused.code)
    peer = await bench.connect()
    try:
        await peer.request("tools/list")
    except PeerError as refused:
        return str(refused.code)
    raise AssertionError("it was answered")


@row("Unknown session", NONE, "sessions", L__http="404", L__sse="404")
async def unknown_session(bench: Bench) -> str:
    if bench.is_modern or bench.column.transport in ("stdio", "websocket"):
        return NONE
    peer = await bench.connect()
    if isinstance(peer, HttpPeer):
        await peer.initialize()
        peer.session_id = "unknown"
    elif isinstance(peer, SsePeer):
        peer.endpoint = peer.url.replace("/sse", "/messages?session=unknown")
    try:
        await peer.notify("notifications/cancelled", {"requestId": 1})
    except HttpError as refused:
        return str(refused.status)
    raise AssertionError("it was accepted")


@row("Ping", YES, "ping", M_="-32601")
async def ping(bench: Bench) -> str:
    client = await bench.client()
    outcome = await client.request("ping")
    if "error" in outcome.answer:
        return str(outcome.error.code)
    assert outcome.result == {}
    return YES


@row("Unknown method", "-32601")
async def unknown_method(bench: Bench) -> str:
    outcome = await (await bench.client()).request("no/such")
    return str(outcome.error.code)


@row("Request ids 0, empty and text")
async def ids(bench: Bench) -> str:
    client = await bench.client()
    for number in (0, "", "0", "ä\n"):
        outcome = await client.request("tools/call", {"name": "test_simple_text"}, request_id=number)
        assert (type(outcome.answer["id"]), outcome.answer["id"]) == (type(number), number)
    return YES


@row("What the server takes for its client", "mcpd", "client-info", MM="the client")
async def client_info(bench: Bench) -> str:
    seen = (await (await bench.client()).data("whoami"))["client"]
    if seen["name"] == CLIENT_INFO["name"]:
        return "the client"
    assert seen["name"] == "mcpd", seen
    return "mcpd"


@row("Capabilities that the server sees", "the client's", "capabilities", LL_stdio="mcpd's")
async def declared(bench: Bench) -> str:
    if bench.is_modern:
        seen = await (await bench.client()).data("whoami", capabilities={"sampling": {}, "roots": {}})
    else:
        seen = await (await bench.legacy("2024-11-05", able=True)).data("whoami")
    if "elicitation" in seen["capabilities"]:
        return "mcpd's"
    assert sorted(seen["capabilities"]) == ["roots", "sampling"]
    return "the client's"


@row("Unknown keys of _meta and trace context reach the server")
async def meta(bench: Bench) -> str:
    client = await bench.client()
    seen = (await client.data("echo", meta={VENDOR: {"n": 1.50}, "traceparent": TRACE}))["meta"]
    assert seen[VENDOR] == {"n": 1.5}
    assert seen["traceparent"] == TRACE
    assert any(key.startswith(META) for key in seen) is bench.has_modern_server, seen
    return YES
