"""The dialect of 2026-07-28: what goes out with a request, and what becomes of its answer."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.modern import EXTENSIONS_KEPT, OWN, _declared, declared
from mcpd.backends.opening import Era
from mcpd.backends.tools import ToolFacts
from mcpd.config.model import Timeouts
from mcpd.errors import BackendCrashed, BackendMisbehaved, BackendTimedOut, BackendUnavailable, RpcError
from mcpd.protocol.capabilities import NOTHING, ClientCapability
from mcpd.protocol.mirror import Parameters
from mcpd.types import IMPLEMENTATION
from tests.backends.parts import DISCOVER, ENVELOPE, Client, Failure, calling, linked, modern_client, result_of

SHORT = Timeouts(init=5, call_idle=10, call_max=60, list=5, ask=100)
TASKS = b'{"io.modelcontextprotocol/tasks":{}}'
VERSION_HEADER = b"MCP-Protocol-Version: 2026-07-28\r\n"
SERVER_INFO = ENVELOPE + "serverInfo"
OURS = {SERVER_INFO: json.loads(IMPLEMENTATION)}
FORM = {"message": "Name?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}


def modern(**members):
    return linked(era=Era.MODERN, **members)


def complete(**members):
    return {"resultType": "complete", "content": [], **members}


async def call(link, client, method="tools/call", **params):
    made = client.call(method, **params)
    return result_of(await link.call(made, method, made.members))


# ---- what goes out


async def test_a_modern_clients_envelope_is_made_anew():
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = complete()
        client = modern_client(
            capabilities=ClientCapability.SAMPLING | ClientCapability.ELICITATION_FORM,
            extensions=TASKS,
            client_info=b'{"name":"me","version":"9"}',
            log_level=3,
        )
        meta = {
            ENVELOPE + "protocolVersion": "2026-07-28",
            ENVELOPE + "clientCapabilities": {"elicitation": {}, "sampling": {}, "extensions": {"x/y": {}}},
            ENVELOPE + "clientInfo": {"name": "me", "version": "9"},
            ENVELOPE + "logLevel": "debug",
            "progressToken": "mine",
            "traceparent": "00-1-2-01",
            "com.example/tag": [1],
        }
        made = client.call(token=b'"mine"', name="t", arguments={"x": 1}, _meta=meta)
        await link.call(made, "tools/call", made.members)
        (sent,) = carrier.named("tools/call")
        assert sent["params"] == {
            "name": "t",
            "arguments": {"x": 1},
            "_meta": {
                ENVELOPE + "protocolVersion": "2026-07-28",
                ENVELOPE + "clientCapabilities": {
                    "sampling": {},
                    "elicitation": {"form": {}},
                    "extensions": json.loads(TASKS),
                },
                ENVELOPE + "clientInfo": {"name": "me", "version": "9"},
                ENVELOPE + "logLevel": "warning",
                "progressToken": sent["id"],
                "traceparent": "00-1-2-01",
                "com.example/tag": [1],
            },
        }


async def test_a_legacy_client_speaks_by_what_its_session_says():
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = complete()
        await call(link, Client(capabilities=ClientCapability.ROOTS, log_level=6), name="t", _meta={"vendor/x": 1})
        meta = carrier.named("tools/call")[0]["params"]["_meta"]
        assert meta[ENVELOPE + "protocolVersion"] == "2026-07-28"
        assert meta[ENVELOPE + "clientCapabilities"] == {"roots": {}}
        assert meta[ENVELOPE + "clientInfo"]["name"] == "mcpd"
        assert meta[ENVELOPE + "logLevel"] == "alert"
        assert meta["vendor/x"] == 1
        assert "progressToken" not in meta


async def test_mcpds_own_requests_can_do_everything_and_want_no_logs():
    async with modern() as (link, carrier, _):
        await link.request("tools/list", {}, 5)
        meta = carrier.named("tools/list")[0]["params"]["_meta"]
        assert meta[ENVELOPE + "clientCapabilities"] == json.loads(OWN)
        assert json.loads(OWN).keys() == {"roots", "sampling", "elicitation", "extensions"}
        assert json.loads(OWN)["extensions"] == json.loads(TASKS)
        assert ENVELOPE + "logLevel" not in meta


def test_capabilities_are_kept_unless_a_client_makes_them_long():
    assert declared(NOTHING, None) == b"{}"
    assert declared(ClientCapability.ROOTS, None) is declared(ClientCapability.ROOTS, None)
    before = _declared.cache_info().currsize
    long = b'{"x/y":{"z":"%b"}}' % (b"z" * EXTENSIONS_KEPT)
    assert json.loads(declared(ClientCapability.ROOTS, long))["extensions"] == json.loads(long)
    assert _declared.cache_info().currsize == before


async def test_headers_repeat_the_body_where_there_are_headers():
    async with modern(shared=False) as (link, carrier, heard):
        carrier.answers["tools/call"] = complete()
        schema = {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
        heard.tools = ToolFacts(parameters={b'"t"': Parameters.read(json.dumps(schema).encode())})
        await call(link, modern_client(), name="t", arguments={"region": "us west"})
        await call(link, modern_client(), name="other", arguments={"region": "us west"})
        assert carrier.headers[1:] == [
            VERSION_HEADER + b"Mcp-Method: tools/call\r\nMcp-Name: t\r\nMcp-Param-Region: us west\r\n",
            VERSION_HEADER + b"Mcp-Method: tools/call\r\nMcp-Name: other\r\n",
        ]


async def test_a_uri_that_no_header_can_carry():
    async with modern(shared=False) as (link, carrier, _):
        carrier.answers["resources/read"] = {
            "resultType": "complete",
            "contents": [],
            "ttlMs": 0,
            "cacheScope": "private",
        }
        await call(link, modern_client(), "resources/read", uri="file:///ä")
        assert carrier.headers[-1].endswith(b"Mcp-Method: resources/read\r\nMcp-Name: =?base64?ZmlsZTovLy/DpA==?=\r\n")


async def test_no_headers_on_a_pipe():
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = complete()
        await call(link, modern_client())
        assert set(carrier.headers) == {b""}


# ---- what comes back to a modern client


async def test_the_result_is_as_it_is_but_from_mcpd():
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = complete(x=1, _meta={SERVER_INFO: {"name": "hidden"}, "vendor/y": 2})
        result = await call(link, modern_client())
        assert result == {"resultType": "complete", "content": [], "x": 1, "_meta": {"vendor/y": 2, **OURS}}


async def test_a_request_for_input_passes_through():
    asked = {
        "resultType": "input_required",
        "inputRequests": {"user_name": {"method": "elicitation/create", "params": FORM}, "r": {"method": "roots/list"}},
        "requestState": "v1.Zm9v",
    }
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = asked
        client = modern_client()
        assert await call(link, client) == {**asked, "_meta": OURS}
        assert len(carrier.named("tools/call")) == 1
        assert client.asked == []


async def test_the_retry_is_a_call_like_any_other_byte_for_byte():
    state = rb'"v1.\u00e4\/ \ud83d=="'
    answers = rb'{"user_name":{"action":"accept","content":{"name":"b\u00f6b","n":1.50}}}'
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = complete()
        made = modern_client().call(name="t", arguments={})
        made.members["inputResponses"] = msgspec.Raw(answers)
        made.members["requestState"] = msgspec.Raw(state)
        await link.call(made, "tools/call", made.members)
        assert b'"inputResponses":' + answers + b"," in carrier.texts[-1]
        assert b'"requestState":' + state + b"," in carrier.texts[-1]


async def test_elicitations_say_who_asks_where_several_may():
    def asked(message):
        return {
            "resultType": "input_required",
            "inputRequests": {
                "a": {"method": "elicitation/create", "params": {**FORM, "message": message}, "x": 1},
                "b": {"method": "sampling/createMessage", "params": {"message": message, "messages": []}},
            },
            "requestState": "s",
        }

    async with modern(label="[b] ") as (link, carrier, _):
        carrier.answers["tools/call"] = asked("Name?")
        assert await call(link, modern_client()) == {
            **asked("Name?"),
            "inputRequests": {
                **asked("Name?")["inputRequests"],
                "a": asked("[b] Name?")["inputRequests"]["a"],
            },
            "_meta": OURS,
        }


async def test_so_do_those_of_a_task():
    def task(message):
        asks = {"a": {"method": "elicitation/create", "params": {**FORM, "message": message}}}
        return {"resultType": "complete", "taskId": "T", "status": "input_required", "inputRequests": asks}

    async with modern(label="[b] ") as (link, carrier, _):
        carrier.answers["tasks/get"] = task("Go on?")
        client = modern_client(extensions=TASKS)
        assert await call(link, client, "tasks/get", taskId="T") == {**task("[b] Go on?"), "_meta": OURS}


async def test_a_task_is_for_who_declared_tasks():
    task = {"resultType": "task", "taskId": "T", "status": "working"}
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = task
        assert await call(link, modern_client(extensions=TASKS)) == {**task, "_meta": OURS}
        for client in (modern_client(), modern_client(extensions=b'{"x/y":{}}'), Client()):
            with pytest.raises(BackendMisbehaved, match="its resultType is 'task'"):
                await call(link, client)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"resultType": "surprise"}, "its resultType is 'surprise'"),
        ({"resultType": 7}, "resultType must be a string"),
        ("text", "not a JSON object"),
        (None, "not a JSON object"),
        ([], "not a JSON object"),
    ],
)
@pytest.mark.parametrize("client", [modern_client(), Client()], ids=["modern", "legacy"])
async def test_results_that_are_none(client, result, words):
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: carrier.say({"id": message["id"], "result": result})
        with pytest.raises(BackendMisbehaved, match=words):
            await call(link, client)


@pytest.mark.parametrize("client", [modern_client(), Client()], ids=["modern", "legacy"])
async def test_input_is_asked_for_by_three_methods_only(client):
    asked = {"resultType": "input_required", "requestState": "s"}
    async with modern() as (link, carrier, _):
        carrier.answers["completion/complete"] = asked
        with pytest.raises(BackendMisbehaved, match="invalid result of completion/complete"):
            await call(link, client, "completion/complete", ref={}, argument={})


async def test_errors_come_as_they_are():
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = Failure(-32021, "no", data={"requiredCapabilities": {"sampling": {}}}, extra=1)
        with pytest.raises(RpcError) as caught:
            await call(link, modern_client())
        assert json.loads(caught.value.encode()) == {
            "code": -32021,
            "message": "no",
            "data": {"requiredCapabilities": {"sampling": {}}},
            "extra": 1,
        }


# ---- what is read once


def contents(text="1", **members):
    hint = {"ttlMs": 60_000, "cacheScope": "public"}
    return {"resultType": "complete", "contents": [{"uri": "x:/1", "text": text}], **hint, **members}


@asynccontextmanager
async def reading(**members):
    """A backend whose resources say how often they were read."""
    async with modern(**members) as (link, carrier, heard):

        def serve(message):
            return contents(str(len(carrier.named("resources/read"))))

        carrier.answers["resources/read"] = serve
        yield link, carrier, heard


async def read(link, client=None, uri="x:/1", **params):
    result = await call(link, client or modern_client(), "resources/read", uri=uri, **params)
    return result["contents"][0]["text"]


async def test_a_resource_is_read_once_for_clients_of_both_eras(autojump_clock):
    async with reading() as (link, carrier, _):
        client, older = modern_client(), Client()
        assert await call(link, client, "resources/read", uri="x:/1") == {**contents(), "_meta": OURS}
        await trio.sleep(20)
        assert await call(link, client, "resources/read", uri="x:/1") == {**contents(ttlMs=40_000), "_meta": OURS}
        legacy = {"contents": [{"uri": "x:/1", "text": "1"}]}
        assert await call(link, older, "resources/read", uri="x:/1") == legacy
        assert len(carrier.named("resources/read")) == 1
        await trio.sleep(40)
        assert await call(link, older, "resources/read", uri="x:/1") == {"contents": [{"uri": "x:/1", "text": "2"}]}
        assert await read(link) == "2", "what a legacy client read is kept too"
        assert await read(link, uri="x:/2") == "3"


async def test_what_is_private_is_read_by_each_for_itself(autojump_clock):
    async with reading() as (link, carrier, _):
        carrier.answers["resources/read"] = contents(cacheScope="private")
        one, two = modern_client(principal="one"), modern_client(principal="two")
        for client in (one, two, one, two):
            await read(link, client)
        assert len(carrier.named("resources/read")) == 2


@pytest.mark.parametrize("answer", [contents(ttlMs=0), contents(ttlMs=None), contents(resultType=None, ttlMs=-1)])
async def test_what_its_backend_does_not_let_be_kept_is_not(answer):
    async with modern() as (link, carrier, _):
        carrier.answers["resources/read"] = answer
        for _ in range(3):
            await read(link)
        assert len(carrier.named("resources/read")) == 3


async def test_other_methods_are_never_kept():
    async with modern() as (link, carrier, _):
        carrier.answers["resources/other"] = contents()
        for _ in range(2):
            await call(link, modern_client(), "resources/other", uri="x:/1")
        assert len(carrier.named("resources/other")) == 2


@pytest.mark.parametrize("client", [modern_client(), Client()], ids=["modern", "legacy"])
async def test_a_resource_that_asks_is_neither_kept_nor_answered_from_what_is(client):
    asked = {"resultType": "input_required", "inputRequests": {"n": {"method": "elicitation/create", "params": FORM}}}
    async with modern() as (link, carrier, _):

        def serve(message):
            return contents("answered") if "inputResponses" in message["params"] else {**asked, "ttlMs": 60_000}

        carrier.answers["resources/read"] = serve
        for _ in range(2):
            if client.caller.stateless:
                first = await call(link, client, "resources/read", uri="x:/1")
                assert first["resultType"] == "input_required"
                assert await read(link, client, inputResponses={"n": {"action": "cancel"}}) == "answered"
            else:
                assert await read(link, client) == "answered"
        assert len(carrier.named("resources/read")) == 4
        carrier.answers["resources/read"] = contents("complete")
        assert await read(link, client) == "complete"
        carrier.answers["resources/read"] = contents("answered")
        assert await read(link, modern_client(), requestState="s") == "answered"
        assert await read(link, client) == "complete"


async def updated(link, carrier):
    carrier.notify("notifications/resources/updated", {"uri": "x:/1"})


async def list_changed(link, carrier):
    carrier.notify("notifications/resources/list_changed")


async def subscribed(link, carrier):
    """What happened until then was not told."""
    made = Client().call("resources/subscribe", uri="x:/1")
    await link.subscribe(made, "x:/1", made.members)


async def interrupted(link, carrier):
    carrier.answer_to(carrier.named("subscriptions/listen")[0], {"resultType": "complete"})
    await wait_all_tasks_blocked()


NEWS = [updated, list_changed, subscribed, interrupted]


@pytest.mark.parametrize("news", NEWS)
async def test_news_ends_what_is_kept(news, autojump_clock):
    async with reading() as (link, carrier, _):
        await link.replay()
        assert [await read(link), await read(link)] == ["1", "1"]
        await news(link, carrier)
        assert [await read(link), await read(link)] == ["2", "2"]


@pytest.mark.parametrize("news", NEWS)
async def test_what_was_read_before_the_news_is_not_kept_after_it(news, nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        await link.replay()
        carrier.answers["resources/read"] = lambda message: None
        made = modern_client().call("resources/read", uri="x:/1")
        outcome = calling(nursery, link.call, made, "resources/read", made.members)
        sent = await carrier.wait_sent("resources/read")
        await news(link, carrier)
        carrier.answer_to(sent, contents("old"))
        await outcome.done.wait()
        assert outcome.result["contents"][0]["text"] == "old"
        carrier.answers["resources/read"] = contents("new")
        assert await read(link) == "new"


async def test_what_was_kept_while_nobody_told_of_changes_goes_when_somebody_does_again(autojump_clock):
    async with reading() as (link, carrier, _):
        await link.replay()
        await interrupted(link, carrier)
        assert [await read(link), await read(link)] == ["1", "1"]
        await carrier.wait_sent("subscriptions/listen", 2)
        await wait_all_tasks_blocked()
        assert await read(link) == "2"


async def test_other_news_ends_nothing(autojump_clock):
    async with reading() as (link, carrier, heard):
        await link.replay()
        await read(link)
        carrier.notify("notifications/tools/list_changed")
        carrier.notify("notifications/resources/updated", {"uri": "y:/2"})
        carrier.notify("notifications/resources/updated", {"uri": 7})
        assert await read(link) == "1"
        assert len(heard.updates) == 2, "what is wrong with it is for others to say"


async def test_a_backend_that_forgot_what_each_result_says():
    async with modern() as (link, carrier, _):
        carrier.answers["resources/read"] = {"contents": []}
        carrier.answers["tools/call"] = {"content": []}
        hint = {"ttlMs": 0, "cacheScope": "private"}
        complete = {"resultType": "complete", "_meta": OURS}
        client = modern_client()
        assert await call(link, client, "resources/read", uri="x:/1") == {"contents": [], **hint, **complete}
        assert await call(link, client) == {"content": [], **complete}


# ---- notifications


async def test_progress_and_logs_of_a_call(nursery, autojump_clock):
    async with modern() as (link, carrier, heard):
        carrier.answers["tools/call"] = lambda message: None
        client = modern_client(log_level=4)
        made = client.call(token=b'"mine"')
        calling(nursery, link.call, made, "tools/call", made.members)
        sent = await carrier.wait_sent("tools/call")
        carrier.notify("notifications/progress", {"progressToken": sent["id"], "progress": 1})
        for level in ("warning", "error"):
            carrier.notify("notifications/message", {"level": level, "data": level})
        assert [params for _, params in client.emitted] == [
            {"progressToken": "mine", "progress": 1},
            {"level": "error", "data": "error"},
        ]
        assert heard.strays == []


async def test_a_log_line_on_a_pipe_is_for_the_only_call_that_wants_logs(nursery, autojump_clock):
    async with modern() as (link, carrier, heard):
        carrier.answers["tools/call"] = lambda message: None
        wants, quiet, other = modern_client("1", log_level=0), modern_client("2"), Client("3", log_level=0)
        for client in (wants, quiet):
            made = client.call()
            calling(nursery, link.call, made, "tools/call", made.members)
        await carrier.wait_sent("tools/call", 2)
        carrier.notify("notifications/message", {"level": "info", "data": 1})
        assert (len(wants.emitted), len(quiet.emitted)) == (1, 0)
        made = other.call()
        calling(nursery, link.call, made, "tools/call", made.members)
        await carrier.wait_sent("tools/call", 3)
        carrier.notify("notifications/message", {"level": "info", "data": 2})
        assert (len(wants.emitted), len(other.emitted)) == (1, 0), "nothing says whose it is"
        assert heard.strays == []


async def test_a_log_line_on_a_calls_own_stream_needs_no_guess(nursery, autojump_clock):
    async with modern(shared=False) as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        clients = [modern_client(str(n), log_level=0) for n in range(2)]
        for client in clients:
            made = client.call(name=client.caller.key)
            calling(nursery, link.call, made, "tools/call", made.members)
        await carrier.wait_sent("tools/call", 2)
        waiter = next(each for each in carrier.waiters if each.call and each.call.caller is clients[1].caller)
        carrier.notify("notifications/message", {"level": "info", "data": 1}, waiter)
        assert [len(client.emitted) for client in clients] == [0, 1]


async def test_nobody_hears_a_log_line_outside_of_calls():
    async with modern() as (_link, carrier, heard):
        carrier.notify("notifications/message", {"level": "error", "data": 1})
        assert heard.strays == []


async def test_requests_of_a_server_are_not_answered(caplog):
    async with modern() as (_link, carrier, heard):
        carrier.say({"id": 1, "method": "roots/list"})
        carrier.say({"id": 2, "method": "ping"})
        await wait_all_tasks_blocked()
        assert carrier.named("answer") == []
        assert heard.asked == []
        assert sum("unexpected_request" in record.message for record in caplog.records) == 2


# ---- cancellation and time


@pytest.mark.parametrize("client", [modern_client(), Client()], ids=["modern", "legacy"])
async def test_a_cancelled_call_on_a_pipe(client, nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        made = client.call()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        sent = await carrier.wait_sent("tools/call")
        outcome.scope.cancel()
        cancelled = await carrier.wait_sent("notifications/cancelled")
        assert cancelled["params"]["requestId"] == sent["id"]
        carrier.answer_to(sent, complete())
        assert link.in_flight == 0


async def test_over_http_the_end_of_the_stream_tells(nursery, autojump_clock):
    async with modern(shared=False, timeouts=SHORT) as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        made = modern_client().call()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        await carrier.wait_sent("tools/call")
        outcome.scope.cancel()
        await outcome.done.wait()
        with pytest.raises(BackendTimedOut, match="call_idle"):
            await call(link, modern_client())
        await wait_all_tasks_blocked()
        assert carrier.named("notifications/cancelled") == []
        assert carrier.forgone == ["tools/call"] * 2


async def test_a_call_without_answer_times_out(autojump_clock):
    async with modern(timeouts=SHORT) as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        begun = trio.current_time()
        with pytest.raises(BackendTimedOut, match=r"tools/call in 10 s \(raise servers.b.timeouts.call_idle"):
            await call(link, modern_client())
        assert 10 <= trio.current_time() - begun < 11
        assert await carrier.wait_sent("notifications/cancelled")


# ---- headers that do not fit


async def test_a_refusal_for_its_headers_lists_the_tools_and_sends_once_more():
    async with modern(shared=False) as (link, carrier, heard):
        schema = {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

        def serve(message):
            if b"Mcp-Param-Region" not in carrier.headers[-1]:
                heard.tools = ToolFacts(parameters={b'"t"': Parameters.read(json.dumps(schema).encode())})
                raise Failure(-32020, "Mcp-Param-Region header is missing")
            return complete(ok=True)

        carrier.answers["tools/call"] = serve
        assert (await call(link, modern_client(), name="t", arguments={"region": "x"}))["ok"]
        assert heard.relisted == ["tools"]
        first, second = carrier.named("tools/call")
        assert first["id"] != second["id"]
        assert first["params"] == second["params"]


@pytest.mark.parametrize(("method", "sent"), [("tools/call", 2), ("resources/read", 1)])
async def test_but_once_only_and_only_where_a_list_can_help(method, sent):
    async with modern(shared=False) as (link, carrier, heard):
        carrier.answers[method] = Failure(-32020, "Mcp-Name header does not match")
        with pytest.raises(RpcError) as caught:
            await call(link, modern_client(), method, name="t", uri="x:/1")
        assert caught.value.code == -32020
        assert len(carrier.named(method)) == sent
        assert heard.relisted == ["tools"] * (sent - 1)


async def test_the_second_attempt_has_the_time_of_the_first(nursery, autojump_clock):
    async with modern(shared=False, timeouts=SHORT) as (link, carrier, _):
        sent = []

        def serve(message):
            sent.append(message)
            if len(sent) == 1:
                raise Failure(-32020, "header mismatch")

        carrier.answers["tools/call"] = serve
        made = modern_client().call(token=b"1")
        begun = trio.current_time()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        await carrier.wait_sent("tools/call", 2)
        while not outcome.done.is_set():
            carrier.notify("notifications/progress", {"progressToken": sent[1]["id"], "progress": 1})
            with trio.move_on_after(8):
                await outcome.done.wait()
        assert "call_max" in str(outcome.error)
        assert 60 <= trio.current_time() - begun < 70


# ---- a server that is not modern any more


@pytest.mark.parametrize("client", [modern_client(), Client()], ids=["modern", "legacy"])
async def test_a_server_that_does_not_speak_the_version_any_more_is_lost(client):
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = Failure(-32022, "unsupported", data={"supported": ["2031-01-01"]})
        with pytest.raises(BackendUnavailable, match="does not speak 2026-07-28 any more"):
            await call(link, client)
        assert link.lost.is_set()
        assert len(carrier.named("tools/call")) == 1


LEGACY_WORDS = {
    "Python, without a session": Failure(-32600, "Bad Request: Missing session ID"),
    "TypeScript, without a session": Failure(-32000, "Bad Request: Server not initialized"),
    "a session that is unknown": Failure(-32001, "Session not found"),
    "no JSON-RPC": BackendUnavailable("b", "HTTP 400 to tools/call"),
}
LOST = {
    "an error": Failure(-32601, "Method not found"),
    "legacy versions": Failure(-32022, "unsupported", data={"supported": ["2025-11-25"]}),
    "versions that nobody knows": Failure(-32022, "unsupported", data={"supported": ["2031-01-01"]}),
    "a result that is none": {"ok": True},
    "other versions": {**DISCOVER, "supportedVersions": ["2025-11-25"]},
}


class Scripted:
    """Answers a method by an exception that is no JSON-RPC error."""

    def __init__(self, carrier, method, failure) -> None:
        self.carry = carrier.carry
        self.method, self.failure = method, failure
        carrier.carry = self

    async def __call__(self, waiter, parts):
        if waiter.method == self.method:
            raise self.failure
        return await self.carry(waiter, parts)


def answer_with(carrier, method, failure):
    if isinstance(failure, BackendUnavailable):
        Scripted(carrier, method, failure)
    else:
        carrier.answers[method] = failure


@pytest.mark.parametrize("words", LEGACY_WORDS.values(), ids=LEGACY_WORDS)
@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
async def test_a_server_that_answers_as_legacy_ones_do_is_looked_at_again(words, answer):
    async with modern(shared=False) as (link, carrier, _):
        answer_with(carrier, "tools/call", words)
        carrier.answers["server/discover"] = answer
        with pytest.raises(RpcError) as caught:
            await call(link, modern_client())
        assert not link.lost.is_set(), "the caller learns what was answered"
        assert caught.value.message in str(words)
        await wait_all_tasks_blocked()
        assert "any more" in str(link.reason)


@pytest.mark.parametrize(
    "answer", [DISCOVER, BackendCrashed("b", "broke"), Failure(-32022, "?", data={"supported": ["2026-07-28"]})]
)
async def test_and_is_kept_if_it_is_what_it_was_or_nothing_shows(answer):
    async with modern(shared=False) as (link, carrier, _):
        carrier.answers["tools/call"] = Failure(-32600, "no")
        if isinstance(answer, BackendCrashed):
            Scripted(carrier, "server/discover", answer)
        else:
            carrier.answers["server/discover"] = answer
        for _ in range(3):
            with pytest.raises(RpcError):
                await call(link, modern_client())
        await wait_all_tasks_blocked()
        assert not link.lost.is_set()


async def test_it_is_looked_at_once_at_a_time_and_not_for_every_error():
    async with modern(shared=False) as (link, carrier, _):
        carrier.answers["tools/call"] = Failure(-32602, "unknown tool")
        with pytest.raises(RpcError):
            await call(link, modern_client())
        carrier.answers["tools/call"] = Failure(-32002, "not found")
        with pytest.raises(RpcError):
            await call(link, modern_client())
        await wait_all_tasks_blocked()
        assert len(carrier.named("server/discover")) == 1, "that of the opening"
        carrier.answers["tools/call"] = Failure(-32600, "no")
        carrier.answers["server/discover"] = lambda message: None
        for _ in range(5):
            with pytest.raises(RpcError):
                await call(link, modern_client())
        await wait_all_tasks_blocked()
        assert len(carrier.named("server/discover")) == 2


async def test_a_child_is_not_looked_at_for_it_stays_what_it_is():
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = Failure(-32600, "no")
        with pytest.raises(RpcError):
            await call(link, modern_client())
        await wait_all_tasks_blocked()
        assert len(carrier.named("server/discover")) == 1


async def test_a_check_asks_what_it_is():
    async with modern(shared=False) as (link, carrier, _):
        link.dialect.check()
        await wait_all_tasks_blocked()
        assert len(carrier.named("server/discover")) == 2
        assert not link.lost.is_set()
        carrier.answers["server/discover"] = Failure(-32601, "Method not found")
        link.dialect.check()
        await link.lost.wait()


# ---- what there is no more


async def test_what_only_sessions_have_sends_nothing():
    async with modern() as (link, carrier, _):
        await link.set_level("debug")
        link.dialect.roots_changed()
        await link.dialect.renewed(0)
        await link.dialect.wait_settled()
        await wait_all_tasks_blocked()
        assert carrier.methods() == ["server/discover"]
