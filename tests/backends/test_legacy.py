"""The dialect of the handshake versions: the handshake, a session that is lost, modern clients at a legacy backend."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.carrier import SessionLost
from mcpd.backends.legacy import RefusedInitialize
from mcpd.backends.tools import ToolFacts
from mcpd.config.model import Timeouts
from mcpd.errors import BackendMisbehaved, BackendTimedOut, BackendUnavailable, MissingCapability, RpcError
from mcpd.protocol.capabilities import EVERYTHING, NOTHING, ClientCapability
from mcpd.protocol.versions import Version
from mcpd.types import IMPLEMENTATION
from tests.backends.parts import (
    ENVELOPE,
    HELLO,
    Client,
    Failure,
    calling,
    linked,
    lose_session_once,
    modern_client,
    result_of,
)

SHORT = Timeouts(init=5, call_idle=10, call_max=60, list=5, ask=100)
OURS = {ENVELOPE + "serverInfo": json.loads(IMPLEMENTATION)}
FORM = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
URL = {"mode": "url", "message": "?", "url": "https://example.com", "elicitationId": "e1"}
SAMPLE = {"messages": [], "maxTokens": 1}


async def call(link, client, method="tools/call", **params):
    made = client.call(method, **params)
    return result_of(await link.call(made, method, made.members))


# ---- the handshake


async def test_handshake(autojump_clock):
    async with linked(opened=False) as (link, carrier, _):
        hello = await link.open()
        assert hello.version is Version.V2025_11_25
        assert carrier.methods() == ["initialize", "notifications/initialized"]
        params = carrier.sent[0]["params"]
        assert params["protocolVersion"] == "2025-11-25"
        assert set(params["capabilities"]) == {"roots", "sampling", "elicitation"}
        assert carrier.agreed == "2025-11-25"


async def test_an_older_version_is_taken(autojump_clock):
    async with linked(opened=False) as (link, carrier, _):
        carrier.answers["initialize"] = {**HELLO, "protocolVersion": "2024-11-05"}
        assert (await link.open()).version is Version.V2024_11_05


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            Failure(-32602, "unsupported", data={"supported": ["1"]}),
            BackendUnavailable,
            "refused initialize: unsupported",
        ),
        ({**HELLO, "protocolVersion": "2099-01-01"}, BackendMisbehaved, "2099-01-01"),
        ({"capabilities": {}}, BackendMisbehaved, "does not speak"),
        ({}, BackendMisbehaved, "does not speak"),
    ],
)
async def test_a_handshake_that_fails(answer, kind, words):
    async with linked(opened=False) as (link, carrier, _):
        carrier.answers["initialize"] = answer
        with pytest.raises(kind, match=words):
            await link.open()


@pytest.mark.parametrize("error", ["text", 7, None, [], {"code": "x"}, {"message": 7}, {}])
async def test_a_malformed_error_is_still_a_refusal(error):
    async with linked(opened=False) as (link, carrier, _):
        carrier.answers["initialize"] = lambda message: carrier.say({"id": message["id"], "error": error})
        with pytest.raises(BackendUnavailable, match="it refused initialize"):
            await link.open()


async def test_a_result_that_is_no_object():
    async with linked(opened=False) as (link, carrier, _):
        carrier.answers["initialize"] = "hello"
        with pytest.raises(BackendMisbehaved, match="check that this is an MCP server"):
            await link.open()


async def test_no_answer_to_initialize(autojump_clock):
    async with linked(opened=False, timeouts=SHORT) as (link, carrier, _):
        carrier.answers["initialize"] = lambda message: None
        with pytest.raises(BackendTimedOut, match=r"initialize in 5 s.*timeouts.init"):
            await link.open()
        await wait_all_tasks_blocked()
        assert carrier.methods() == ["initialize"], "initialize is never cancelled"


# ---- the session is lost


async def test_a_call_refused_for_its_session_is_sent_again_once(autojump_clock):
    async with linked() as (link, carrier, heard):
        link.level = "warning"
        link.subscriptions["x:/1"] = {"uri": b'"x:/1"'}
        carrier.answers["tools/call"] = lose_session_once({"ok": True})
        call = Client().call()
        assert result_of(await link.call(call, "tools/call", call.members)) == {"ok": True}
        assert carrier.resets == 1
        assert carrier.methods() == [
            "initialize",
            "notifications/initialized",
            "tools/call",
            "initialize",
            "notifications/initialized",
            "logging/setLevel",
            "resources/subscribe",
            "tools/call",
        ]
        first, again = carrier.named("tools/call")
        assert first["params"] == again["params"]
        assert first["id"] != again["id"]
        await heard.wait_until(lambda: len(heard.list_changes) == 3)


async def test_many_refused_calls_open_one_session(nursery, autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        calls = [Client(f"c{n}").call(n=n) for n in range(5)]
        outcomes = [calling(nursery, link.call, call, "tools/call", call.members) for call in calls]
        await carrier.wait_sent("tools/call", 5)
        carrier.answers["tools/call"] = lambda message: {"n": message["params"]["n"]}
        for waiter in carrier.waiters[1:]:
            waiter.settle(SessionLost())
        for n, outcome in enumerate(outcomes):
            await outcome.done.wait()
            assert outcome.result == {"n": n}
        assert len(carrier.named("initialize")) == 2
        assert len(carrier.named("tools/call")) == 10


async def test_a_server_that_loses_every_session(autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = SessionLost()
        call = Client().call()
        with pytest.raises(BackendUnavailable, match="loses every session"):
            await link.call(call, "tools/call", call.members)
        assert len(carrier.named("tools/call")) == 2
        assert not link.lost.is_set()


async def test_a_client_that_leaves_while_the_session_is_opened_anew_harms_nobody(nursery, autojump_clock):
    async with linked() as (link, carrier, _):
        proceed = []
        carrier.answers["initialize"] = lambda message: proceed.append(message)
        carrier.answers["tools/call"] = lose_session_once({"ok": True})
        first, second = Client("a").call(), Client("b").call()
        leaver = calling(nursery, link.call, first, "tools/call", first.members)
        await carrier.wait_sent("initialize", 2)
        stayer = calling(nursery, link.call, second, "tools/call", second.members)
        await wait_all_tasks_blocked()
        leaver.scope.cancel()
        await leaver.done.wait()
        assert len(carrier.named("tools/call")) == 1, "nothing is sent between two sessions"
        carrier.answer_to(proceed[0], HELLO)
        await stayer.done.wait()
        assert stayer.result == {"ok": True}
        assert carrier.named("notifications/cancelled") == []


@pytest.mark.parametrize(
    ("initialize", "words"),
    [
        (Failure(-32000, "not today"), "not today"),
        (lambda message: None, "no new session in 5 s|no answer to initialize in 5 s"),
        ({"protocolVersion": "x"}, "does not speak"),
    ],
)
async def test_a_session_that_cannot_be_opened_anew_loses_the_link(initialize, words, autojump_clock):
    async with linked(timeouts=SHORT) as (link, carrier, _):
        carrier.answers["initialize"] = initialize
        carrier.answers["tools/call"] = SessionLost()
        call = Client().call()
        with pytest.raises((BackendUnavailable, BackendTimedOut, BackendMisbehaved), match=words):
            await link.call(call, "tools/call", call.members)
        assert link.lost.is_set()


async def test_a_session_lost_again_while_it_is_set_up_loses_the_link(autojump_clock):
    async with linked() as (link, carrier, _):
        link.level = "info"
        carrier.answers["logging/setLevel"] = SessionLost()
        carrier.answers["tools/call"] = SessionLost()
        call = Client().call()
        with pytest.raises(BackendUnavailable, match="loses every session"):
            await link.call(call, "tools/call", call.members)
        assert link.lost.is_set()
        assert len(carrier.named("initialize")) == 2


async def test_replay_goes_on_after_a_refusal(autojump_clock):
    async with linked() as (link, carrier, _):
        link.level = "error"
        link.subscriptions.update({"x:/1": {"uri": b'"x:/1"'}, "x:/2": {"uri": b'"x:/2"'}})
        carrier.answers["resources/subscribe"] = Failure(-32602, "gone")
        await link.replay()
        assert carrier.methods()[2:] == ["logging/setLevel", "resources/subscribe", "resources/subscribe"]


async def test_no_level_for_a_backend_that_does_not_log(autojump_clock):
    async with linked(opened=False) as (link, carrier, _):
        carrier.answers["initialize"] = {**HELLO, "capabilities": {"tools": {}}}
        await link.open()
        await link.set_level("debug")
        assert link.level == "debug"
        assert "logging/setLevel" not in carrier.methods()


async def test_the_second_attempt_has_the_time_of_the_first(nursery, autojump_clock):
    async with linked(timeouts=SHORT) as (link, carrier, _):
        carrier.answers["tools/call"] = lose_session_once(lambda message: None)
        client = Client()
        made = client.call(token=b'"mine"')
        begun = trio.current_time()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        again = await carrier.wait_sent("tools/call", 2)
        while not outcome.done.is_set():
            carrier.notify("notifications/progress", {"progressToken": again["id"], "progress": 1})
            with trio.move_on_after(8):
                await outcome.done.wait()
        assert client.emitted[0] == ("notifications/progress", {"progressToken": "mine", "progress": 1})
        assert "call_max" in str(outcome.error)
        assert 60 <= trio.current_time() - begun < 70


# ---- two halves of a handshake


async def test_nothing_is_agreed_before_it_is(autojump_clock):
    async with linked(opened=False) as (link, carrier, _):
        hello = await link.legacy.offer()
        assert carrier.methods() == ["initialize"]
        assert (link.hello, carrier.agreed) == (None, "")
        await link.legacy.agree(hello)
        assert carrier.methods() == ["initialize", "notifications/initialized"]
        assert (link.hello, carrier.agreed) == (hello, "2025-11-25")


async def test_a_refusal_keeps_what_was_said():
    async with linked(opened=False) as (link, carrier, _):
        carrier.answers["initialize"] = Failure(-32022, "unsupported", data={"supported": ["2026-07-28"]})
        with pytest.raises(RefusedInitialize) as caught:
            await link.legacy.offer()
        assert caught.value.error.code == -32022


@pytest.mark.parametrize("kind", ["tools", "resources", "resourceTemplates", "prompts"])
async def test_what_a_backend_announces(kind):
    async with linked(opened=False) as (link, carrier, _):
        assert not link.dialect.announces(kind)
        await link.open()
        assert link.dialect.announces(kind)
    async with linked(opened=False) as (link, carrier, _):
        carrier.answers["initialize"] = {**HELLO, "capabilities": {"tools": {}, "resources": {"subscribe": True}}}
        await link.open()
        assert not link.dialect.announces(kind)


async def test_the_link_is_alive_if_it_answers_a_ping():
    async with linked() as (link, carrier, _):
        link.dialect.check()
        await carrier.wait_sent("ping")


# ---- modern clients


@pytest.mark.parametrize(
    ("method", "result", "added"),
    [
        ("tools/call", {"content": [], "isError": True}, {}),
        ("prompts/get", {"messages": []}, {}),
        ("completion/complete", {"completion": {"values": []}}, {}),
        ("resources/read", {"contents": []}, {"ttlMs": 0, "cacheScope": "private"}),
    ],
)
async def test_results_are_completed(method, result, added):
    async with linked() as (link, carrier, _):
        carrier.answers[method] = result
        got = await call(link, modern_client(), method, name="t", uri="x:/1")
        assert got == {**result, **added, "resultType": "complete", "_meta": OURS}


async def test_what_vendors_put_into_a_result_stays():
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = {"content": [], "x": 1, "_meta": {"vendor/y": 2}}
        got = await call(link, modern_client())
        assert got == {"content": [], "x": 1, "resultType": "complete", "_meta": {"vendor/y": 2, **OURS}}


async def test_legacy_clients_get_results_as_they_are():
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = {"content": []}
        assert await call(link, Client()) == {"content": []}


@pytest.mark.parametrize("result", ["text", 7, []])
async def test_a_result_that_cannot_be_completed(result):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = result
        with pytest.raises(BackendMisbehaved, match="its result of tools/call is not a JSON object"):
            await call(link, modern_client())


async def test_nothing_of_the_envelope_is_sent():
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = {"content": []}
        envelope = {ENVELOPE + name: {} for name in ("protocolVersion", "clientCapabilities", "clientInfo", "logLevel")}
        meta = {**envelope, "progressToken": "mine", "vendor/x": 1}
        for made in (
            modern_client().call(token=b'"mine"', name="t", _meta=meta),
            modern_client().call(name="t", _meta=envelope),
        ):
            await link.call(made, "tools/call", made.members)
        first, second = carrier.named("tools/call")
        assert first["params"] == {"name": "t", "_meta": {"progressToken": first["id"], "vendor/x": 1}}
        assert second["params"] == {"name": "t"}
        assert carrier.headers[-1] == b""


def asking(carrier, method, params, answer):
    """A tool that asks, and then answers so, whatever it was told."""

    def serve(message):
        waiter = carrier.waiters[-1]
        carrier.say({"id": "q", "method": method, "params": params}, waiter)

        async def finish():
            await carrier.wait_sent("answer")
            if isinstance(answer, Failure):
                carrier.say({"id": message["id"], "error": answer.error})
            else:
                carrier.answer_to(message, answer)

        carrier.link.nursery.start_soon(finish)

    carrier.answers["tools/call"] = serve


GAVE_UP = Failure(-32603, "cannot go on")


@pytest.mark.parametrize(
    ("capabilities", "method", "params", "required"),
    [
        (NOTHING, "roots/list", {}, {"roots": {}}),
        (NOTHING, "sampling/createMessage", SAMPLE, {"sampling": {}}),
        (ClientCapability.SAMPLING, "sampling/createMessage", {**SAMPLE, "tools": []}, {"sampling": {"tools": {}}}),
        (ClientCapability.SAMPLING, "elicitation/create", FORM, {"elicitation": {"form": {}}}),
        (ClientCapability.ELICITATION_FORM, "elicitation/create", URL, {"elicitation": {"url": {}}}),
    ],
)
async def test_a_backend_that_gives_up_without_a_capability_needed_it(capabilities, method, params, required):
    async with linked() as (link, carrier, _):
        asking(carrier, method, params, GAVE_UP)
        client = modern_client(capabilities=capabilities)
        with pytest.raises(MissingCapability, match="the backend gave up without it: cannot go on") as caught:
            await call(link, client)
        assert json.loads(caught.value.encode())["data"] == {"requiredCapabilities": required}
        assert caught.value.http_status == 400
        assert "error" in carrier.named("answer")[0]
        assert client.asked == []


async def test_one_that_can_do_without_it_did_not():
    async with linked() as (link, carrier, _):
        asking(carrier, "roots/list", {}, {"content": []})
        assert (await call(link, modern_client(capabilities=NOTHING)))["content"] == []


async def test_what_fails_for_another_reason_says_so():
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = GAVE_UP
        for client in (modern_client(capabilities=NOTHING), modern_client()):
            with pytest.raises(RpcError) as caught:
                await call(link, client)
            assert caught.value.code == -32603
        asking(carrier, "roots/list", {}, GAVE_UP)
        answering = modern_client(capabilities=EVERYTHING)
        answering.answer = b'{"roots":[]}'
        with pytest.raises(RpcError) as caught:
            await call(link, answering)
        assert not isinstance(caught.value, MissingCapability), "it was answered"


async def test_a_link_that_is_lost_is_not_for_want_of_a_capability():
    async with linked() as (link, carrier, _):

        def serve(message):
            carrier.waiters[-1].refused |= ClientCapability.ROOTS
            link.fail(BackendUnavailable("b", "gone"))

        carrier.answers["tools/call"] = serve
        with pytest.raises(BackendUnavailable, match="gone"):
            await call(link, modern_client(capabilities=NOTHING))


async def test_legacy_clients_are_told_what_the_backend_says():
    async with linked() as (link, carrier, _):
        asking(carrier, "roots/list", {}, GAVE_UP)
        with pytest.raises(RpcError, match="cannot go on") as caught:
            await call(link, Client(capabilities=NOTHING))
        assert not isinstance(caught.value, MissingCapability)


# ---- their logs


async def test_the_level_is_lowered_for_who_wants_more():
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = {"content": []}
        link.level = "warning"
        for level in (None, 4, 3, 1, 2, 0, 0):
            await call(link, modern_client(log_level=level))
        assert [message["params"]["level"] for message in carrier.named("logging/setLevel")] == ["info", "debug"]
        assert carrier.methods()[2:6] == ["tools/call", "tools/call", "tools/call", "logging/setLevel"], (
            "before the call"
        )
        assert link.level == "debug"


@pytest.mark.parametrize(("wanted", "told"), [(0, "debug"), (1, "info"), (5, "info")])
async def test_where_nobody_ever_said_a_level_the_backend_is_not_made_to_say_less(wanted, told):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = {"content": []}
        for _ in range(2):
            await call(link, modern_client(log_level=wanted))
        assert [message["params"]["level"] for message in carrier.named("logging/setLevel")] == [told]


async def test_only_who_wants_logs_gets_them(nursery, autojump_clock):
    async with linked(owner="s1") as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        clients = [modern_client("quiet"), modern_client("loud", log_level=1), Client("legacy")]
        for client in clients:
            made = client.call(name=client.caller.key)
            calling(nursery, link.call, made, "tools/call", made.members)
        await carrier.wait_sent("tools/call", 3)
        waiters = [each for each in carrier.waiters if each.method == "tools/call"]
        for waiter in waiters:
            for level in ("debug", "info"):
                carrier.notify("notifications/message", {"level": level, "data": level}, waiter)
        assert [[params["data"] for _, params in client.emitted] for client in clients] == [
            [],
            ["info"],
            ["debug", "info"],
        ]


# ---- tools that run as tasks only (the rest is in test_tasks)


@pytest.mark.parametrize(
    ("version", "name", "as_task"),
    [("2025-11-25", "slow", True), ("2025-11-25", "quick", False), ("2025-06-18", "slow", False)],
)
async def test_which_tools_are_called_as_tasks(version, name, as_task):
    async with linked(opened=False) as (link, carrier, heard):
        carrier.answers["initialize"] = {**HELLO, "protocolVersion": version}
        await link.open()
        heard.tools = ToolFacts(as_tasks=frozenset({b'"slow"'}))
        carrier.answers["tools/call"] = {"content": []}
        await call(link, Client(), name=name)
        assert ("task" in carrier.named("tools/call")[0]["params"]) == as_task
