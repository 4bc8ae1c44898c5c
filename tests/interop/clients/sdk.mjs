// A client built on the official TypeScript SDK, version 1. It is copied next to the installed SDK before it is run.
// Its one argument says where to connect; what its lines mean is told in tests/interop/client.py.

import { createInterface } from "node:readline";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";

const ANSWER = "An answer of the client's own model.";
const FORM = { name: "Ada", integer: 7, done: true }; // What is entered in forms, where they have such a field.
const target = JSON.parse(process.argv[2]);
const aborts = new Map();

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function makeTransport() {
  if (target.transport === "stdio") {
    const [command, ...args] = target.command;
    return new StdioClientTransport({ command, args, env: { ...process.env, ...target.env }, stderr: "inherit" });
  }
  const url = new URL(target.url);
  return target.transport === "sse" ? new SSEClientTransport(url) : new StreamableHTTPClientTransport(url);
}

const client = new Client(
  { name: "interop-typescript", version: "1" },
  { capabilities: { sampling: {}, elicitation: { form: {}, url: {} }, roots: { listChanged: true } } },
);
client.setRequestHandler(CreateMessageRequestSchema, ({ method, params }) => {
  say({ question: { method, params } });
  return { role: "assistant", content: { type: "text", text: ANSWER }, model: "interop-model" };
});
client.setRequestHandler(ElicitRequestSchema, ({ method, params }) => {
  say({ question: { method, params } });
  if (params.mode === "url") return { action: "accept" };
  const fields = params.requestedSchema.properties;
  return { action: "accept", content: Object.fromEntries(Object.entries(FORM).filter(([name]) => name in fields)) };
});
client.setRequestHandler(ListRootsRequestSchema, ({ method }) => {
  say({ question: { method, params: {} } });
  return { roots: [{ uri: target.root, name: "interop root" }] };
});
client.fallbackNotificationHandler = async ({ method, params }) => say({ notification: { method, params } });
client.onerror = (error) => console.error(`client error: ${error.message}`);

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

const actions = {
  "tools/list": () => allPages((params) => client.listTools(params)),
  "resources/list": () => allPages((params) => client.listResources(params)),
  "resources/templates/list": () => allPages((params) => client.listResourceTemplates(params)),
  "prompts/list": () => allPages((params) => client.listPrompts(params)),
  "tools/call": (params, id, signal) =>
    client.callTool(params, undefined, {
      signal,
      onprogress: ({ progress, total, message }) => say({ progress: { id, progress, total, message } }),
    }),
  "resources/read": (params) => client.readResource(params),
  "resources/subscribe": (params) => client.subscribeResource(params),
  "resources/unsubscribe": (params) => client.unsubscribeResource(params),
  "prompts/get": (params) => client.getPrompt(params),
  "completion/complete": ({ ref, argument, context }) =>
    client.complete({ ref, argument, ...(context && { context: { arguments: context } }) }),
  "logging/setLevel": ({ level }) => client.setLoggingLevel(level),
  ping: () => client.ping(),
};

async function obey({ id, method, params }) {
  const abort = new AbortController();
  aborts.set(id, abort);
  try {
    say({ id, result: await actions[method](params, id, abort.signal) });
  } catch (error) {
    say(abort.signal.aborted ? { id, cancelled: true } : { id, error: `${error.name}: ${error.message}` });
  }
}

const transport = makeTransport();
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
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if ("cancel" in order) aborts.get(order.cancel).abort("interop");
  else obey(order);
}
if (transport instanceof StreamableHTTPClientTransport) await transport.terminateSession();
await client.close();
