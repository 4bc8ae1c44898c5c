"""A legacy client's call to a backend that asks by its answers."""

from __future__ import annotations

import itertools
import json
import uuid

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.opening import Era
from mcpd.backends.rounds import PAUSE, PAUSE_MAX, ROUNDS_MAX, reason_of, relabelled, with_elicitation_id
from mcpd.config.model import Timeouts
from mcpd.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    RESOURCE_NOT_FOUND,
    BackendCrashed,
    BackendMisbehaved,
    BackendTimedOut,
    RpcError,
)
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from mcpd.protocol.versions import Version
from tests.backends.parts import Client, Failure, calling, linked, result_of

SHORT = Timeouts(init=5, call_idle=10, call_max=60, list=5, ask=30)
NAME = {
    "method": "elicitation/create",
    "params": {
        "message": "Name?",
        "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
}
PAGE = {
    "method": "elicitation/create",
    "params": {"mode": "url", "message": "Sign in", "url": "https://example.com/?a=1"},
}
MODEL = {
    "method": "sampling/createMessage",
    "params": {"messages": [{"role": "user", "content": {"type": "text", "text": "?"}}], "maxTokens": 1},
}
ROOTS = {"method": "roots/list"}


def modern(**members):
    members.setdefault("timeouts", SHORT)
    return linked(era=Era.MODERN, **members)


def needs(state=None, **requests):
    """A result that asks for these."""
    asked = {"resultType": "input_required"}
    if requests:
        asked["inputRequests"] = requests
    return asked if state is None else {**asked, "requestState": state}


def complete(**members):
    return {"resultType": "complete", "content": [], **members}


def script(carrier, *answers, method="tools/call"):
    """These answers, one after another."""
    left = list(answers)

    def serve(message):
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    carrier.answers[method] = serve


async def call(link, client, method="tools/call", **params):
    made = client.call(method, **params)
    return result_of(await link.call(made, method, made.members))


def answers_by_method(client, **answers):
    """Let the client answer each method differently; None: never."""
    asked = client._ask

    async def ask(method, params):
        client.answer = answers[method.partition("/")[0]]
        return await asked(method, params)

    client._ask = ask


# ---- a round


async def test_a_result_that_is_complete_loses_what_only_this_version_has():
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = complete(
            x=1,
            ttlMs=5,
            cacheScope="public",
            _meta={"io.modelcontextprotocol/serverInfo": {"name": "x"}, "vendor/y": 2},
        )
        client = Client()
        assert await call(link, client) == {"content": [], "x": 1, "_meta": {"vendor/y": 2}}
        assert client.asked == []


async def test_the_client_is_asked_and_the_call_sent_again_with_the_answer():
    async with modern() as (link, carrier, _):
        script(carrier, needs(user_name=NAME, state="s1"), complete(ok=True))
        client = Client()
        client.answer = b'{"action":"accept","content":{"name":"b\\u00f6b","n":1.50}}'
        assert await call(link, client, name="t", arguments={"x": 1}) == {"content": [], "ok": True}
        assert client.asked == [("elicitation/create", NAME["params"])]
        first, second = carrier.named("tools/call")
        assert first["id"] != second["id"], "a new request"
        assert set(second["params"]) - set(first["params"]) == {"inputResponses", "requestState"}
        assert {name: second["params"][name] for name in ("name", "arguments", "_meta")} == {
            name: first["params"][name] for name in ("name", "arguments", "_meta")
        }
        assert second["params"]["requestState"] == "s1"
        assert b'"inputResponses":{"user_name":' + client.answer + b"}" in carrier.texts[-1], "byte for byte"


async def test_the_state_returns_byte_for_byte():
    state = rb'"v1.\u00e4\/ \ud83d=="'
    async with modern() as (link, carrier, _):

        def serve(message):
            if "requestState" in message["params"]:
                return complete()
            text = b'{"jsonrpc":"2.0","id":%d,"result":{"resultType":"input_required","requestState":%b}}'
            link.receive(jsonrpc.decode(text % (message["id"], state)))
            return None

        carrier.answers["tools/call"] = serve
        await call(link, Client())
        assert b'"requestState":' + state in carrier.texts[-1]


async def test_no_state_is_made_up():
    async with modern() as (link, carrier, _):
        script(carrier, needs(r=ROOTS), complete())
        client = Client()
        client.answer = b'{"roots":[]}'
        await call(link, client)
        assert client.asked == [("roots/list", {})]
        assert carrier.named("tools/call")[1]["params"]["inputResponses"] == {"r": {"roots": []}}
        assert "requestState" not in carrier.named("tools/call")[1]["params"]


async def test_answers_of_earlier_rounds_are_not_repeated():
    async with modern() as (link, carrier, _):
        script(carrier, needs(user_name=NAME, state="s1"), needs(r=ROOTS), needs("s3"), complete())
        client = Client()
        answers_by_method(client, elicitation=b'{"action":"accept","content":{}}', roots=b'{"roots":[]}')
        await call(link, client)
        retries = [message["params"] for message in carrier.named("tools/call")]
        assert [(sorted(each.get("inputResponses", {})), each.get("requestState")) for each in retries] == [
            ([], None),
            (["user_name"], "s1"),
            (["r"], None),
            ([], "s3"),
        ]


async def test_everything_is_asked_at_once(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        script(carrier, needs(user_name=NAME, model_message=MODEL, r=ROOTS), complete(ok=True))
        client = Client()
        client.answer = None
        made = client.call()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        await client.wait_asked(3)
        assert sorted(method for method, _ in client.asked) == [
            "elicitation/create",
            "roots/list",
            "sampling/createMessage",
        ]
        assert len(carrier.named("tools/call")) == 1
        client.released.set()
        await outcome.done.wait()
        assert outcome.result == {"content": [], "ok": True}
        assert carrier.named("tools/call")[1]["params"]["inputResponses"] == {
            "user_name": {},
            "model_message": {},
            "r": {},
        }


async def test_a_state_alone_is_sent_back_after_a_pause_that_grows(autojump_clock):
    async with modern() as (link, carrier, _):
        times = []

        def serve(message):
            times.append(trio.current_time())
            return complete() if len(times) == 6 else needs(f"s{len(times)}")

        carrier.answers["tools/call"] = serve
        await call(link, Client())
        pauses = [round(after - before, 9) for before, after in itertools.pairwise(times)]
        assert pauses == [PAUSE, 2 * PAUSE, 4 * PAUSE, PAUSE_MAX, PAUSE_MAX]


@pytest.mark.parametrize("method", ["prompts/get", "resources/read"])
async def test_prompts_and_resources_may_ask_too(method):
    async with modern() as (link, carrier, _):
        script(carrier, needs(user_name=NAME), {"resultType": "complete", "ok": 1, "ttlMs": 0}, method=method)
        client = Client()
        client.answer = b'{"action":"accept","content":{}}'
        assert await call(link, client, method, name="p", uri="x:/1") == {"ok": 1}
        assert len(client.asked) == 1


async def test_progress_of_every_round_is_the_clients(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        client = Client()
        client.answer = b'{"action":"accept"}'
        made = client.call(token=b'"mine"')
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        for number in (1, 2):
            sent = await carrier.wait_sent("tools/call", number)
            assert sent["params"]["_meta"]["progressToken"] == sent["id"]
            carrier.notify("notifications/progress", {"progressToken": sent["id"], "progress": number})
            carrier.answer_to(sent, needs(user_name=NAME) if number == 1 else complete())
        await outcome.done.wait()
        assert [params for _, params in client.emitted] == [
            {"progressToken": "mine", "progress": 1},
            {"progressToken": "mine", "progress": 2},
        ]


# ---- questions made fit for the client


async def test_a_page_has_an_id_for_clients_that_want_one():
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=PAGE), needs(a=PAGE), complete())
        client = Client()
        client.answer = b'{"action":"accept"}'
        await call(link, client)
        ids = [params.pop("elicitationId") for _, params in client.asked]
        assert len(set(ids)) == 2
        assert all(uuid.UUID(id).version == 4 for id in ids)
        assert client.asked == [("elicitation/create", PAGE["params"])] * 2


def test_elicitation_ids_are_for_pages_at_2025_11_25_only():
    page, form = (json.dumps(each["params"]).encode() for each in (PAGE, NAME))
    assert with_elicitation_id(form, Client().call()) is form or b"elicitationId" not in with_elicitation_id(
        form, Client().call()
    )
    old = Client(version=Version.V2025_06_18).call()
    assert with_elicitation_id(page, old) is page


async def test_a_form_is_made_as_old_as_the_client():
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "default": 5},
            "c": {"type": "string", "oneOf": [{"const": "a", "title": "A"}, {"const": "b", "title": "B"}]},
        },
    }
    form = {"method": "elicitation/create", "params": {"mode": "form", "message": "?", "requestedSchema": schema}}
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=form), complete())
        client = Client(version=Version.V2025_06_18, capabilities=ClientCapability.ELICITATION_FORM)
        client.answer = b'{"action":"accept","content":{"n":1,"c":"a"}}'
        await call(link, client)
        assert client.asked == [
            (
                "elicitation/create",
                {
                    "message": "?",
                    "requestedSchema": {
                        "type": "object",
                        "properties": {
                            "n": {"type": "integer"},
                            "c": {"type": "string", "enum": ["a", "b"], "enumNames": ["A", "B"]},
                        },
                    },
                },
            )
        ]


async def test_what_an_old_client_cannot_be_shown_is_cancelled():
    schema = {"type": "object", "properties": {"c": {"type": "array", "items": {"enum": ["a", "b"]}}}}
    several = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": schema}}
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=several), complete())
        client = Client(version=Version.V2025_06_18, capabilities=ClientCapability.ELICITATION_FORM)
        await call(link, client)
        assert client.asked == []
        assert carrier.named("tools/call")[1]["params"]["inputResponses"] == {"a": {"action": "cancel"}}


async def test_messages_of_many_blocks_are_split_for_an_old_client():
    blocks = [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]
    model = {
        "method": "sampling/createMessage",
        "params": {"messages": [{"role": "user", "content": blocks}], "maxTokens": 1},
    }
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=model), complete())
        client = Client(version=Version.V2025_06_18, capabilities=ClientCapability.SAMPLING)
        client.answer = b'{"role":"assistant","content":{"type":"text","text":"!"},"model":"m"}'
        await call(link, client)
        assert client.asked[0][1]["messages"] == [{"role": "user", "content": block} for block in blocks]
        assert carrier.named("tools/call")[1]["params"]["inputResponses"]["a"]["model"] == "m"


async def test_where_several_servers_may_ask_the_message_says_which():
    async with modern(label="[b] ") as (link, carrier, _):
        script(carrier, needs(a=NAME, b=MODEL), complete())
        client = Client()
        client.answer = b"{}"
        await call(link, client)
        asked = dict(client.asked)
        assert asked["elicitation/create"] == {**NAME["params"], "message": "[b] Name?"}
        assert asked["sampling/createMessage"] == MODEL["params"]


def test_relabelling_leaves_alone_what_it_does_not_know():
    for text in (
        b'{"resultType":"input_required","requestState":"s"}',
        b'{"inputRequests":[1]}',
        b'{"inputRequests":{"a":7}}',
        b'{"inputRequests":{"a":{"method":"elicitation/create"}}}',
        b'{"inputRequests":{"a":{"method":"elicitation/create","params":{"message":7}}}}',
    ):
        assert json.loads(relabelled(text, "[b] ")) == json.loads(text)


# ---- no answer


@pytest.mark.parametrize("refusal", [RpcError(-32603, "broken"), RpcError(-1, "no"), RpcError(-32601, "what?")])
async def test_an_elicitation_that_fails_is_cancelled(refusal):
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=NAME, state="s"), complete(ok=1))
        client = Client()
        client.answer = refusal
        assert (await call(link, client))["ok"] == 1
        assert carrier.named("tools/call")[1]["params"]["inputResponses"] == {"a": {"action": "cancel"}}


@pytest.mark.parametrize("request_", [MODEL, ROOTS], ids=["sampling", "roots"])
async def test_any_other_question_that_fails_ends_the_call(request_):
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=request_))
        client = Client()
        client.answer = RpcError(-1, "the user said no")
        result = await call(link, client)
        assert result["isError"] is True
        (block,) = result["content"]
        assert block["type"] == "text"
        assert block["text"] == (f"backend 'b' needs input that it did not get: {request_['method']}: the user said no")
        assert len(carrier.named("tools/call")) == 1


@pytest.mark.parametrize("method", ["prompts/get", "resources/read"])
async def test_only_tools_have_a_result_that_says_so(method):
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=ROOTS), method=method)
        client = Client()
        client.answer = RpcError(-1, "the user said no")
        with pytest.raises(RpcError, match="the user said no") as caught:
            await call(link, client, method, name="p", uri="x:/1")
        assert caught.value.code == INTERNAL_ERROR


async def test_a_question_that_fails_takes_the_others_back(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=NAME, b=ROOTS))
        client = Client()
        answers_by_method(client, elicitation=None, roots=RpcError(-1, "no"))
        result = await call(link, client)
        assert result["isError"]
        assert client.withdrawn == 1


@pytest.mark.parametrize(
    ("capabilities", "asked"),
    [
        (ClientCapability.SAMPLING | ClientCapability.ROOTS, NAME),
        (ClientCapability.ELICITATION_FORM, PAGE),
        (ClientCapability.ELICITATION_URL, NAME),
        (ClientCapability.ELICITATION_FORM, MODEL),
        (ClientCapability.SAMPLING, {**MODEL, "params": {**MODEL["params"], "tools": []}}),
        (ClientCapability.ELICITATION_FORM, ROOTS),
    ],
)
async def test_what_the_client_did_not_declare_ends_the_call(capabilities, asked):
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=asked))
        client = Client(capabilities=capabilities)
        result = await call(link, client)
        assert result["isError"]
        assert "did not declare" in result["content"][0]["text"]
        assert client.asked == [], "nobody is asked"


@pytest.mark.parametrize(
    "result",
    [
        {"resultType": "input_required"},
        needs(a={"method": "files/delete"}),
        needs(a={"method": "elicitation/create"}),
        {"resultType": "input_required", "inputRequests": []},
        {"resultType": "input_required", "requestState": 7},
        needs(**{f"k{n}": ROOTS for n in range(65)}),
    ],
)
async def test_requests_for_input_that_are_none(result):
    async with modern() as (link, carrier, _):
        script(carrier, result)
        client = Client()
        with pytest.raises(BackendMisbehaved, match="invalid result of tools/call"):
            await call(link, client)
        assert client.asked == []


async def test_a_server_that_never_has_enough(autojump_clock):
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: needs("again")
        result = await call(link, Client())
        assert f"it asked for input {ROUNDS_MAX} times" in result["content"][0]["text"]
        assert len(carrier.named("tools/call")) == ROUNDS_MAX


# ---- time


async def test_a_client_that_does_not_answer(autojump_clock):
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=NAME))
        client = Client()
        client.answer = None
        begun = trio.current_time()
        result = await call(link, client)
        assert "elicitation/create: the client did not answer in 30 s" in result["content"][0]["text"]
        assert trio.current_time() == begun + 30
        assert client.withdrawn == 1


async def test_the_whole_is_bounded_while_the_client_is_asked(autojump_clock):
    async with modern(timeouts=Timeouts(call_idle=10, call_max=60, ask=500)) as (link, carrier, _):
        script(carrier, needs(a=NAME), needs(a=NAME))
        client = Client()

        async def ask(method, params):
            client.asked.append((method, params))
            await trio.sleep(40)
            return b'{"action":"accept"}'

        client._ask = ask
        begun = trio.current_time()
        result = await call(link, client)
        assert trio.current_time() == begun + 60
        assert "more than 60 s in all (servers.b.timeouts.call_max)" in result["content"][0]["text"]
        assert len(client.asked) == 2


async def test_and_while_the_backend_works(nursery, autojump_clock):
    async with modern(timeouts=Timeouts(call_idle=10, call_max=60, ask=500)) as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        client = Client()

        async def ask(method, params):
            await trio.sleep(45)
            return b'{"action":"accept"}'

        client._ask = ask
        made = client.call(token=b"1")
        begun = trio.current_time()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        carrier.answer_to(await carrier.wait_sent("tools/call"), needs(a=NAME))
        again = await carrier.wait_sent("tools/call", 2)
        while not outcome.done.is_set():
            carrier.notify("notifications/progress", {"progressToken": again["id"], "progress": 1})
            with trio.move_on_after(8):
                await outcome.done.wait()
        assert isinstance(outcome.error, BackendTimedOut)
        assert "call_max" in str(outcome.error)
        assert 60 <= trio.current_time() - begun < 70


# ---- cancellation, and the end of the link


async def test_a_client_that_cancels_while_it_is_asked(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=NAME, b=ROOTS))
        client = Client()
        client.answer = None
        made = client.call()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        await client.wait_asked(2)
        assert link.in_flight == 0
        outcome.scope.cancel()
        await outcome.done.wait()
        assert client.withdrawn == 2
        await wait_all_tasks_blocked()
        assert carrier.named("notifications/cancelled") == [], "no request was in flight"
        assert len(carrier.named("tools/call")) == 1


async def test_a_client_that_cancels_a_later_round(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        client = Client()
        client.answer = b'{"action":"accept"}'
        made = client.call()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        carrier.answer_to(await carrier.wait_sent("tools/call"), needs(a=NAME))
        again = await carrier.wait_sent("tools/call", 2)
        outcome.scope.cancel()
        cancelled = await carrier.wait_sent("notifications/cancelled")
        assert cancelled["params"]["requestId"] == again["id"]


async def test_a_link_that_is_lost_while_the_client_is_asked_ends_the_call_at_once(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=NAME))
        client = Client()
        client.answer = None
        made = client.call()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        await client.wait_asked()
        begun = trio.current_time()
        link.fail(BackendCrashed("b", "was killed by SIGKILL"))
        await outcome.done.wait()
        assert trio.current_time() == begun
        assert isinstance(outcome.error, BackendCrashed)
        assert client.withdrawn == 1


# ---- errors


@pytest.mark.parametrize(
    ("method", "failure", "code"),
    [
        ("resources/read", Failure(-32602, "not found", data={"uri": "x:/1"}), RESOURCE_NOT_FOUND),
        ("resources/read", Failure(-32602, "no uri"), INVALID_PARAMS),
        ("tools/call", Failure(-32602, "unknown tool", data={"uri": "x"}), INVALID_PARAMS),
        ("prompts/get", Failure(-32021, "no", data={"requiredCapabilities": {"sampling": {}}}), INTERNAL_ERROR),
        ("prompts/get", Failure(-32020, "mismatch"), INTERNAL_ERROR),
        ("tools/call", Failure(-32077, "its own"), -32077),
    ],
)
async def test_errors_are_those_of_the_clients_era(method, failure, code):
    async with modern() as (link, carrier, _):
        carrier.answers[method] = failure
        with pytest.raises(RpcError) as caught:
            await call(link, Client(), method, name="n", uri="x:/1")
        assert caught.value.code == code


async def test_a_tool_that_needs_what_the_client_has_not_says_so_in_its_result():
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = Failure(
            -32021, "no", data={"requiredCapabilities": {"elicitation": {"url": {}}}}
        )
        result = await call(link, Client(capabilities=EVERYTHING))
        assert result["isError"]
        assert result["content"][0]["text"] == "tools/call needs what the client did not declare: elicitation.url"


async def test_an_error_in_a_later_round():
    async with modern() as (link, carrier, _):
        script(carrier, needs(a=NAME), Failure(-32603, "broke"))
        client = Client()
        client.answer = b'{"action":"decline"}'
        with pytest.raises(RpcError, match="broke"):
            await call(link, client)


async def test_members_beside_the_result_travel_on():
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: carrier.say(
            {"id": message["id"], "result": complete(), "vendor": {"x": 1}}
        )
        made = Client().call()
        answer = await link.call(made, "tools/call", made.members)
        assert answer.extra() == {"vendor": msgspec.Raw(b'{"x": 1}')}


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (RpcError(-1, "sampling/createMessage: the client refused"), "sampling/createMessage: the client refused"),
        (RpcError(-1, "no stream"), "sampling/createMessage: no stream"),
        (
            RpcError(-1, "x", raw=b'{"code":-1,"message":"I would rather not"}'),
            "sampling/createMessage: I would rather not",
        ),
        (RpcError(-1, "x", raw=b'{"code":-1}'), "sampling/createMessage: x"),
    ],
)
def test_a_refusal_is_told_in_the_clients_own_words(error, shown):
    assert reason_of(error, "sampling/createMessage") == shown
