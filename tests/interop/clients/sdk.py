"""A client built on the official Python SDK, version 1 or 2. Run by the Python that has it installed.

Its one argument says where to connect; what its lines mean is told in tests/interop/client.py.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import warnings
from contextlib import AsyncExitStack

import anyio
from mcp import types
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

FIRST = importlib.metadata.version("mcp").startswith("1.")
LISTS = {
    "tools/list": "list_tools",
    "resources/list": "list_resources",
    "resources/templates/list": "list_resource_templates",
    "prompts/list": "list_prompts",
}
ANSWER = "An answer of the client's own model."
FORM = {"name": "Ada", "integer": 7, "done": True}
"""What is entered in forms, where they have such a field."""


def say(**line):
    print(json.dumps(line), flush=True)


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class Program:
    def __init__(self, target):
        self.target = target
        self.scopes = {}
        self.wire_ids = {}
        self.session = None
        self.tasks = None

    async def run(self):
        async with AsyncExitStack() as stack:
            read, write, *_ = await stack.enter_async_context(self.transport())
            self.session = await stack.enter_async_context(
                ClientSession(
                    read,
                    write,
                    sampling_callback=self.sample,
                    elicitation_callback=self.elicit,
                    list_roots_callback=self.roots,
                    message_handler=self.hear,
                    client_info=types.Implementation(name="interop-python", version="1"),
                )
            )
            say(ready=plain(await self.session.initialize()))
            self.tasks = await stack.enter_async_context(anyio.create_task_group())
            async for line in anyio.wrap_file(sys.stdin):
                order = json.loads(line)
                if "cancel" in order:
                    await self.cancel(order["cancel"])
                else:
                    self.tasks.start_soon(self.obey, order)

    def transport(self):
        if self.target["transport"] == "stdio":
            command, *arguments = self.target["command"]
            return stdio_client(StdioServerParameters(command=command, args=arguments, env=self.target["env"]))
        if self.target["transport"] == "sse":
            return sse_client(self.target["url"])
        return streamable_http_client(self.target["url"])

    async def obey(self, order):
        id = order["id"]
        with anyio.CancelScope() as scope:
            self.scopes[id] = scope
            try:
                result = await self.act(id, order["method"], order["params"])
            except Exception as error:
                say(id=id, error=f"{type(error).__name__}: {error}")
            else:
                say(id=id, result=result)
        if scope.cancelled_caught:
            say(id=id, cancelled=True)

    async def cancel(self, id):
        if FIRST:  # Version 2 tells the server when the task that waits is cancelled; version 1 leaves it to us.
            params = types.CancelledNotificationParams(requestId=self.wire_ids[id], reason="interop")
            await self.session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
        self.scopes[id].cancel()

    async def act(self, id, method, params):
        session = self.session
        if method in LISTS:
            return await self.all_pages(getattr(session, LISTS[method]))
        if method == "tools/call":

            async def progress(done, total, message):
                say(progress={"id": id, "progress": done, "total": total, "message": message})

            self.wire_ids[id] = getattr(session, "_request_id", None)
            return plain(await session.call_tool(params["name"], params["arguments"], progress_callback=progress))
        if method == "resources/read":
            return plain(await session.read_resource(params["uri"]))
        if method == "resources/subscribe":
            return plain(await session.subscribe_resource(params["uri"]))
        if method == "resources/unsubscribe":
            return plain(await session.unsubscribe_resource(params["uri"]))
        if method == "prompts/get":
            return plain(await session.get_prompt(params["name"], params.get("arguments")))
        if method == "completion/complete":
            kind = types.PromptReference if params["ref"]["type"] == "ref/prompt" else types.ResourceTemplateReference
            return plain(await session.complete(kind(**params["ref"]), params["argument"], params.get("context")))
        if method == "logging/setLevel":
            return plain(await session.set_logging_level(params["level"]))
        if method == "ping":
            return plain(await session.send_ping())
        raise ValueError(f"this client does not know {method}")

    async def all_pages(self, fetch):
        merged, cursor = {}, None
        while True:
            page = plain(await fetch(params=types.PaginatedRequestParams(cursor=cursor) if cursor else None))
            cursor = page.pop("nextCursor", None)
            for name, value in page.items():
                merged[name] = merged.get(name, []) + value if isinstance(value, list) else value
            if cursor is None:
                return merged

    async def hear(self, message):
        if isinstance(message, Exception):
            say(notification={"method": "exception", "params": {"text": repr(message)}})
            return
        if FIRST and not isinstance(message, types.ServerNotification):
            return  # A question: version 1 shows those here, too.
        said = plain(message)
        if said["method"] != "notifications/progress":
            say(notification=said)

    async def sample(self, context, params):
        say(question={"method": "sampling/createMessage", "params": plain(params)})
        content = types.TextContent(type="text", text=ANSWER)
        return types.CreateMessageResult(role="assistant", content=content, model="interop-model")

    async def elicit(self, context, params):
        asked = plain(params)
        say(question={"method": "elicitation/create", "params": asked})
        fields = asked.get("requestedSchema", {}).get("properties", {})
        content = {name: value for name, value in FORM.items() if name in fields} if fields else None
        return types.ElicitResult(action="accept", content=content)

    async def roots(self, context):
        say(question={"method": "roots/list", "params": {}})
        return types.ListRootsResult(roots=[types.Root(uri=self.target["root"], name="interop root")])


if __name__ == "__main__":
    # What the 2026-07-28 revision took out still works, and is what this program is for.
    warnings.simplefilter("ignore", DeprecationWarning)
    anyio.run(Program(json.loads(sys.argv[1])).run)
