"""Rows about what a server asks of the client: sampling, elicitation, roots, in one round or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from tests.compatibility.clients import ROOT_URI, SAID
from tests.compatibility.rows import NONE, YES, Theme
from tests.compatibility.wire import LOOK
from tests.fixtures.everything_content import DEFAULTS_SCHEMA, ENUMS_SCHEMA
from tests.fixtures.everything_tools import URL_TO_OPEN
from tests.fixtures.peer import JSON, PeerError

if TYPE_CHECKING:
    from tests.compatibility.clients import Client
    from tests.compatibility.columns import Bench

ASKING = Theme("What a server asks of the client")
row = ASKING.row

ELICIT = "elicitation/create"
SAMPLE = "sampling/createMessage"
ROOTS = "roots/list"


async def asked(client: Client, tool: str, arguments: JSON | None = None) -> tuple[JSON, list[tuple[str, JSON]]]:
    """The result of a call, and what was asked for it."""
    first = len(client.asked)
    result = (await client.call(tool, arguments)).result
    return result, client.asked[first:]


def text_of(result: JSON) -> str:
    return str(result["content"][0]["text"])


@row("Sampling")
async def sampling(bench: Bench) -> str:
    result, [(method, params)] = await asked(await bench.client(able=True), "test_sampling", {"prompt": "häh?"})
    assert (method, params["maxTokens"]) == (SAMPLE, 100)
    assert params["messages"][0]["content"]["text"] == "häh?"
    assert text_of(result) == f"LLM response: {SAID}"
    return YES


@row("Roots")
async def roots(bench: Bench) -> str:
    result, [(method, _params)] = await asked(await bench.client(able=True), "list_roots")
    assert (method, text_of(result)) == (ROOTS, f'["{ROOT_URI}"]')
    return YES


@row("Elicitation by a form")
async def form(bench: Bench) -> str:
    client = await bench.client(able=True)
    result, [(method, params)] = await asked(client, "test_elicitation", {"message": "who?"})
    assert (method, params["message"]) == (ELICIT, "who?")
    assert text_of(result) == 'User response: action=accept, content={"username": "bob", "email": "bob"}'
    for tool, schema in (("sep1034_defaults", DEFAULTS_SCHEMA), ("sep1330_enums", ENUMS_SCHEMA)):
        result, [(_, params)] = await asked(client, f"test_elicitation_{tool}")
        assert params["requestedSchema"] == schema
        assert "action=accept" in text_of(result)
    return YES


@row("The user declines, or closes the form")
async def declined(bench: Bench) -> str:
    client = await bench.client(able=True)
    for action in ("decline", "cancel"):
        client.callbacks[ELICIT] = lambda params, action=action: {"action": action}
        try:
            result, _ = await asked(client, "test_elicitation")
        finally:
            del client.callbacks[ELICIT]
        assert text_of(result) == f"User response: action={action}, content={{}}"
    return YES


@row("The user refuses to let the model answer", "tool error", "refused", M_=NONE)
async def refused(bench: Bench) -> str:
    client = await bench.client(able=True)
    if bench.is_modern:
        return NONE

    def refuse(params: object) -> None:
        raise PeerError({"code": -1, "message": "User rejected sampling request"})

    client.callbacks[SAMPLE] = refuse
    try:
        result, _ = await asked(client, "test_sampling")
    finally:
        del client.callbacks[SAMPLE]
    assert result["isError"] is True
    assert "sampling/createMessage" in text_of(result), text_of(result)
    return "tool error"


@row("Elicitation by URL")
async def url(bench: Bench) -> str:
    result, [(method, params)] = await asked(await bench.client(able=True), "url_elicitation")
    assert (method, params["mode"], params["url"]) == (ELICIT, "url", URL_TO_OPEN)
    assert ("elicitationId" in params) is not bench.is_modern
    assert text_of(result) == "action=accept"
    return YES


@row("End of an elicitation by URL is announced", "never", "elicitation-complete", LL=YES)
async def url_completed(bench: Bench) -> str:
    client = await bench.client(able=True)
    first = len(client.asked)
    outcome = await client.call("url_elicitation")
    if bench.cell == "LL":
        told = await (await bench.legacy(able=True)).peer.wait_notifications("notifications/elicitation/complete")
        assert told[-1]["elicitationId"] == client.asked[first][1]["elicitationId"] == "consent-1"
        return YES
    assert not outcome.said("notifications/elicitation/complete")
    return "never"


@row("Error -32042: a page is to be opened first", NONE, "url-required", LL="-32042", ML="asked")
async def url_required(bench: Bench) -> str:
    client = await bench.client(able=True)
    if bench.cell == "ML":
        result, questions = await asked(client, "url_elicitation", {"as_error": True, "once": "x"})
        assert {(params["mode"], params["url"]) for _, params in questions} == {("url", URL_TO_OPEN)}
        assert text_of(result) == "the page was opened"
        client.callbacks[ELICIT] = lambda params: {"action": "decline"}
        try:
            result, _ = await asked(client, "url_elicitation", {"as_error": True})
        finally:
            del client.callbacks[ELICIT]
        assert (result["isError"], "a page must be opened first" in text_of(result)) == (True, True)
        return "asked"
    outcome = await client.call("url_elicitation", {"as_error": True})
    if "error" not in outcome.answer:
        assert bench.has_modern_server
        assert outcome.text == "action=accept"
        return NONE
    assert outcome.error.data["elicitations"][0]["url"] == URL_TO_OPEN
    return str(outcome.error.code)


@row("The same, for a client that cannot be sent to a URL", NONE, "url-required", LL="tool error", ML="-32021")
async def url_required_in_vain(bench: Bench) -> str:
    if bench.has_modern_server:
        return NONE
    if bench.is_modern:
        client = await bench.client()
        outcome = await client.call("url_elicitation", {"as_error": True}, capabilities={"elicitation": {}})
        assert outcome.error.data == {"requiredCapabilities": {"elicitation": {"url": {}}}}
        return str(outcome.error.code)
    older = await bench.client("2025-06-18", able=True)
    result = (await older.call("url_elicitation", {"as_error": True})).result
    assert (result["isError"], URL_TO_OPEN in text_of(result)) == (True, True)
    return "tool error"


@row("Several questions in one round")
async def several(bench: Bench) -> str:
    client = await bench.client(able=True)
    for _ in range(5):  # a legacy server on a busy machine may take longer between them than mcpd waits
        outcome = await client.call("test_input_required_result_multiple_inputs")
        assert outcome.text == f"Name: bob; Greeting: {SAID}; Roots: 1"
        if not bench.is_modern or len(outcome.rounds) == 1:
            break
    if bench.is_modern:
        [one] = outcome.rounds
        assert {each["method"] for each in one["inputRequests"].values()} == {ELICIT, SAMPLE, ROOTS}
    return YES


@row("Several rounds")
async def rounds(bench: Bench) -> str:
    client = await bench.client(able=True)
    outcome = await client.call("test_input_required_result_multi_round")
    assert outcome.text == "bob likes bob"
    assert not bench.is_modern or len(outcome.rounds) == 2
    return YES


@row("Rounds that ask nothing and only send the client round again", YES, "state-only", _L=NONE)
async def state_only(bench: Bench) -> str:
    outcome = await (await bench.client(able=True)).call("test_state_only", {"rounds": 3})
    assert outcome.text == "done after 3 rounds"
    assert len(outcome.rounds) == (3 if bench.cell == "MM" else 0)
    return YES if bench.has_modern_server else NONE


@row("Questions during prompts/get and resources/read")
async def elsewhere(bench: Bench) -> str:
    client = await bench.client(able=True)
    prompt = (await client.request("prompts/get", {"name": "test_input_required_result_prompt"})).result
    assert prompt["messages"][0]["content"]["text"] == "Prompt with context: bob"
    read = (await client.request("resources/read", {"uri": "test://guarded"})).result
    assert read["contents"][0]["text"] == "guarded: accept"
    return YES


@row("Key of a question in `inputRequests`", NONE, "literal-key", ML="mcpd's", MM="the server's")
async def key(bench: Bench) -> str:
    client = await bench.client(able=True)
    if not bench.is_modern:
        return NONE
    keys = []
    for tool in ("test_input_required_result_elicitation", "test_input_required_result_sampling"):
        [one] = (await client.call(tool)).rounds
        keys += one["inputRequests"]
    if keys == ["user_name", "capital_question"]:
        return "the server's"
    assert keys == ["user_name", "model_message"]
    return "mcpd's"


@row("`requestState` that was changed, or is another call's", "-32602", "state", L_=NONE)
async def state(bench: Bench) -> str:
    if not bench.is_modern:
        return NONE
    client = await bench.modern(able=True)
    tool = "test_input_required_result_request_state"
    params: JSON = {"name": tool, "arguments": {}}
    first = await client.exchange("tools/call", params)
    [name] = first.asks
    answers = {name: {"action": "accept", "content": {"ok": True}}}
    given = first.result["requestState"]
    own: dict[str, Any] = {"capabilities": client.declared}
    for wrong in (given[:-3] + "AAA", "nonsense"):
        changed = await client.peer.retry(first, answers, state=wrong, **own)
        assert changed.error.code == -32602
    other = {"name": "test_input_required_result_tampered_state", "requestState": given, "inputResponses": answers}
    assert (await client.exchange("tools/call", other)).error.code == -32602
    assert (await client.peer.retry(first, answers, **own)).text == "state-ok"
    return "-32602"


@row("Answers that are missing are asked for again", YES, "state", L_=NONE)
async def missing_answers(bench: Bench) -> str:
    if not bench.is_modern:
        return NONE
    client = await bench.modern(able=True)
    first = await client.exchange("tools/call", {"name": "test_input_required_result_multiple_inputs", "arguments": {}})
    own: dict[str, Any] = {"capabilities": client.declared}
    while len(first.asks) < 3:  # a legacy server on a busy machine takes its time between its questions
        assert first.needs_input
        first = await client.peer.retry(first, {}, **own)
    assert len(first.asks) == 3
    answers = {name: await client.peer.answer(ask) for name, ask in first.asks.items() if ask["method"] != SAMPLE}
    second = await client.peer.retry(first, {**answers, "unknown": {}}, **own)
    left = {name: await client.peer.answer(ask) for name, ask in second.asks.items()}
    assert any(ask["method"] == SAMPLE for ask in second.asks.values())
    assert (await client.peer.retry(second, left, **own)).text == f"Name: bob; Greeting: {SAID}; Roots: 1"
    return YES


@row("Answers that nothing asked for", "asked anew", "state", L_=NONE, MM=YES)
async def unasked(bench: Bench) -> str:
    if not bench.is_modern:
        return NONE
    client = await bench.modern(able=True)
    params: JSON = {"name": "test_input_required_result_elicitation", "arguments": {}}
    params["inputResponses"] = {"user_name": {"action": "accept", "content": {"name": "eve"}}}
    outcome = await client.exchange("tools/call", params)
    if not outcome.needs_input:
        assert outcome.text == "Hello, eve!"
        return YES
    assert (
        await client.peer.retry(outcome, params["inputResponses"], capabilities=client.declared)
    ).text == "Hello, eve!"
    return "asked anew"


@row("Question for which the client declared nothing", "tool error", "undeclared", MM="-32021")
async def undeclared(bench: Bench) -> str:
    client = await bench.client()
    outcome = await client.call("test_sampling", {"prompt": "?"})
    assert not client.asked
    if "error" in outcome.answer:
        assert outcome.error.data == {"requiredCapabilities": {"sampling": {}}}
        return str(outcome.error.code)
    assert (outcome.result["isError"], "sampling" in outcome.text) == (True, True)
    return "tool error"


@row(
    "Tool that refuses a client without a capability",
    "tool error",
    "indispensable",
    MM="-32021",
    ML="not refused",
    LL_stdio="not refused",
)
async def indispensable(bench: Bench) -> str:
    outcome = await (await bench.client()).call("test_missing_capability")
    if "error" in outcome.answer:
        assert outcome.error.data == {"requiredCapabilities": {"sampling": {}}}
        return str(outcome.error.code)
    if outcome.result.get("isError"):
        assert "sampling" in outcome.text
        return "tool error"
    assert (outcome.text, bench.has_modern_server) == ("sampling is declared", False)
    return "not refused"


@row("Tool that asks for no more than was declared", YES, "capabilities", LL_stdio="tool error")
async def no_more(bench: Bench) -> str:
    tool = "test_input_required_result_capabilities"
    if bench.is_modern:
        client = await bench.client()
        outcome = await client.call(tool, capabilities={"sampling": {}})
    else:
        outcome = await (await bench.client("2024-11-05", able=True)).call(tool)
    if outcome.result.get("isError"):
        assert "-32601" in outcome.text, "the question was refused on the client's behalf"
        return "tool error"
    assert outcome.text == "capabilities-ok: sample_input"
    return YES


@row("Choice of several values, for a client of 2025-06-18", "cancelled", "multi-select", M_=NONE)
async def multi_select(bench: Bench) -> str:
    if bench.is_modern:
        return NONE
    client = await bench.client("2025-06-18", able=True)
    result, questions = await asked(client, "test_elicitation_sep1330_enums")
    assert not questions
    assert text_of(result) == "Elicitation completed: action=cancel, content={}"
    return "cancelled"


@row("Form with defaults, for a client of 2025-06-18", YES, "older-form", M_=NONE)
async def older_form(bench: Bench) -> str:
    if bench.is_modern:
        return NONE
    client = await bench.client("2025-06-18", able=True)
    result, [(_, params)] = await asked(client, "test_elicitation_sep1034_defaults")
    fields = params["requestedSchema"]["properties"]
    assert {name for name, field in fields.items() if "default" in field} == {"verified"}
    assert "action=accept" in text_of(result)
    return YES


@row("Question after the call was answered", NONE, "late", LL=YES, ML="-32601")
async def late(bench: Bench) -> str:
    # A modern client that can be asked is served by a session of its own, which ends with such a question unanswered.
    client = await bench.client(able=not bench.is_modern)
    first = len(client.asked)
    outcome = await client.call("ask_late")
    if outcome.result.get("isError"):
        assert bench.has_modern_server
        return NONE
    found: list[str] = []
    while not found:
        found = (await client.data("stats"))["late"]
        await trio.sleep(LOOK)
    if len(client.asked) > first:
        assert found == ["accept"]
        return YES
    return found[0].split(": ")[1].split()[0]
