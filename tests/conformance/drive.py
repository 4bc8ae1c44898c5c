"""The client of the client suite: starts mcpd in front of the suite's mock server and does what the scenario wants.

    python drive.py --front legacy|modern URL

The suite starts it, with the mock server's URL as the last argument and the scenario in its environment, and grades
what reaches the mock server: what mcpd sends. `--front` is the era in which this client speaks to mcpd; the mock
server's is the scenario's, so that all four combinations are driven. Exit status: 0 when every answer that came back
through mcpd is right, too.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # Started by its path, from whatever directory: make `tests` importable.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import trio

from tests.conformance.backends import configuration
from tests.fixtures.peer import JSON, HttpPeer, PeerError, start_daemon

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Scene = Callable[["Front"], Awaitable[None]]

LIMIT = 25.0
"""Seconds of a scenario. The suite gives up after thirty, and would leave mcpd behind."""
ROUNDS_MAX = 10
"""How often a call may ask for more before this is a loop."""
CAPABILITIES: JSON = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
MESSAGE: JSON = {"role": "assistant", "content": {"type": "text", "text": "An answer."}, "model": "a-model"}
MODERN_MOCK = "2026-07-28"
DONE = "all answers are right"


class Front:
    """A client of mcpd. A subclass speaks one era."""

    def __init__(self, peer: HttpPeer) -> None:
        self.peer = peer
        self.tools: dict[str, JSON] = {}
        """Name → tool, from the list."""
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What is done before the next question is answered."""
        self.questions = 0

    async def open(self) -> None:
        """What must be done before the first request."""

    async def request(self, method: str, params: JSON) -> JSON:
        """The complete result. Raises: PeerError."""
        raise NotImplementedError

    async def close(self) -> None:
        """What must be done after the last one."""

    async def list_tools(self) -> list[str]:
        """The names of all tools."""
        tools = (await self.request("tools/list", {}))["tools"]
        self.tools = {tool["name"]: tool for tool in tools}
        return [tool["name"] for tool in tools]

    async def call(self, tool: str, **arguments: Any) -> str:
        """Calls a tool; the text of its result."""
        result = await self.request("tools/call", {"name": tool, "arguments": arguments})
        assert not result.get("isError"), f"{tool}: {result}"
        return "".join(block.get("text", "") for block in result["content"])

    async def answer(self, method: str, params: JSON) -> JSON:
        """What a user who agrees to everything answers: forms with the defaults they come with."""
        self.questions += 1
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        if method == "roots/list":
            return {"roots": []}
        if method == "sampling/createMessage":
            return MESSAGE
        fields = params.get("requestedSchema", {}).get("properties", {})
        return {"action": "accept", "content": {name: field.get("default", True) for name, field in fields.items()}}


class LegacyFront(Front):
    """The handshake, a session, and questions as requests of the server."""

    async def open(self) -> None:
        for method in ("elicitation/create", "sampling/createMessage", "roots/list"):
            self.peer.callbacks[method] = lambda params, method=method: self.answer(method, params)
        await self.peer.initialize(capabilities=CAPABILITIES)
        assert await self.peer.open_stream() == 200

    async def request(self, method: str, params: JSON) -> JSON:
        return await self.peer.request(method, params)

    async def close(self) -> None:
        await self.peer.delete()


class ModernFront(Front):
    """Requests that stand for themselves; a question is a result, and its answer is the request again."""

    async def request(self, method: str, params: JSON) -> JSON:
        headers = self.parameter_headers(params) if method == "tools/call" else {}
        more: JSON = {}
        for _ in range(ROUNDS_MAX):
            body = {**params, **more}
            answer = await self.peer.modern(method, body, capabilities=CAPABILITIES, headers=headers)
            if "error" in answer:
                raise PeerError(answer["error"])
            result: JSON = answer["result"]
            if result["resultType"] == "complete":
                return result
            assert result["resultType"] == "input_required", result
            more = {}
            if "inputRequests" in result:
                asked = result["inputRequests"]
                answers = {key: await self.answer(each["method"], each["params"]) for key, each in asked.items()}
                more["inputResponses"] = answers
            if "requestState" in result:
                more["requestState"] = result["requestState"]
        raise AssertionError(f"{method} asks without end: {result}")

    def parameter_headers(self, params: JSON) -> dict[str, str]:
        """Mcp-Param-*: the arguments that the tool wants to see in headers."""
        tool = self.tools.get(params["name"], {})
        properties = tool.get("inputSchema", {}).get("properties", {})
        return {
            f"Mcp-Param-{properties[name]['x-mcp-header']}": header_value(value)
            for name, value in params["arguments"].items()
            if value is not None and "x-mcp-header" in properties.get(name, {})
        }


def header_value(value: object) -> str:
    """A value as a header has it: literally if it survives there, else as base64 between marks."""
    text = value if isinstance(value, str) else json.dumps(value)
    if text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?base64?"):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


async def look(front: Front) -> None:
    """Nothing to call: what counts is that mcpd has connected, and has listed what there is."""
    await front.list_tools()


async def add(front: Front) -> None:
    assert await front.list_tools() == ["add_numbers"]
    text = await front.call("add_numbers", a=2, b=40)
    assert "42" in text, text


async def elicit(front: Front) -> None:
    await front.list_tools()
    text = await front.call("test_client_elicitation_defaults")
    assert "John Doe" in text, text
    assert front.questions == 1


async def reconnect(front: Front) -> None:
    await front.list_tools()
    text = await front.call("test_reconnection")
    assert "completed successfully" in text, text


async def echo_schema(front: Front) -> None:
    await front.list_tools()
    schema = front.tools["json_schema_2020_12_tool"]["inputSchema"]
    assert await front.call("json_schema_echo", schema=schema) == "echoed"


async def use_everything(front: Front) -> None:
    """Every method that has a name in it, so that each header is seen."""
    for name in await front.list_tools():
        await front.call(name)
    for resource in (await front.request("resources/list", {}))["resources"]:
        await front.request("resources/read", {"uri": resource["uri"]})
    for prompt in (await front.request("prompts/list", {}))["prompts"]:
        await front.request("prompts/get", {"name": prompt["name"]})


async def call_as_told(front: Front) -> None:
    await front.list_tools()
    for each in json.loads(os.environ["MCP_CONFORMANCE_CONTEXT"])["toolCalls"]:
        await front.call(each["name"], **each["arguments"])


async def call_what_is_listed(front: Front) -> None:
    """Of tools with wrong annotations nothing may be seen."""
    assert await front.list_tools() == ["valid_tool"]
    assert await front.call("valid_tool", region="us") == "Tool call received"


async def keep_states_apart(front: Front) -> None:
    """While one call waits for an answer, another one runs, and must see nothing of it."""

    async def unrelated() -> None:
        assert await front.call("test_mrtr_unrelated") == "unrelated-ok"

    await front.list_tools()
    front.meanwhile = unrelated
    assert await front.call("test_mrtr_echo_state") == "echo-state-ok"
    assert await front.call("test_mrtr_no_state") == "no-state-ok"
    assert await front.call("test_mrtr_no_result_type") == "no-result-type-test-ok"
    assert front.questions == 2


SCENES: dict[str, Scene] = {
    "initialize": look,
    "tools_call": add,
    "elicitation-sep1034-client-defaults": elicit,
    "sse-retry": reconnect,
    "json-schema-2020-12-preservation": echo_schema,
    "json-schema-ref-no-deref": look,
    "request-metadata": look,
    "http-standard-headers": use_everything,
    "http-custom-headers": call_as_told,
    "http-invalid-tool-headers": call_what_is_listed,
    "sep-2322-client-request-state": keep_states_apart,
}


async def main(front: str, url: str) -> None:
    scene = SCENES[os.environ["MCP_CONFORMANCE_SCENARIO"]]
    era = "modern" if os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"] >= MODERN_MOCK else "legacy"
    # A mock server is one session: what it has to say to a second one would be lost to the first.
    config = configuration({"url": url, "max_instances": 1}, front, era)
    with trio.fail_after(LIMIT):
        async with start_daemon(config) as daemon, HttpPeer(daemon.url) as peer:
            client = ModernFront(peer) if front == "modern" else LegacyFront(peer)
            try:
                await client.open()
                await scene(client)
                await client.close()
                print(DONE)
            finally:
                print(daemon.stderr, file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", choices=("legacy", "modern"), required=True)
    parser.add_argument("url")
    options = parser.parse_args()
    trio.run(main, options.front, options.url)
