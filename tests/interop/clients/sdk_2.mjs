// A client built on the official TypeScript SDK, version 2, in any of its modes.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { answers, capabilities, commonActions, hear, makeTransport, reports, say, serve, target } from "./program.mjs";

const mode = ["legacy", "auto"].includes(target.mode) ? target.mode : { pin: target.mode };
const client = new Client({ name: "interop-typescript", version: "2" }, { capabilities, versionNegotiation: { mode } });
for (const [method, answer] of Object.entries(answers)) client.setRequestHandler(method, answer);
hear(client);

const transport = makeTransport({
  Stdio: StdioClientTransport,
  Sse: SSEClientTransport,
  StreamableHttp: StreamableHTTPClientTransport,
});
await client.connect(transport);
const actions = {
  ...commonActions(client),
  "tools/list": () => client.listTools(),
  "resources/list": () => client.listResources(),
  "resources/templates/list": () => client.listResourceTemplates(),
  "prompts/list": () => client.listPrompts(),
  "tools/call": (params, id, signal) => client.callTool(params, { signal, onprogress: reports(id) }),
};
const subscriptions = new Map();
if (client.getProtocolEra() === "modern") {
  const lists = { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true };
  subscriptions.set("", await client.listen(lists));
  // A stream for each URI; what comes on it goes to the same handler.
  actions["resources/subscribe"] = async ({ uri }) => {
    subscriptions.set(uri, await client.listen({ resourceSubscriptions: [uri] }));
    return {};
  };
  actions["resources/unsubscribe"] = async ({ uri }) => {
    await subscriptions.get(uri).close();
    subscriptions.delete(uri);
    return {};
  };
}
say({
  ready: {
    protocolVersion: client.getNegotiatedProtocolVersion(),
    capabilities: client.getServerCapabilities(),
    serverInfo: client.getServerVersion(),
    instructions: client.getInstructions(),
  },
});
await serve(actions);
for (const subscription of subscriptions.values()) await subscription.close();
if (client.getProtocolEra() === "legacy") await transport.terminateSession?.();
await client.close();
