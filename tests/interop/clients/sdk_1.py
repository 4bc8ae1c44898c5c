"""A client built on the official Python SDK, version 1. Run by the Python that has it installed."""

from __future__ import annotations

from mcp import types
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from program import Program, all_pages, main, plain, reference


class FirstProgram(Program):
    async def connect(self, stack):
        read, write, *_ = await stack.enter_async_context(self.transport())
        self.session = session = await stack.enter_async_context(
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
        hello = plain(await session.initialize())
        self.wire_ids = {}
        self.actions = {
            "tools/list": self.pages(session.list_tools),
            "resources/list": self.pages(session.list_resources),
            "resources/templates/list": self.pages(session.list_resource_templates),
            "prompts/list": self.pages(session.list_prompts),
            "tools/call": self.call,
            "resources/read": self.plainly(lambda p: session.read_resource(p["uri"])),
            "resources/subscribe": self.plainly(lambda p: session.subscribe_resource(p["uri"])),
            "resources/unsubscribe": self.plainly(lambda p: session.unsubscribe_resource(p["uri"])),
            "prompts/get": self.plainly(lambda p: session.get_prompt(p["name"], p.get("arguments"))),
            "completion/complete": self.plainly(
                lambda p: session.complete(reference(p), p["argument"], p.get("context"))
            ),
            "logging/setLevel": self.plainly(lambda p: session.set_logging_level(p["level"])),
            "ping": self.plainly(lambda p: session.send_ping()),
        }
        return hello

    def transport(self):
        if self.target["transport"] == "stdio":
            command, *arguments = self.target["command"]
            return stdio_client(StdioServerParameters(command=command, args=arguments, env=self.target["env"]))
        if self.target["transport"] == "sse":
            return sse_client(self.target["url"])
        return streamable_http_client(self.target["url"])

    def plainly(self, do):
        async def act(id, params):
            return plain(await do(params))

        return act

    def pages(self, fetch):
        async def act(id, params):
            return await all_pages(lambda cursor: fetch(params=types.PaginatedRequestParams(cursor=cursor)))

        return act

    async def call(self, id, params):
        self.wire_ids[id] = self.session._request_id
        report = self.progress(id)
        return plain(await self.session.call_tool(params["name"], params["arguments"], progress_callback=report))

    async def before_cancelling(self, id):
        params = types.CancelledNotificationParams(requestId=self.wire_ids[id], reason="interop")
        await self.session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))

    async def hear(self, message):
        if isinstance(message, (Exception, types.ServerNotification)):  # The rest are questions, shown here, too.
            await super().hear(message)


if __name__ == "__main__":
    main(FirstProgram)
