"""What every client must see of real servers through mcpd: the rows of the matrix, and what is left out.

A check takes a `Visit` and returns when all is as it must be; it raises ClientFailure otherwise. The servers
are shared by all clients, so whatever a check makes has the visit's tag in its name.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from tests.fixtures.peer import LATEST, MODERN
from tests.interop.client import ClientFailure, ProgramClient
from tests.interop.place import PAGE_TEXT
from tests.interop.server_checks import (
    check_environment,
    check_everything,
    check_fetch,
    check_filesystem,
    check_git,
    check_memory,
    check_playwright,
    check_sqlite,
    check_thinking,
    check_time,
)
from tests.interop.visit import Visit, expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What all common clients accept as a tool's name."""
TOOLS = {
    "everything": (17, {"echo", "get-sum", "trigger-sampling-request", "trigger-elicitation-request"}),
    "filesystem": (14, {"read_text_file", "write_file", "list_directory"}),
    "memory": (9, {"create_entities", "read_graph"}),
    "thinking": (1, {"sequentialthinking"}),
    "playwright": (25, {"browser_navigate", "browser_close"}),
    "time": (2, {"get_current_time", "convert_time"}),
    "git": (12, {"git_status", "git_log"}),
    "fetch": (1, {"fetch"}),
    "sqlite": (6, {"create_table", "write_query", "read_query"}),
    "own": (17, {"get-roots-list", "toggle-simulated-logging"}),
}
"""Server → how many tools it has, and some of them. `everything` has four for what it can ask of clients."""
ANSWERS_DISCOVER = {"time", "git", "fetch"}
"""Servers that speak 2026-07-28 to whoever asks for it; the others know handshakes only."""
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
DOCUMENT = "demo://resource/static/document/features.md"
GRAPH = "memory://knowledge-graph"
INSIGHTS = "memo://insights"
LISTS_AFRESH = 20
"""How often a list is asked for again after `list_changed`: each of ten servers may be late by itself."""
LISTS_ANEW = 3
"""The same for a client that hears no news, and on stdio starts a new mcpd each time, with ten servers."""
LOSES_LAST_REPORT = "typescript"
"""The SDK whose clients forget who waits for progress when the answer comes, before they have looked at a report that
was read together with it. Directly in front of server-everything they lose the last one, too."""


async def check_initialize(visit: Visit) -> None:
    hello = visit.client.server
    expect(hello.get("protocolVersion") == visit.version, f"agreed on {hello.get('protocolVersion')}")
    expect(hello["serverInfo"]["name"] == "mcpd", f"the server is {hello['serverInfo']}")
    offered = {"tools", "resources", "prompts", "logging", "completions"}
    expect(offered <= hello["capabilities"].keys(), f"capabilities are {hello['capabilities']}")


async def check_eras(visit: Visit) -> None:
    """Each server is spoken to in the newest version it knows, whatever the client speaks."""
    expected = {name: MODERN if name in ANSWERS_DISCOVER else LATEST for name in TOOLS}
    reached = await visit.reached()
    wrong = [f"{name} as {reached.get(name)}" for name in expected if reached.get(name) != expected[name]]
    expect(not wrong, f"reached {', '.join(wrong)}")


async def check_ping(visit: Visit) -> None:
    expect(await visit.client.request("ping") == {}, "the answer is not empty")


async def check_tools(visit: Visit) -> None:
    tools = await wait_list(visit, "tools/list", "tools", lambda all: missing_tools([t["name"] for t in all]))
    names = [tool["name"] for tool in tools]
    expect(len(set(names)) == len(names), "a name is there twice")
    strange = [name for name in names if not NAME.fullmatch(name)]
    expect(not strange, f"names that clients refuse: {strange}")


async def wait_list(visit: Visit, method: str, key: str, missing: Callable[[list[Any]], str]) -> list[dict[str, Any]]:
    """A list with nothing missing. mcpd does not wait long for servers that start; it tells of them later."""
    tries = LISTS_AFRESH if isinstance(visit.client, ProgramClient) else LISTS_ANEW
    for at in range(tries):
        entries = (await visit.client.request(method))[key]
        lack = missing(entries)
        if not lack:
            if at:
                visit.client.remarks.append(f"{method} was complete at attempt {at + 1}")
            return entries
        if isinstance(visit.client, ProgramClient):
            try:
                await visit.client.wait_notification(f"notifications/{method.split('/')[0]}/list_changed")
            except ClientFailure as failure:
                raise ClientFailure(f"missing: {lack}; {failure}") from None
    raise ClientFailure(f"missing after {tries} attempts: {lack}")


def without(wanted: set[str], member: str) -> Callable[[list[Any]], str]:
    """What of `wanted` is not among the entries' members, in words; empty when all are."""
    return lambda entries: ", ".join(sorted(wanted - {entry[member] for entry in entries}))


def missing_tools(names: list[str]) -> str:
    """Which servers' tools are not all in a list."""
    wrong = []
    for server, (count, some) in TOOLS.items():
        found = {name.removeprefix(f"{server}_") for name in names if name.startswith(f"{server}_")}
        if len(found) != count or not some <= found:
            wrong.append(f"{server} has {len(found)} of {count} {sorted(some - found) or ''}".strip())
    return ", ".join(wrong)


async def check_progress(visit: Visit) -> None:
    tool = "everything_trigger-long-running-operation"
    result, reports = await visit.program.call_with_progress(tool, duration=0.5, steps=5)
    expect("completed" in result["content"][0]["text"], f"the result is {result}")
    # The TypeScript SDK 2 reports of its own when it answers a question meanwhile, without a total.
    steps = [(report["progress"], report["total"]) for report in reports if "total" in report]
    expected = [(step, 5) for step in range(1, 6)]
    lost = visit.name.startswith(LOSES_LAST_REPORT) and steps == expected[:-1]
    expect(steps == expected or lost, f"progress was {steps}")


async def check_cancel(visit: Visit) -> None:
    """The call ends at once, later ones work, and nothing more is heard of the cancelled one."""
    client = visit.program
    heard = await client.cancel_call("everything_trigger-long-running-operation", duration=20, steps=200)
    await client.text("everything_echo", message="after the cancellation")
    before = heard()
    result, _ = await client.call_with_progress("everything_trigger-long-running-operation", duration=0.5, steps=2)
    expect("completed" in result["content"][0]["text"], f"a call afterwards gave {result}")
    expect(heard() == before, f"{heard() - before} more reports of progress after the cancellation")


async def check_sampling(visit: Visit) -> None:
    text = await visit.client.text("everything_trigger-sampling-request", prompt=visit.tag, maxTokens=20)
    asked = question(visit, "sampling/createMessage")
    expect(visit.tag in json.dumps(asked["messages"]), f"the client was asked {asked}")
    expect("An answer of the client's own model." in text, f"the server got {text}")


async def check_elicitation(visit: Visit) -> None:
    text = await visit.client.text("everything_trigger-elicitation-request")
    asked = question(visit, "elicitation/create")
    expect("Please provide inputs" in asked["message"], f"the message is {asked['message']}")
    expect("birthdate" in asked["requestedSchema"]["properties"], f"the schema is {asked['requestedSchema']}")
    expect("Name: Ada" in text and "Favorite Integer: 7" in text, f"the server got {text}")


async def check_url_elicitation(visit: Visit) -> None:
    url = f"https://example.org/{visit.tag}"
    text = await visit.client.text("everything_trigger-url-elicitation", url=url, message="Please look at")
    asked = question(visit, "elicitation/create")
    expect(asked.get("mode") == "url" and asked.get("url") == url, f"the client was asked {asked}")
    expect("completed the URL elicitation" in text, f"the server got {text}")


async def check_roots(visit: Visit) -> None:
    text = await visit.client.text("own_get-roots-list")
    expect(visit.place.root(visit.tag) in text, f"the server knows {text}")
    expect(any(asked["method"] == "roots/list" for asked in visit.client.questions), "nobody asked the client")


def question(visit: Visit, method: str) -> dict[str, Any]:
    """The params of the last question with this method."""
    found = [asked["params"] for asked in visit.client.questions if asked["method"] == method]
    expect(found, f"the client was not asked {method}")
    return found[-1]


async def check_resources(visit: Visit) -> None:
    client = visit.client
    await client.text("sqlite_append_insight", insight=f"{visit.tag} looked")
    await wait_list(visit, "resources/list", "resources", without({DOCUMENT, GRAPH, INSIGHTS}, "uri"))
    # The memo is in the server's memory.
    memo = f"{visit.tag} looked" if visit.lasting else "No business insights"
    for uri, words in ((DOCUMENT, "Everything"), (GRAPH, "entities"), (INSIGHTS, memo)):
        contents = (await client.request("resources/read", {"uri": uri}))["contents"]
        expect(contents[0]["uri"] == uri and words in contents[0]["text"], f"{uri} has {contents}")


async def check_templates(visit: Visit) -> None:
    client = visit.client
    wanted = without({"demo://resource/dynamic/text/{resourceId}"}, "uriTemplate")
    await wait_list(visit, "resources/templates/list", "resourceTemplates", wanted)
    read = await client.request("resources/read", {"uri": "demo://resource/dynamic/text/7"})
    expect("Resource 7" in read["contents"][0]["text"], f"the text is {read}")
    read = await client.request("resources/read", {"uri": "demo://resource/dynamic/blob/8"})
    blob = base64.b64decode(read["contents"][0]["blob"]).decode()
    expect("Resource 8" in blob, f"the blob is {blob}")


async def check_prompts(visit: Visit) -> None:
    client = visit.client
    names = {"everything_args-prompt", "fetch_fetch", "sqlite_mcp-demo"}
    await wait_list(visit, "prompts/list", "prompts", without(names, "name"))
    wanted = {"name": "everything_args-prompt", "arguments": {"city": "Paris", "state": "Texas"}}
    content = (await client.request("prompts/get", wanted))["messages"][0]["content"]
    expect(content["text"] == "What's weather in Paris, Texas?", f"the prompt is {content}")
    wanted = {"name": "fetch_fetch", "arguments": {"url": visit.place.page_url}}
    got = json.dumps(await client.request("prompts/get", wanted))
    expect(PAGE_TEXT in got, f"the prompt is {got}")


async def check_completion(visit: Visit) -> None:
    async def complete(ref: dict[str, str], argument: dict[str, str], **context: str) -> list[str]:
        params = {"ref": ref, "argument": argument, "context": context or None}
        return (await visit.client.request("completion/complete", params))["completion"]["values"]

    prompt = {"type": "ref/prompt", "name": "everything_completable-prompt"}
    values = await complete(prompt, {"name": "department", "value": "E"})
    expect(values == ["Engineering"], f"of departments: {values}")
    values = await complete(prompt, {"name": "name", "value": "E"}, department="Sales")
    expect(values == ["Eve"], f"with the department in the context: {values}")
    template = {"type": "ref/resource", "uri": "demo://resource/dynamic/text/{resourceId}"}
    values = await complete(template, {"name": "resourceId", "value": "7"})
    expect(values == ["7"], f"of a template: {values}")


async def check_subscription(visit: Visit) -> None:
    """An update of what is subscribed to comes; afterwards none does."""
    client = visit.program
    await client.request("resources/subscribe", {"uri": GRAPH})
    entity = {"name": f"{visit.tag} again", "entityType": "client", "observations": []}
    await client.text("memory_create_entities", entities=[entity])
    await client.wait_notification("notifications/resources/updated", uri=GRAPH)
    await client.request("resources/unsubscribe", {"uri": GRAPH})
    client.notifications.clear()
    await client.request("resources/subscribe", {"uri": DOCUMENT})
    await client.text("memory_create_entities", entities=[{**entity, "name": f"{visit.tag} once more"}])
    toggle = "everything_toggle-subscriber-updates"
    if (await client.text(toggle)).startswith("Stopped"):
        await client.text(toggle)  # Another client left it on.
    await client.wait_notification("notifications/resources/updated", uri=DOCUMENT)
    await client.text(toggle)
    await client.request("resources/unsubscribe", {"uri": DOCUMENT})
    updated = [each["params"]["uri"] for each in client.notifications if each["method"].endswith("/updated")]
    expect(GRAPH not in updated, "an update came after unsubscribing")


async def check_list_changed(visit: Visit) -> None:
    """A server gains a resource: the client hears of it, lists it and reads it."""
    client, name = visit.program, f"{visit.tag}.gz"
    client.notifications.clear()
    packed = await client.call("everything_gzip-file-as-resource", name=name, data="data:text/plain,herons")
    expect(not packed.get("isError"), f"the tool gave {packed}")
    await client.wait_notification("notifications/resources/list_changed")
    listed = (await client.request("resources/list"))["resources"]
    found = [resource["uri"] for resource in listed if resource["uri"].endswith(name)]
    expect(len(found) == 1, f"the list has {[resource['uri'] for resource in listed]}")
    read = await client.request("resources/read", {"uri": found[0]})
    expect(base64.b64decode(read["contents"][0]["blob"]).startswith(b"\x1f\x8b"), f"it reads {read}")


async def check_log_level(visit: Visit) -> None:
    result = await visit.client.request("logging/setLevel", {"level": "error"})
    expect(result == {}, f"the answer is {result}")


async def check_log_messages(visit: Visit) -> None:
    """They come, and none below the level the client has set."""
    client = visit.program
    await client.request("logging/setLevel", {"level": "debug"})
    await client.text("own_toggle-simulated-logging")
    await client.wait_notification("notifications/message")
    await client.text("own_toggle-simulated-logging")
    await client.request("logging/setLevel", {"level": "emergency"})
    client.notifications.clear()
    await client.text("own_toggle-simulated-logging")
    await client.text("own_toggle-simulated-logging")
    messages = [each["params"] for each in client.notifications if each["method"] == "notifications/message"]
    low = [each for each in messages if LEVELS.index(each["level"]) < LEVELS.index("emergency")]
    expect(not low, f"below the level: {low}")


async def check_errors(visit: Visit) -> None:
    """What is unknown is an error that names it; a wrong argument gives the server's own error."""
    for method, params, word in (
        ("tools/call", {"name": "no_such_tool", "arguments": {}}, "no_such_tool"),
        ("resources/read", {"uri": "demo://no/such"}, "no/such"),
    ):
        try:
            result = await visit.client.request(method, params)
        except ClientFailure as failure:
            expect(word in str(failure), f"{method} says only {failure}")
        else:
            raise ClientFailure(f"{method} of what does not exist gave {result}")
    result = await visit.client.call("time_get_current_time", timezone="Nowhere/At_All")
    expect(result.get("isError") and "Nowhere" in json.dumps(result), f"a wrong time zone gave {result}")


CHECKS: dict[str, Callable[[Visit], Awaitable[None]]] = {
    "initialize": check_initialize,
    "tools": check_tools,
    "eras": check_eras,
    "ping": check_ping,
    "everything": check_everything,
    "environment": check_environment,
    "progress": check_progress,
    "cancel": check_cancel,
    "sampling": check_sampling,
    "elicitation": check_elicitation,
    "url-elicitation": check_url_elicitation,
    "roots": check_roots,
    "filesystem": check_filesystem,
    "memory": check_memory,
    "thinking": check_thinking,
    "playwright": check_playwright,
    "time": check_time,
    "git": check_git,
    "fetch": check_fetch,
    "sqlite": check_sqlite,
    "resources": check_resources,
    "templates": check_templates,
    "prompts": check_prompts,
    "completion": check_completion,
    "subscription": check_subscription,
    "list-changed": check_list_changed,
    "log-level": check_log_level,
    "log-messages": check_log_messages,
    "errors": check_errors,
}

ONE_SHOT = "every request is a session of its own, and what the server says besides its answer is not shown"
ANSWERS_NOTHING = "it declares no capability to be asked for anything"
NO_COMMAND = "it has no command for it"

LEFT_OUT: dict[tuple[str, str], str] = {
    ("inspector", "initialize"): "it does not show the result",
    ("inspector", "ping"): NO_COMMAND,
    ("inspector", "progress"): ONE_SHOT,
    ("inspector", "cancel"): NO_COMMAND,
    ("inspector", "sampling"): ANSWERS_NOTHING,
    ("inspector", "elicitation"): ANSWERS_NOTHING,
    ("inspector", "url-elicitation"): ANSWERS_NOTHING,
    ("inspector", "roots"): ANSWERS_NOTHING,
    ("inspector", "completion"): NO_COMMAND,
    ("inspector", "subscription"): NO_COMMAND,
    ("inspector", "list-changed"): ONE_SHOT,
    ("inspector", "log-messages"): ONE_SHOT,
}
"""(client, check) → why the client cannot express it."""

NOT_MODERN: dict[str, str] = {
    "ping": "2026-07-28 has no ping",
    "log-level": "2026-07-28 has no level of a session",
    "log-messages": "the server logs outside of every call, and there is no session that it could be meant for",
}
"""Check → why there is nothing to check for a client without a session. Everything else is checked, everywhere."""


def left_out(client: str, version: str, check: str) -> str | None:
    """Why a check is left out for a client; None when it is not."""
    if version == MODERN and check in NOT_MODERN:
        return NOT_MODERN[check]
    return LEFT_OUT.get((client, check))
