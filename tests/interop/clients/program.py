"""What the client programs for both versions of the official Python SDK share.

Their one argument says where to connect, and in which mode; tests/interop/client.py tells what their lines mean.
"""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import AsyncExitStack

import anyio
from mcp import types

ANSWER = "An answer of the client's own model."
FORM = {"name": "Ada", "integer": 7, "done": True}
"""What is entered in forms, where they have such a field."""


def say(**line):
    print(json.dumps(line), flush=True)


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class Program:
    """A client for the length of its standard input. A subclass knows one version of the SDK."""

    def __init__(self, target):
        self.target = target
        self.scopes = {}
        self.actions = {}
        """Method → coroutine function of the order's id and its params, giving the result."""

    async def connect(self, stack):
        """Opens the session and fills `actions`; returns what the server said of itself."""
        raise NotImplementedError

    async def before_cancelling(self, id):
        """What the SDK leaves to its user."""

    async def run(self):
        async with AsyncExitStack() as stack:
            say(ready=await self.connect(stack))
            tasks = await stack.enter_async_context(anyio.create_task_group())
            async for line in anyio.wrap_file(sys.stdin):
                order = json.loads(line)
                if "cancel" in order:
                    await self.before_cancelling(order["cancel"])
                    self.scopes[order["cancel"]].cancel()
                else:
                    tasks.start_soon(self.obey, order)

    async def obey(self, order):
        id = order["id"]
        with anyio.CancelScope() as scope:
            self.scopes[id] = scope
            try:
                result = await self.actions[order["method"]](id, order["params"])
            except Exception as error:
                say(id=id, error=f"{type(error).__name__}: {error}")
            else:
                say(id=id, result=result)
        if scope.cancelled_caught:
            say(id=id, cancelled=True)

    def progress(self, id):
        async def report(done, total, message):
            say(progress={"id": id, "progress": done, "total": total, "message": message})

        return report

    async def hear(self, message):
        if isinstance(message, Exception):
            say(notification={"method": "exception", "params": {"text": repr(message)}})
            return
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


async def all_pages(fetch):
    """A whole list, from a coroutine function of the cursor."""
    merged, cursor = {}, None
    while True:
        page = plain(await fetch(cursor))
        cursor = page.pop("nextCursor", None)
        for name, value in page.items():
            merged[name] = merged.get(name, []) + value if isinstance(value, list) else value
        if cursor is None:
            return merged


def reference(params):
    """What is to be completed, as the SDK's own type."""
    kind = types.PromptReference if params["ref"]["type"] == "ref/prompt" else types.ResourceTemplateReference
    return kind(**params["ref"])


def main(program):
    # What the 2026-07-28 revision took out still works, and is a part of what these programs are for.
    warnings.simplefilter("ignore", DeprecationWarning)
    anyio.run(program(json.loads(sys.argv[1])).run)
