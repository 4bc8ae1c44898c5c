"""A client built on the official Python SDK, version 2, in any of its modes. Run by the Python that has it."""

from __future__ import annotations

from contextlib import AsyncExitStack

from mcp import Client, types
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters
from program import Program, all_pages, main, plain, reference

HANDSHAKES = "2025-11-25"
"""The last version with sessions, subscriptions by request, and ping."""
SERVER_INFO = "io.modelcontextprotocol/serverInfo"


class SecondProgram(Program):
    async def connect(self, stack):
        client = await stack.enter_async_context(
            Client(
                self.server(),
                mode=self.target["mode"],
                sampling_callback=self.sample,
                elicitation_callback=self.elicit,
                list_roots_callback=self.roots,
                message_handler=self.hear,
                client_info=types.Implementation(name="interop-python", version="2"),
            )
        )
        self.client = client
        self.actions = {
            "tools/list": self.pages(client.list_tools),
            "resources/list": self.pages(client.list_resources),
            "resources/templates/list": self.pages(client.list_resource_templates),
            "prompts/list": self.pages(client.list_prompts),
            "tools/call": self.call,
            "resources/read": self.plainly(lambda p: client.read_resource(p["uri"])),
            "prompts/get": self.plainly(lambda p: client.get_prompt(p["name"], p.get("arguments"))),
            "completion/complete": self.plainly(
                lambda p: client.complete(reference(p), p["argument"], p.get("context"))
            ),
        }
        if client.protocol_version <= HANDSHAKES:
            self.actions |= {
                "resources/subscribe": self.plainly(lambda p: client.subscribe_resource(p["uri"])),
                "resources/unsubscribe": self.plainly(lambda p: client.unsubscribe_resource(p["uri"])),
                "logging/setLevel": self.plainly(lambda p: client.set_logging_level(p["level"])),
                "ping": self.plainly(lambda p: client.send_ping()),
            }
        else:
            self.subscriptions = {}
            self.actions |= {"resources/subscribe": self.subscribe, "resources/unsubscribe": self.unsubscribe}
            await stack.enter_async_context(
                client.listen(tools_list_changed=True, prompts_list_changed=True, resources_list_changed=True)
            )
            stack.push_async_callback(self.end_subscriptions)
            # With a fixed version the SDK asks the server nothing about itself.
            said = await client.session.send_discover(client.protocol_version)
            return {**said, "protocolVersion": client.protocol_version, "serverInfo": said["_meta"][SERVER_INFO]}
        return plain(client.session.initialize_result)

    def server(self):
        if self.target["transport"] == "stdio":
            command, *arguments = self.target["command"]
            return StdioServerParameters(command=command, args=arguments, env=self.target["env"])
        return sse_client(self.target["url"]) if self.target["transport"] == "sse" else self.target["url"]

    def plainly(self, do):
        async def act(id, params):
            return plain(await do(params))

        return act

    def pages(self, fetch):
        async def act(id, params):
            return await all_pages(lambda cursor: fetch(cursor=cursor))

        return act

    async def call(self, id, params):
        report = self.progress(id)
        return plain(await self.client.call_tool(params["name"], params["arguments"], progress_callback=report))

    async def subscribe(self, id, params):
        """A stream for each URI; the events come to `hear`."""
        stack = AsyncExitStack()
        await stack.enter_async_context(self.client.listen(resource_subscriptions=[params["uri"]]))
        self.subscriptions[params["uri"]] = stack
        return {}

    async def unsubscribe(self, id, params):
        await self.subscriptions.pop(params["uri"]).aclose()
        return {}

    async def end_subscriptions(self):
        for stack in self.subscriptions.values():
            await stack.aclose()


if __name__ == "__main__":
    main(SecondProgram)
