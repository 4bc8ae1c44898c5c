// A client built on the official TypeScript SDK, version 1.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { answers, capabilities, commonActions, hear, makeTransport, reports, say, serve } from "./program.mjs";

async function allPages(fetch) {
  const merged = {};
  for (let cursor; ; ) {
    const { nextCursor, ...page } = await fetch(cursor ? { cursor } : undefined);
    for (const [name, value] of Object.entries(page)) {
      merged[name] = Array.isArray(value) ? [...(merged[name] ?? []), ...value] : value;
    }
    if (!(cursor = nextCursor)) return merged;
  }
}

const client = new Client({ name: "interop-typescript", version: "1" }, { capabilities });
client.setRequestHandler(CreateMessageRequestSchema, answers["sampling/createMessage"]);
client.setRequestHandler(ElicitRequestSchema, answers["elicitation/create"]);
client.setRequestHandler(ListRootsRequestSchema, answers["roots/list"]);
hear(client);

const transport = makeTransport({
  Stdio: StdioClientTransport,
  Sse: SSEClientTransport,
  StreamableHttp: StreamableHTTPClientTransport,
});
let version;
const keepVersion = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (agreed) => {
  version = agreed;
  keepVersion?.(agreed);
};
await client.connect(transport);
// The SDK keeps the parts of the result of initialize apart.
say({
  ready: {
    protocolVersion: version,
    capabilities: client.getServerCapabilities(),
    serverInfo: client.getServerVersion(),
    instructions: client.getInstructions(),
  },
});
await serve({
  ...commonActions(client),
  "tools/list": () => allPages((params) => client.listTools(params)),
  "resources/list": () => allPages((params) => client.listResources(params)),
  "resources/templates/list": () => allPages((params) => client.listResourceTemplates(params)),
  "prompts/list": () => allPages((params) => client.listPrompts(params)),
  "tools/call": (params, id, signal) => client.callTool(params, undefined, { signal, onprogress: reports(id) }),
});
if (transport instanceof StreamableHTTPClientTransport) await transport.terminateSession();
await client.close();
