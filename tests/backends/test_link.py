from __future__ import annotations

import json

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.carrier import Wish
from mcpd.backends.errands import ERRANDS_MAX
from mcpd.backends.notifications import severity, wants_log
from mcpd.config.model import Timeouts
from mcpd.errors import (
    METHOD_NOT_FOUND,
    BackendCrashed,
    BackendTimedOut,
    BackendUnavailable,
    RpcError,
)
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from tests.backends.parts import Client, Failure, calling, linked, result_of

SHORT = Timeouts(init=5, call_idle=10, call_max=60, list=5, ask=100)


# ---- calls


async def test_a_call_and_its_answer(autojump_clock):
    async with linked() as (link, _carrier, _):
        client = Client()
        call = client.call(name="t", arguments={"x": 1.50})
        answer = await link.call(call, "tools/call", call.members)
        assert result_of(answer)["echo"] == {"name": "t", "arguments": {"x": 1.5}}
        assert link.in_flight == 0


async def test_the_backends_error_arrives_as_it_came(autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = Failure(-32099, "no", data={"why": [1]}, extra=True)
        call = Client().call()
        with pytest.raises(RpcError) as caught:
            await link.call(call, "tools/call", call.members)
        assert json.loads(caught.value.encode()) == {
            "code": -32099,
            "message": "no",
            "data": {"why": [1]},
            "extra": True,
        }
        assert not isinstance(caught.value, BackendUnavailable)


async def test_answers_find_their_calls_in_any_order_and_spelling(nursery, autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        calls = [Client(f"c{n}").call(n=n) for n in range(3)]
        outcomes = [calling(nursery, link.call, call, "tools/call", call.members) for call in calls]
        await carrier.wait_sent("tools/call", 3)
        for message in reversed(carrier.named("tools/call")):
            id = message["id"]
            spelled = [id, str(id), float(id)][message["params"]["n"]]
            carrier.say({"id": spelled, "result": {"for": message["params"]["n"]}})
        for n, outcome in enumerate(outcomes):
            await outcome.done.wait()
            assert outcome.result == {"for": n}
        carrier.say({"id": 1, "result": {}})
        carrier.say({"id": "nobody", "result": {}})
        carrier.say({"id": None, "error": {"code": 1, "message": "x"}})


async def test_a_call_without_answer_times_out_and_is_cancelled(autojump_clock):
    async with linked(timeouts=SHORT) as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        call = Client().call()
        start = trio.current_time()
        with pytest.raises(BackendTimedOut, match=r"tools/call in 10 s \(raise servers.b.timeouts.call_idle"):
            await link.call(call, "tools/call", call.members)
        assert 10 <= trio.current_time() - start < 11
        cancelled = await carrier.wait_sent("notifications/cancelled")
        assert cancelled["params"]["requestId"] == carrier.named("tools/call")[0]["id"]
        carrier.answer_to(carrier.named("tools/call")[0], {"late": True})
        assert link.in_flight == 0


async def test_progress_restarts_the_idle_time_up_to_the_maximum(nursery, autojump_clock):
    async with linked(timeouts=SHORT) as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        client = Client()
        call = client.call(token=b'"mine"', name="t", _meta={"progressToken": "mine", "kept": 1})
        outcome = calling(nursery, link.call, call, "tools/call", call.members)
        sent = await carrier.wait_sent("tools/call")
        token = sent["params"]["_meta"]["progressToken"]
        assert sent["params"]["_meta"] == {"progressToken": token, "kept": 1}
        assert token != "mine"
        start = trio.current_time()
        for step in range(20):
            await trio.sleep(8)
            if outcome.done.is_set():
                break
            carrier.notify("notifications/progress", {"progressToken": token, "progress": step})
        assert isinstance(outcome.error, BackendTimedOut)
        assert "call_max" in str(outcome.error)
        assert 60 <= trio.current_time() - start < 70
        assert client.emitted[0] == ("notifications/progress", {"progressToken": "mine", "progress": 0})
        assert len(client.emitted) == 7


async def test_progress_for_nobody_is_dropped(nursery, autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        client = Client()
        call = client.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        sent = await carrier.wait_sent("tools/call")
        for token in ("nobody", 99, sent["id"], None, [1]):
            carrier.notify("notifications/progress", {"progressToken": token, "progress": 1})
        carrier.notify("notifications/progress")
        assert client.emitted == []


async def test_a_cancelled_call_cancels_only_itself(nursery, autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        first, second = Client("a").call(n=1), Client("b").call(n=2)
        one = calling(nursery, link.call, first, "tools/call", first.members)
        two = calling(nursery, link.call, second, "tools/call", second.members)
        await carrier.wait_sent("tools/call", 2)
        one.scope.cancel()
        cancelled = await carrier.wait_sent("notifications/cancelled")
        by_n = {message["params"]["n"]: message for message in carrier.named("tools/call")}
        assert cancelled["params"]["requestId"] == by_n[1]["id"]
        carrier.answer_to(by_n[1], {"late": True})
        carrier.answer_to(by_n[2], {"ok": True})
        await two.done.wait()
        assert two.result == {"ok": True}
        assert len(carrier.named("notifications/cancelled")) == 1


async def test_a_lost_link_fails_all_calls_and_every_later_one(nursery, autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        calls = [Client(f"c{n}").call() for n in range(3)]
        outcomes = [calling(nursery, link.call, call, "tools/call", call.members) for call in calls]
        await carrier.wait_sent("tools/call", 3)
        link.fail(BackendCrashed("b", "was killed by SIGKILL"))
        link.fail(BackendCrashed("b", "something else"))
        for outcome in outcomes:
            await outcome.done.wait()
            assert "SIGKILL" in str(outcome.error)
        with pytest.raises(BackendCrashed, match="SIGKILL"):
            await link.request("ping", {}, 5)
        assert len(carrier.named("notifications/cancelled")) == 0


# ---- a link that is begun before it is known for whom


async def test_what_is_declared_is_what_is_wished(autojump_clock):
    async with linked(opened=False, capabilities=ClientCapability.SAMPLING) as (link, carrier, _):
        await link.wait_wanted()
        await link.open()
        assert link.capabilities is ClientCapability.SAMPLING
        assert carrier.named("initialize")[0]["params"]["capabilities"] == {"sampling": {}}


async def test_it_waits_until_it_is_wanted(nursery, autojump_clock):
    wish, waited = Wish(), trio.Event()
    assert (wish.known.is_set(), wish.capabilities) == (False, None)
    async with linked(opened=False, capabilities=wish) as (link, carrier, _):

        async def wait():
            await link.wait_wanted()
            waited.set()

        nursery.start_soon(wait)
        await trio.sleep(1000)
        assert not waited.is_set()
        wish.settle(EVERYTHING)
        await waited.wait()
        await link.wait_wanted()
        assert (link.wish, link.capabilities, carrier.sent) == (wish, EVERYTHING, [])


@pytest.mark.parametrize("wanted", [False, True])
async def test_it_waits_no_longer_than_it_lives(nursery, wanted, autojump_clock):
    wish, errors = Wish(), []
    async with linked(opened=False, capabilities=wish) as (link, _carrier, _):

        async def wait():
            try:
                await link.wait_wanted()
            except BackendCrashed as error:
                errors.append(str(error))

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        link.fail(BackendCrashed("b", "gone"))
        if wanted:
            wish.settle(EVERYTHING)
        await wait_all_tasks_blocked()
        assert len(errors) == 1
        assert "gone" in errors[0]


async def test_a_lost_link_takes_no_more_errands():
    async with trio.open_nursery() as outer:
        async with linked() as (link, carrier, _):
            link.fail(BackendCrashed("b", "gone"))
        # Its nursery is closed now; none of these may raise.
        link.notify("notifications/roots/list_changed")
        link.request_quietly("resources/unsubscribe", {})
        carrier.say({"id": 7, "method": "ping"})
        carrier.say({"id": 8, "method": "roots/list"})
        await link.set_level("info")
        outer.cancel_scope.cancel()


# ---- what the backend says


async def test_a_ping_is_answered(autojump_clock):
    async with linked() as (_link, carrier, _):
        carrier.say({"id": 0, "method": "ping"})
        assert await carrier.wait_sent("answer") == {"jsonrpc": "2.0", "id": 0, "result": {}}


async def test_a_question_reaches_the_only_client_that_it_can_belong_to(nursery, autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        able, unable = Client("able"), Client("unable", capabilities=type(Client().caller.capabilities)(0))
        call = able.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        await carrier.wait_sent("tools/call")
        able.answer = b'{"roots":[]}'
        carrier.say({"id": "q", "method": "roots/list"})
        assert (await carrier.wait_sent("answer"))["result"] == {"roots": []}
        # A second client's call may be what asks now, though that client cannot be asked: nobody else is, then.
        call = unable.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        await carrier.wait_sent("tools/call", 2)
        carrier.say({"id": "r", "method": "roots/list"})
        refusal = await carrier.wait_sent("answer", 2)
        assert "per-session" in refusal["error"]["message"]
        assert len(able.asked) == 1
        assert unable.asked == []


async def test_an_open_question_suspends_the_idle_time(nursery, autojump_clock):
    async with linked(timeouts=Timeouts(call_idle=10, call_max=500, ask=300)) as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        client = Client()
        client.answer = None
        call = client.call()
        outcome = calling(nursery, link.call, call, "tools/call", call.members)
        sent = await carrier.wait_sent("tools/call")
        carrier.say({"id": 1, "method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}})
        await client.wait_asked()
        await trio.sleep(100)
        assert not outcome.done.is_set()
        client.released.set()
        await carrier.wait_sent("answer")
        await trio.sleep(9)
        assert not outcome.done.is_set(), "a full idle time again"
        carrier.answer_to(sent, {"ok": True})
        await outcome.done.wait()
        assert outcome.result == {"ok": True}


async def test_an_open_question_does_not_suspend_the_maximum(nursery, autojump_clock):
    async with linked(timeouts=Timeouts(call_idle=10, call_max=50, ask=300)) as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        client = Client()
        client.answer = None
        call = client.call()
        outcome = calling(nursery, link.call, call, "tools/call", call.members)
        await carrier.wait_sent("tools/call")
        carrier.say({"id": 1, "method": "roots/list"})
        await outcome.done.wait()
        assert "call_max" in str(outcome.error)
        reply = await carrier.wait_sent("answer")
        assert reply["id"] == 1
        assert "error" in reply
        assert client.withdrawn == 1


async def test_the_question_of_a_cancelled_call_is_withdrawn_and_answered(nursery, autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        client = Client()
        client.answer = None
        call = client.call()
        outcome = calling(nursery, link.call, call, "tools/call", call.members)
        await carrier.wait_sent("tools/call")
        carrier.say({"id": "q1", "method": "roots/list"})
        await client.wait_asked()
        outcome.scope.cancel()
        reply = await carrier.wait_sent("answer")
        assert reply["id"] == "q1"
        assert reply["error"]["message"] == "the call that this belongs to is over"


async def test_the_backend_takes_a_question_back(nursery, autojump_clock):
    async with linked() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        client = Client()
        client.answer = None
        call = client.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        await carrier.wait_sent("tools/call")
        carrier.say({"id": "q1", "method": "roots/list"})
        await client.wait_asked()
        carrier.notify("notifications/cancelled", {"requestId": "unknown"})
        carrier.notify("notifications/cancelled", {})
        carrier.notify("notifications/cancelled", {"requestId": "q1"})
        await wait_all_tasks_blocked()
        assert client.withdrawn == 1
        assert "answer" not in carrier.methods()


async def test_a_flood_of_questions_is_bounded(autojump_clock):
    async with linked() as (_link, carrier, _):
        for n in range(ERRANDS_MAX + 100):
            carrier.say({"id": n, "method": "ping"})
        await wait_all_tasks_blocked()
        assert len(carrier.named("answer")) == ERRANDS_MAX
        carrier.say({"id": "later", "method": "ping"})
        await wait_all_tasks_blocked()
        assert carrier.sent[-1]["id"] == "later"


async def test_logs_go_to_whom_they_belong(nursery, autojump_clock):
    async with linked() as (link, carrier, heard):
        line = {"level": "info", "data": "x"}
        carrier.notify("notifications/message", line)
        assert heard.strays == [("notifications/message", line, None)]
        carrier.answers["tools/call"] = lambda message: None
        one, two = Client("1"), Client("2", log_level=6)
        call = one.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        await carrier.wait_sent("tools/call")
        carrier.notify("notifications/message", line)
        assert one.emitted == [("notifications/message", line)]
        call = two.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        await carrier.wait_sent("tools/call", 2)
        carrier.notify("notifications/message", line)
        carrier.notify("notifications/message", line, carrier.waiters[-1])
        carrier.notify("notifications/message", {"level": "alert", "data": "y"}, carrier.waiters[-1])
        assert len(one.emitted) == 1
        assert two.emitted == [("notifications/message", {"level": "alert", "data": "y"})], "nobody gets another's"
        assert len(heard.strays) == 1


async def test_a_log_line_during_a_list_of_our_own_is_not_lost(nursery, autojump_clock):
    async with linked() as (link, carrier, heard):
        carrier.answers["tools/list"] = lambda message: None
        nursery.start_soon(swallow, link.request, "tools/list", {}, 5)
        await carrier.wait_sent("tools/list")
        carrier.notify("notifications/message", {"level": "info", "data": "x"})
        assert len(heard.strays) == 1


async def swallow(function, *args):
    try:
        await function(*args)
    except RpcError:
        pass


async def test_news_goes_up(autojump_clock):
    async with linked(owner="s1") as (_link, carrier, heard):
        for kind in ("tools", "resources", "prompts"):
            carrier.notify(f"notifications/{kind}/list_changed")
        carrier.notify("notifications/resources/updated", {"uri": "x:/1"})
        carrier.notify("notifications/somebody/elses")
        assert heard.list_changes == [
            f"notifications/{kind}/list_changed" for kind in ("tools", "resources", "prompts")
        ]
        assert heard.updates == [({"uri": "x:/1"}, "s1")]


@pytest.mark.parametrize("params", ["text", [1], 7])
async def test_a_malformed_notification_harms_nothing(params):
    async with linked() as (link, carrier, _):
        for method in ("progress", "cancelled", "message", "elicitation/complete"):
            carrier.say({"method": f"notifications/{method}", "params": params})
        assert result_of(await link.request("ping", {}, 5)) == {}


async def test_the_end_of_a_url_elicitation_reaches_its_owner(nursery, autojump_clock):
    async with linked() as (link, carrier, heard):
        client = Client("who")
        question = {"mode": "url", "message": "?", "url": "https://example.com", "elicitationId": "e1"}

        def serve(message):
            carrier.say({"id": "q", "method": "elicitation/create", "params": question})

        carrier.answers["tools/call"] = serve
        call = client.call()
        outcome = calling(nursery, link.call, call, "tools/call", call.members)
        await carrier.wait_sent("answer")
        carrier.answer_to(carrier.named("tools/call")[0], {})
        await outcome.done.wait()
        carrier.notify("notifications/elicitation/complete", {"elicitationId": "other"})
        carrier.notify("notifications/elicitation/complete", {"elicitationId": "e1"})
        carrier.notify("notifications/elicitation/complete", {"elicitationId": "e1"})
        assert heard.strays == [("notifications/elicitation/complete", {"elicitationId": "e1"}, "who")]


async def test_the_end_of_an_elicitation_that_an_error_asked_for(autojump_clock):
    async with linked() as (link, carrier, heard):
        pages = [{"mode": "url", "elicitationId": name, "url": "https://example.com", "message": ""} for name in "ab"]
        carrier.answers["tools/call"] = Failure(-32042, "open a page first", data={"elicitations": pages})
        call = Client("who").call()
        with pytest.raises(RpcError):
            await link.call(call, "tools/call", call.members)
        carrier.notify("notifications/elicitation/complete", {"elicitationId": "b"})
        assert heard.strays == [("notifications/elicitation/complete", {"elicitationId": "b"}, "who")]


async def test_a_question_outside_any_call_goes_to_the_owner(autojump_clock):
    async with linked(owner="s1") as (_link, carrier, heard):
        carrier.say({"id": 0, "method": "roots/list"})
        reply = await carrier.wait_sent("answer")
        assert reply == {
            "jsonrpc": "2.0",
            "id": 0,
            "error": {"code": METHOD_NOT_FOUND, "message": "roots/list: nobody can be asked"},
        }
        assert heard.asked == [("s1", "roots/list")]
        heard.owner_answer = b'{"roots":[]}'
        carrier.say({"id": 1, "method": "roots/list"})
        assert (await carrier.wait_sent("answer", 2))["result"] == {"roots": []}


def test_severity():
    assert severity(b'{"level":"debug"}') == 0
    assert severity(b'{"level":"emergency"}') == 7
    assert severity(b'{"level":"odd"}') == severity(b"{}") == severity(b'{"level":7}') == 8


async def test_wants_log():
    assert wants_log(Client().call(), b'{"level":"debug"}')
    assert not wants_log(Client(log_level=3).call(), b'{"level":"notice"}')
    assert wants_log(Client(log_level=3).call(), b'{"level":"warning"}')


async def test_a_new_subscription_waits_for_the_end_of_the_last_one(autojump_clock):
    async with linked() as (link, carrier, _heard), trio.open_nursery() as nursery:
        carrier.answers["resources/unsubscribe"] = None
        members = jsonrpc.members_of(b'{"uri":"a:b"}')
        link.unsubscribe_quietly("a:b", members)
        farewell = await carrier.wait_sent("resources/unsubscribe")
        call = Client().call("resources/subscribe", uri="a:b")
        nursery.start_soon(link.subscribe, call, "a:b", members)
        nursery.start_soon(link.subscribe, call, "c:d", jsonrpc.members_of(b'{"uri":"c:d"}'))
        await wait_all_tasks_blocked()
        assert [each["params"]["uri"] for each in carrier.named("resources/subscribe")] == ["c:d"]
        carrier.answer_to(farewell, {})
        await carrier.wait_sent("resources/subscribe", 2)
        assert carrier.methods().index("resources/unsubscribe") < carrier.methods().index("resources/subscribe") + 2
        assert [each["params"]["uri"] for each in carrier.named("resources/subscribe")] == ["c:d", "a:b"]


async def test_a_subscription_does_not_wait_for_an_end_that_cannot_come(autojump_clock):
    async with linked() as (link, carrier, _heard):
        carrier.answers["resources/unsubscribe"] = Failure(-32603, "no")
        members = jsonrpc.members_of(b'{"uri":"a:b"}')
        link.unsubscribe_quietly("a:b", members)
        await link.subscribe(Client().call("resources/subscribe", uri="a:b"), "a:b", members)
        assert len(carrier.named("resources/subscribe")) == 1
