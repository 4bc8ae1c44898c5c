"""A gateway written the obvious way on the official Python SDK: the peer most people would write themselves.

    python sdk_gateway.py PORT BACKENDS.json        {"be": {"command": [...]} | {"url": "..."}, ...}

One client session per backend, opened at start and shared by everybody; tools under `<backend>_<tool>`; one
lookup and one `send_request` a call. Two choices are in its favour: results are not validated against the
tool's output schema, and answers are plain JSON and no event streams. Nothing else is tuned.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcp_types as types
import uvicorn
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_BODY = 64 << 20  # the SDK's default would refuse the 10 MiB argument
MAX_SESSIONS = 100_000  # the SDK's default is 10,000, which the benchmark reaches


def main() -> None:
    port, backends = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    sessions: dict[str, ClientSession] = {}
    tools: list[types.Tool] = []
    routes: dict[str, tuple[ClientSession, str]] = {}

    async def connect(stack: contextlib.AsyncExitStack, name: str, spec: dict[str, Any]) -> None:
        if "command" in spec:
            command, *arguments = spec["command"]
            streams = stdio_client(StdioServerParameters(command=command, args=arguments))
        else:
            streams = streamable_http_client(spec["url"])
        read, write = await stack.enter_async_context(streams)
        session = sessions[name] = await stack.enter_async_context(ClientSession(read, write))
        await session.initialize()
        for tool in (await session.list_tools()).tools:
            exposed = f"{name}_{tool.name}"
            routes[exposed] = (session, tool.name)
            tools.append(tool.model_copy(update={"name": exposed}))

    @contextlib.asynccontextmanager
    async def lifespan(_: Server[Any]) -> AsyncIterator[dict[str, Any]]:
        async with contextlib.AsyncExitStack() as stack:
            for name, spec in backends.items():
                await connect(stack, name, spec)
            yield {}

    async def list_tools(_context: object, _params: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(_context: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        session, name = routes[params.name]
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=params.arguments))
        return await session.send_request(request, types.CallToolResult)

    server = Server("sdk-gateway", on_list_tools=list_tools, on_call_tool=call_tool, lifespan=lifespan)
    app = server.streamable_http_app(json_response=True, max_request_body_size=MAX_BODY, max_sessions=MAX_SESSIONS)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


main()
