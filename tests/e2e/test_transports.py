"""Every feature, for every version, on every transport, through mcpd and a real child of either era."""

from __future__ import annotations

import json
from contextlib import ExitStack, asynccontextmanager

import pytest

from tests.e2e.background import daemon_in_background, everything, mcpd
from tests.fixtures.peer import ROOT, HttpPeer, Peer, PeerError, SsePeer, StdioPeer

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
ERAS = ("legacy", "modern")


def config(era: str) -> dict:
    return {"mcpServers": {"all": everything("--era", era)}}


@pytest.fixture(scope="module")
def daemons():
    """By the era of the child."""
    with ExitStack() as stack:
        yield {era: stack.enter_context(daemon_in_background(config(era))) for era in ERAS}


@asynccontextmanager
async def connected(transport: str, era: str, daemons, directory):
    """A client on that transport; on stdio with an mcpd of its own."""
    if transport == "stdio":
        file = directory / "mcpd.json"
        file.write_text(json.dumps(config(era)))
        state = directory / "state"
        argv = mcpd("--config", str(file), "--state-dir", str(state), "--transport", "stdio")
        async with StdioPeer(argv, cwd=str(ROOT)) as peer:
            yield peer
            assert await peer.close_stdin() == 0
            assert not peer.junk
    elif transport == "sse":
        async with SsePeer(daemons[era].base + "/sse") as peer:
            yield peer
    else:
        async with HttpPeer(daemons[era].url) as peer:
            yield peer


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("transport", ["http", "sse", "stdio"])
@pytest.mark.parametrize("era", ERAS)
async def test_everything(transport, version, era, daemons, tmp_path):
    async with connected(transport, era, daemons, tmp_path) as peer:
        peer.callbacks |= {
            "sampling/createMessage": sample,
            "elicitation/create": elicit,
            "roots/list": lambda params: {"roots": [{"uri": "file:///home"}]},
        }
        capabilities = {"sampling": {}, "roots": {"listChanged": True}}
        if version >= "2025-06-18":
            capabilities["elicitation"] = {"form": {}, "url": {}} if version == "2025-11-25" else {}
        server = await peer.initialize(version, capabilities)
        assert server["protocolVersion"] == version
        assert ("completions" in server["capabilities"]) is (version >= "2025-03-26")
        assert "everything" not in server["serverInfo"]["name"]
        await listed(peer, version)
        await called(peer, version)
        await resources_and_prompts(peer)
        await news_of_a_call(peer, version)
        await questions(peer, version, era)


async def listed(peer: Peer, version: str) -> None:
    tools = {tool["name"]: tool for tool in await peer.list_all("tools/list", "tools")}
    echo, add = tools["echo"], tools["add"]
    assert ("annotations" in echo) is (version >= "2025-03-26")
    assert ("title" in echo) is (version >= "2025-06-18")
    assert ("outputSchema" in add) is (version >= "2025-06-18")
    assert ("icons" in echo) is (version >= "2025-11-25")
    schema = tools["json_schema_2020_12_tool"]["inputSchema"]
    assert schema["$defs"]["address"]["$anchor"] == "addressDef", "schemas are not touched"


async def called(peer: Peer, version: str) -> None:
    value = {"value": [1.0, "ü\ud800", None, {"deep": [[]]}], "extra": 10**20}
    assert (await peer.call_json("echo", value))["arguments"] == value
    added = await peer.call("add", {"a": 1, "b": 2})
    assert json.loads(added["content"][0]["text"]) == {"sum": 3}
    assert ("structuredContent" in added) is (version >= "2025-06-18")
    link = (await peer.call("resource_link"))["content"][0]
    assert link["type"] == ("resource_link" if version >= "2025-06-18" else "text")
    audio = (await peer.call("test_audio_content"))["content"][0]
    assert (audio["type"] == "audio") is (version >= "2025-03-26")
    assert (await peer.call("test_image_content"))["content"][0]["type"] == "image"
    assert (await peer.call("test_error_handling"))["isError"] is True
    for method, params, code in (
        ("tools/call", {"name": "no_such_tool"}, -32602),
        ("tools/call", {}, -32602),
        ("no/such/method", {}, -32601),
        ("tools/list", {"cursor": "bad"}, -32602),
        ("tools/call", {"name": "protocol_error", "arguments": {"code": -32050}}, -32050),
    ):
        with pytest.raises(PeerError) as caught:
            await peer.request(method, params)
        assert caught.value.code == code
    assert caught.value.data == {"detail": "kept"}
    assert await peer.request("ping") == {}


async def resources_and_prompts(peer: Peer) -> None:
    uris = [each["uri"] for each in await peer.list_all("resources/list", "resources")]
    assert "test://static-text" in uris
    [template] = await peer.list_all("resources/templates/list", "resourceTemplates")
    assert template["uriTemplate"] == "test://template/{id}/data"
    for uri, part in (("test://static-text", "static text"), ("test://template/7/data", '"id":"7"')):
        [content] = (await peer.request("resources/read", {"uri": uri}))["contents"]
        assert part in content["text"]
    with pytest.raises(PeerError) as caught:
        await peer.request("resources/read", {"uri": "test://nowhere"})
    assert caught.value.code in (-32002, -32602)
    assert len(await peer.list_all("prompts/list", "prompts")) == 5
    prompt = await peer.request(
        "prompts/get", {"name": "test_prompt_with_arguments", "arguments": {"arg1": "a", "arg2": "b"}}
    )
    assert "arg1='a'" in prompt["messages"][0]["content"]["text"]
    reference = {"type": "ref/prompt", "name": "test_prompt_with_arguments"}
    argument = {"name": "arg1", "value": "par"}
    completed = await peer.request("completion/complete", {"ref": reference, "argument": argument})
    assert completed["completion"]["values"] == ["paris", "park", "party"]
    assert await peer.request("resources/subscribe", {"uri": "test://watched-resource"}) == {}
    await peer.call("test_trigger_resource_update", {"uri": "test://watched-resource"})
    if isinstance(peer, HttpPeer):
        assert await peer.open_stream() == 200
    updated = await peer.wait_notifications("notifications/resources/updated")
    assert updated[0]["uri"] == "test://watched-resource"
    assert await peer.request("resources/unsubscribe", {"uri": "test://watched-resource"}) == {}


async def news_of_a_call(peer: Peer, version: str) -> None:
    await peer.request("logging/setLevel", {"level": "info"})
    await peer.call("test_tool_with_logging")
    logged = [each["data"] for each in peer.notifications("notifications/message")]
    assert logged[-3:] == ["Tool execution started", "Tool processing data", "Tool execution completed"]
    await peer.request("logging/setLevel", {"level": "error"})
    await peer.call("log", {"level": "info", "text": "unheard"})
    assert "unheard" not in [each["data"] for each in peer.notifications("notifications/message")]
    for token in ("p", 0):
        answer = await peer.call_text("test_tool_with_progress", meta={"progressToken": token})
        steps = [each for each in peer.notifications("notifications/progress") if each["progressToken"] == token]
        assert [each["progress"] for each in steps] == [0, 50, 100]
        assert all(("message" in each) is (version >= "2025-03-26") for each in steps)
        assert answer != f"reported to {token!r}", "the child sees a token of mcpd's own"


def sample(params):
    assert params["messages"]
    return {"role": "assistant", "content": {"type": "text", "text": "a sample"}, "model": "m"}


def elicit(params):
    if params.get("mode") == "url":
        return {"action": "accept"}
    return {"action": "accept", "content": {"username": "u", "email": "e"}}


async def questions(peer: Peer, version: str, era: str) -> None:
    assert await peer.call_text("test_sampling", {"prompt": "?"}) == "LLM response: a sample"
    assert await peer.call_json("list_roots") == ["file:///home"]
    asked = await peer.call("test_elicitation", {"message": "who"})
    if version < "2025-06-18":
        assert asked["isError"]
    else:
        assert "action=accept" in asked["content"][0]["text"]
        assert '"username": "u"' in asked["content"][0]["text"]
    opened = await peer.call("url_elicitation")
    if version < "2025-11-25":
        assert opened["isError"] or "accept" not in opened["content"][0]["text"]
    else:
        assert opened["content"][0]["text"] == "action=accept"
        if era == "legacy":
            done = await peer.wait_notifications("notifications/elicitation/complete")
            assert done[0]["elicitationId"] == "consent-1"
        else:
            asked = [each["params"] for each in peer.received if each.get("method") == "elicitation/create"]
            assert asked[-1]["elicitationId"], "a modern server gives none, so it is mcpd's own"
