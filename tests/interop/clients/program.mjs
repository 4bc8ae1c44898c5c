// What the client programs for both versions of the official TypeScript SDK share. It is copied, with the program,
// next to the installed SDK before it is run. tests/interop/client.py tells what the lines mean.

import { createInterface } from "node:readline";

const ANSWER = "An answer of the client's own model.";
const FORM = { name: "Ada", integer: 7, done: true }; // What is entered in forms, where they have such a field.
export const target = JSON.parse(process.argv[2]);
export const capabilities = { sampling: {}, elicitation: { form: {}, url: {} }, roots: { listChanged: true } };
const aborts = new Map();

export function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

export function makeTransport({ Stdio, Sse, StreamableHttp }) {
  if (target.transport === "stdio") {
    const [command, ...args] = target.command;
    return new Stdio({ command, args, env: { ...process.env, ...target.env }, stderr: "inherit" });
  }
  const url = new URL(target.url);
  return target.transport === "sse" ? new Sse(url) : new StreamableHttp(url);
}

// Method → what answers the server's question.
export const answers = {
  "sampling/createMessage": ({ method, params }) => {
    say({ question: { method, params } });
    return { role: "assistant", content: { type: "text", text: ANSWER }, model: "interop-model" };
  },
  "elicitation/create": ({ method, params }) => {
    say({ question: { method, params } });
    if (params.mode === "url") return { action: "accept" };
    const fields = params.requestedSchema.properties;
    return { action: "accept", content: Object.fromEntries(Object.entries(FORM).filter(([name]) => name in fields)) };
  },
  "roots/list": ({ method }) => {
    say({ question: { method, params: {} } });
    return { roots: [{ uri: target.root, name: "interop root" }] };
  },
};

export function reports(id) {
  return ({ progress, total, message }) => say({ progress: { id, progress, total, message } });
}

export function hear(client) {
  client.fallbackNotificationHandler = async ({ method, params }) => say({ notification: { method, params } });
  client.onerror = (error) => console.error(`client error: ${error.message}`);
}

// What both versions do in the same words: method → function of the params, the order's id and its abort signal.
export function commonActions(client) {
  return {
    "resources/read": (params) => client.readResource(params),
    "prompts/get": (params) => client.getPrompt(params),
    "completion/complete": ({ ref, argument, context }) =>
      client.complete({ ref, argument, ...(context && { context: { arguments: context } }) }),
    "resources/subscribe": (params) => client.subscribeResource(params),
    "resources/unsubscribe": (params) => client.unsubscribeResource(params),
    "logging/setLevel": ({ level }) => client.setLoggingLevel(level),
    ping: () => client.ping(),
  };
}

export async function serve(actions) {
  async function obey({ id, method, params }) {
    const abort = new AbortController();
    aborts.set(id, abort);
    try {
      say({ id, result: await actions[method](params, id, abort.signal) });
    } catch (error) {
      say(abort.signal.aborted ? { id, cancelled: true } : { id, error: `${error.name}: ${error.message}` });
    }
  }

  for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    if ("cancel" in order) aborts.get(order.cancel).abort("interop");
    else obey(order);
  }
}
