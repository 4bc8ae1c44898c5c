"""News of a modern backend: when its stream is open, what it asks for, and what follows from its end."""

from __future__ import annotations

import itertools
import logging
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.listens import ACK_WAIT, AGAIN, AGAIN_MAX, Granted
from mcpd.backends.opening import Era
from mcpd.errors import BackendCrashed, BackendUnavailable, RpcError
from tests.backends.parts import DISCOVER, ENVELOPE, Client, Failure, acknowledge, linked

LISTEN = "subscriptions/listen"
LISTS = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
ID = f"{ENVELOPE}subscriptionId"


def modern(**members):
    return linked(era=Era.MODERN, **members)


def filters(carrier):
    return [message["params"]["notifications"] for message in carrier.named(LISTEN)]


def changes(*families):
    return [f"notifications/{family}/list_changed" for family in families]


def ended(carrier):
    """The requests that mcpd ended, as a pipe tells it."""
    return [message["params"]["requestId"] for message in carrier.named("notifications/cancelled")]


async def subscribe(link, uri):
    made = Client().call("resources/subscribe", uri=uri)
    await link.subscribe(made, uri, made.members)


async def unsubscribe(link, uri):
    await link.dialect.unsubscribe(uri, link.subscriptions.pop(uri))


# ---- what is listened to


async def test_the_shared_link_listens_to_the_lists_that_are_announced(autojump_clock):
    async with modern() as (link, carrier, heard):
        await link.replay()
        assert filters(carrier) == [LISTS]
        assert carrier.named(LISTEN)[0]["params"]["_meta"][ENVELOPE + "protocolVersion"] == "2026-07-28"
        assert heard.list_changes == [], "the lists are fetched after this"
        assert all(link.dialect.announces(kind) for kind in ("tools", "prompts", "resources", "resourceTemplates"))


async def test_only_to_those(autojump_clock):
    async with modern(opened=False) as (link, carrier, _):
        carrier.answers["server/discover"] = {
            **DISCOVER,
            "capabilities": {"tools": {"listChanged": True}, "prompts": {}},
        }
        await link.open()
        await link.replay()
        assert filters(carrier) == [{"toolsListChanged": True}]
        assert link.dialect.announces("tools")
        assert not link.dialect.announces("prompts")


async def test_a_link_of_one_client_alone_does_not_keep_the_lists(autojump_clock):
    async with modern(owner="s1") as (link, carrier, heard):
        await link.replay()
        assert filters(carrier) == []
        await subscribe(link, "x:/1")
        assert filters(carrier) == [{"resourceSubscriptions": ["x:/1"]}]
        carrier.notify("notifications/resources/updated", {"uri": "x:/1", "_meta": {ID: 1}})
        assert heard.updates == [({"uri": "x:/1"}, "s1")]


async def test_nothing_to_hear_needs_no_stream(autojump_clock):
    async with modern(opened=False) as (link, carrier, _):
        carrier.answers["server/discover"] = {**DISCOVER, "capabilities": {"tools": {}}}
        await link.open()
        await link.replay()
        assert filters(carrier) == []
        assert not link.dialect.announces("tools")


async def test_subscriptions_of_a_lost_link_are_listened_to_from_the_start(autojump_clock):
    async with modern() as (link, carrier, _):
        link.subscriptions.update({"x:/1": {}, "x:/2": {}})
        await link.replay()
        assert filters(carrier) == [{**LISTS, "resourceSubscriptions": ["x:/1", "x:/2"]}]


async def test_a_stream_is_no_call_in_flight(autojump_clock):
    async with modern() as (link, carrier, _):
        await link.replay()
        assert carrier.waiters[-1].method == LISTEN
        assert link.in_flight == 0


# ---- what comes


@pytest.mark.parametrize("shared", [True, False])
async def test_news(shared, autojump_clock):
    async with modern(shared=shared) as (link, carrier, heard):
        await link.replay()
        await subscribe(link, "x:/1")
        waiter = None if shared else carrier.waiters[-1]
        for family in ("tools", "resources", "prompts"):
            carrier.notify(f"notifications/{family}/list_changed", {"_meta": {ID: 7}}, waiter)
        carrier.notify(
            "notifications/resources/updated", {"uri": "x:/1/a", "title": "A", "_meta": {ID: 7, "vendor/x": 1}}, waiter
        )
        assert heard.list_changes == [
            f"notifications/{family}/list_changed" for family in ("tools", "resources", "prompts")
        ]
        assert heard.updates == [({"uri": "x:/1/a", "title": "A", "_meta": {"vendor/x": 1}}, None)]


@pytest.mark.parametrize(
    "params",
    [None, {}, {"notifications": 7}, {"notifications": {}, "_meta": {ID: 99}}, {"_meta": 7}, {"_meta": {ID: None}}],
)
async def test_acknowledgements_of_nothing(params, autojump_clock):
    async with modern() as (link, carrier, heard):
        carrier.notify("notifications/subscriptions/acknowledged", params)
        carrier.notify("notifications/cancelled", params)
        await link.replay()
        assert heard.list_changes == []


async def test_the_id_may_come_back_as_text(autojump_clock):
    async with modern() as (link, carrier, _):

        def listen(message):
            params = {"notifications": {"toolsListChanged": True, "x": 1}, "_meta": {ID: str(message["id"])}}
            carrier.notify("notifications/subscriptions/acknowledged", params)

        carrier.answers[LISTEN] = listen
        begun = trio.current_time()
        await link.replay()
        assert trio.current_time() == begun
        assert link.dialect.announces("tools")
        assert not link.dialect.announces("prompts")


# ---- subscriptions


async def test_a_new_stream_is_acknowledged_before_the_old_one_is_ended(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        await link.replay()
        (old,) = carrier.named(LISTEN)
        carrier.answers[LISTEN] = lambda message: None
        nursery.start_soon(subscribe, link, "x:/1")
        new = await carrier.wait_sent(LISTEN, 2)
        assert new["params"]["notifications"] == {**LISTS, "resourceSubscriptions": ["x:/1"]}
        await wait_all_tasks_blocked()
        assert ended(carrier) == []
        acknowledge(carrier, new, new["params"]["notifications"])
        await carrier.wait_sent("notifications/cancelled")
        assert ended(carrier) == [old["id"]]
        assert link.subscriptions.keys() == {"x:/1"}


async def test_over_http_the_old_stream_is_closed(autojump_clock):
    async with modern(shared=False) as (link, carrier, _):
        await link.replay()
        await subscribe(link, "x:/1")
        await wait_all_tasks_blocked()
        assert carrier.forgone == [LISTEN]
        assert ended(carrier) == []


async def test_many_at_once_share_a_stream(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        await link.replay()
        carrier.answers[LISTEN] = lambda message: None
        async with trio.open_nursery() as subscribing:
            for number in range(20):
                subscribing.start_soon(subscribe, link, f"x:/{number}")
            await wait_all_tasks_blocked()
            while subscribing.child_tasks:
                message = carrier.named(LISTEN)[-1]
                acknowledge(carrier, message, message["params"]["notifications"])
                await wait_all_tasks_blocked()
        assert len(carrier.named(LISTEN)) <= 3
        assert len(filters(carrier)[-1]["resourceSubscriptions"]) == 20


async def test_unsubscribing_narrows_the_stream_and_the_last_of_all_ends_it(autojump_clock):
    async with modern(owner="s1") as (link, carrier, _):
        await subscribe(link, "x:/1")
        await subscribe(link, "x:/2")
        await unsubscribe(link, "x:/1")
        assert filters(carrier)[-1] == {"resourceSubscriptions": ["x:/2"]}
        await unsubscribe(link, "x:/2")
        await wait_all_tasks_blocked()
        assert len(carrier.named(LISTEN)) == 3
        assert ended(carrier) == [message["id"] for message in carrier.named(LISTEN)]


@pytest.mark.parametrize("honoured", [LISTS, {**LISTS, "resourceSubscriptions": ["x:/other"]}, {}])
async def test_a_resource_that_the_backend_does_not_tell_of(honoured, autojump_clock):
    async with modern() as (link, carrier, _):
        await link.replay()
        carrier.answers[LISTEN] = lambda message: acknowledge(carrier, message, honoured)
        with pytest.raises(RpcError, match="does not announce updates of x:/1"):
            await subscribe(link, "x:/1")
        assert link.subscriptions == {}


async def test_a_stream_that_is_refused_leaves_the_old_one(autojump_clock):
    async with modern() as (link, carrier, _):
        await link.replay()
        carrier.answers[LISTEN] = Failure(-32603, "Subscription limit reached")
        with pytest.raises(RpcError, match="Subscription limit reached"):
            await subscribe(link, "x:/1")
        await trio.sleep(2 * AGAIN_MAX)
        assert link.subscriptions == {}
        assert len(carrier.named(LISTEN)) == 2, "it is not asked again for what was refused"
        assert ended(carrier) == []
        assert link.dialect.announces("tools")


async def test_a_stream_that_is_not_acknowledged_leaves_the_old_one(autojump_clock):
    async with modern() as (link, carrier, _):
        await link.replay()
        carrier.answers[LISTEN] = lambda message: None
        begun = trio.current_time()
        with pytest.raises(BackendUnavailable, match=f"did not acknowledge a subscription in {ACK_WAIT:g} s"):
            await subscribe(link, "x:/1")
        assert trio.current_time() == begun + ACK_WAIT
        await wait_all_tasks_blocked()
        assert ended(carrier) == [carrier.named(LISTEN)[1]["id"]]
        assert link.subscriptions == {}


async def test_a_client_that_leaves_meanwhile_leaves_nothing(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        await link.replay()
        carrier.answers[LISTEN] = lambda message: None
        with trio.CancelScope() as scope:
            nursery.start_soon(leave, carrier, scope)
            await subscribe(link, "x:/1")
        await wait_all_tasks_blocked()
        assert link.subscriptions == {}
        assert ended(carrier) == [carrier.named(LISTEN)[1]["id"]]


async def leave(carrier, scope):
    await carrier.wait_sent(LISTEN, 2)
    scope.cancel()


async def test_a_lost_link_subscribes_nobody(autojump_clock):
    async with modern() as (link, _carrier, _):
        link.fail(BackendCrashed("b", "gone"))
        with pytest.raises(RpcError):
            await subscribe(link, "x:/1")
        assert link.subscriptions == {}


# ---- tasks


@asynccontextmanager
async def watching(*tasks, **members):
    """A link that listens, and the tasks that are watched on it."""
    async with modern(**members) as (link, carrier, heard):
        link.watched = watched = dict.fromkeys(tasks)
        await link.replay()
        yield link, carrier, heard, watched


def task(id, status="working", **members):
    return {"taskId": id, "status": status, "ttlMs": None, **members}


async def watch(link, watched, *tasks):
    for each in tasks:
        watched[each] = None
        await link.dialect.watch(each)


@pytest.mark.parametrize("shared", [True, False])
async def test_tasks_are_listened_to_with_everything_else(shared, autojump_clock):
    async with watching(shared=shared) as (link, carrier, heard, watched):
        await subscribe(link, "x:/1")
        await watch(link, watched, "t1", "t2")
        assert filters(carrier)[-1] == {**LISTS, "resourceSubscriptions": ["x:/1"], "taskIds": ["t1", "t2"]}
        declared = carrier.named(LISTEN)[-1]["params"]["_meta"][ENVELOPE + "clientCapabilities"]
        assert declared["extensions"] == {"io.modelcontextprotocol/tasks": {}}
        waiter = None if shared else carrier.waiters[-1]
        done = task("t1", "completed", result={"content": [], "resultType": "complete"}, resultType="complete")
        carrier.notify("notifications/tasks", {**done, "_meta": {ID: 7}}, waiter)
        assert heard.tasks == [{**done, "_meta": {ID: 7}}], "nothing of a task is the envelope's"
        assert heard.updates == []


async def test_a_new_stream_for_a_task_comes_before_the_old_one_ends(nursery, autojump_clock):
    async with watching() as (link, carrier, _, watched):
        (old,) = carrier.named(LISTEN)
        carrier.answers[LISTEN] = lambda message: None
        nursery.start_soon(watch, link, watched, "t1")
        new = await carrier.wait_sent(LISTEN, 2)
        await wait_all_tasks_blocked()
        assert ended(carrier) == []
        acknowledge(carrier, new, new["params"]["notifications"])
        await carrier.wait_sent("notifications/cancelled")
        assert ended(carrier) == [old["id"]]
        await link.dialect.watch("t1")
        assert len(carrier.named(LISTEN)) == 2, "it is listened to already"
        carrier.answers[LISTEN] = lambda message: acknowledge(carrier, message, message["params"]["notifications"])
        del watched["t1"]
        await link.dialect.unwatch()
        assert filters(carrier)[-1] == LISTS


async def test_many_tasks_at_once_share_a_stream(autojump_clock):
    async with watching() as (link, carrier, _, watched):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(watch, link, watched, f"t{number}")
        assert [len(each.get("taskIds", ())) for each in filters(carrier)] == [0, 20]


@pytest.mark.parametrize("granted", [{**LISTS, "taskIds": ["other"]}, LISTS, {**LISTS, "taskIds": None}])
async def test_a_task_that_the_backend_does_not_tell_of(granted, autojump_clock):
    async with watching() as (link, carrier, _, watched):
        carrier.answers[LISTEN] = lambda message: acknowledge(carrier, message, granted)
        with pytest.raises(RpcError, match="backend 'b' does not tell of the task t1"):
            await watch(link, watched, "t1")
        assert link.dialect.announces("tools")


async def test_a_refusal_is_told(autojump_clock):
    async with watching() as (link, carrier, _, watched):
        carrier.answers[LISTEN] = Failure(-32602, "no such task")
        with pytest.raises(RpcError, match="no such task"):
            await watch(link, watched, "t1")
        assert ended(carrier) == []


async def test_where_only_tasks_are_told_of_the_stream_stays(autojump_clock):
    async with modern(opened=False) as (link, carrier, heard):
        carrier.answers["server/discover"] = {**DISCOVER, "capabilities": {"tools": {}}}
        await link.open()
        link.watched = watched = {}
        await link.replay()
        await watch(link, watched, "t1")
        assert filters(carrier) == [{"taskIds": ["t1"]}]
        end_by_result(carrier, carrier.named(LISTEN)[-1])
        await carrier.wait_sent(LISTEN, 2)
        watched.clear()
        await link.dialect.unwatch()
        await wait_all_tasks_blocked()
        assert len(carrier.named(LISTEN)) == 2
        assert len(ended(carrier)) == 1
        assert heard.tasks == []


async def test_what_a_task_became_while_nobody_told_is_asked_for(autojump_clock):
    async with watching() as (link, carrier, heard, watched):
        await watch(link, watched, "t1", "t2")
        carrier.answers["tasks/get"] = lambda message: task(message["params"]["taskId"], "completed")
        end_by_result(carrier, carrier.named(LISTEN)[-1])
        await carrier.wait_sent(LISTEN, 4)
        await wait_all_tasks_blocked()
        assert heard.tasks == [task("t1", "completed"), task("t2", "completed")]


async def test_so_is_what_was_watched_on_a_link_before(autojump_clock):
    async with modern() as (link, carrier, heard):
        link.watched = {"t1": None}
        carrier.answers["tasks/get"] = task("t1", "failed")
        await link.replay()
        assert filters(carrier) == [{**LISTS, "taskIds": ["t1"]}]
        await wait_all_tasks_blocked()
        assert heard.tasks == [task("t1", "failed")]


async def test_what_a_task_says_itself_is_newer(autojump_clock):
    async with modern(shared=False) as (link, carrier, heard):
        link.watched = {"t1": None}
        carrier.answers["tasks/get"] = lambda message: None
        await link.replay()
        asked = await carrier.wait_sent("tasks/get")
        carrier.notify("notifications/tasks", task("t1", "completed"), carrier.waiters[1])
        carrier.answer_to(asked, task("t1"))
        await wait_all_tasks_blocked()
        assert heard.tasks == [task("t1", "completed")]


async def test_its_questions_say_who_asks(autojump_clock):
    def asking(message):
        asks = {"a": {"method": "elicitation/create", "params": {"message": message, "requestedSchema": {}}}}
        return task("t1", "input_required", inputRequests=asks)

    async with watching("t1", label="[b] ") as (_link, carrier, heard, _):
        carrier.notify("notifications/tasks", asking("Go on?"))
        carrier.notify("notifications/tasks", task("t1"))
        assert heard.tasks == [asking("[b] Go on?"), task("t1")]


@pytest.mark.parametrize("params", [None, {}, {"taskId": 7}, {"taskId": None}, []])
async def test_news_of_no_task(params, autojump_clock, caplog):
    async with watching() as (_link, carrier, heard, _):
        carrier.notify("notifications/tasks", params)
        assert heard.tasks == []
        assert [record for record in caplog.records if "bad_notification" in record.message]


async def test_a_legacy_backend_has_no_tasks_to_be_watched():
    async with linked() as (link, carrier, _):
        before = len(carrier.sent)
        with pytest.raises(RpcError, match="backend 'b' has no tasks to be watched"):
            await link.dialect.watch("t1")
        await link.dialect.unwatch()
        assert len(carrier.sent) == before


# ---- the end of a stream


def end_by_result(carrier, message):
    carrier.answer_to(message, {"resultType": "complete", "_meta": {ID: message["id"]}})


def end_by_error(carrier, message):
    carrier.say({"id": message["id"], "error": {"code": -32603, "message": "backlog full"}})


def end_by_notification(carrier, message):
    carrier.notify("notifications/cancelled", {"requestId": message["id"], "reason": "shutting down"})


def end_by_the_connection(carrier, message):
    waiter = next(each for each in carrier.waiters if each.id == message["id"])
    waiter.settle(BackendCrashed("b", "the connection broke"))


@pytest.mark.parametrize("end", [end_by_result, end_by_error, end_by_notification, end_by_the_connection])
async def test_a_stream_that_ends_is_opened_again_and_everything_counts_as_changed(end, autojump_clock):
    async with modern() as (link, carrier, heard):
        await link.replay()
        await subscribe(link, "x:/1")
        heard.list_changes.clear()
        begun = trio.current_time()
        end(carrier, carrier.named(LISTEN)[-1])
        await carrier.wait_sent(LISTEN, 3)
        assert 0.8 * AGAIN <= trio.current_time() - begun <= 1.2 * AGAIN
        assert filters(carrier)[-1] == filters(carrier)[-2]
        assert heard.list_changes == [
            f"notifications/{name}/list_changed" for name in ("tools", "prompts", "resources")
        ]
        assert heard.updates == [({"uri": "x:/1"}, None)]
        assert carrier.named(LISTEN)[-1]["id"] != carrier.named(LISTEN)[-2]["id"]


async def test_a_notification_ends_no_other_request(nursery, autojump_clock):
    async with modern() as (link, carrier, _):
        carrier.answers["tools/call"] = lambda message: None
        made = Client().call()
        nursery.start_soon(link.call, made, "tools/call", made.members)
        sent = await carrier.wait_sent("tools/call")
        carrier.notify("notifications/cancelled", {"requestId": sent["id"]})
        await wait_all_tasks_blocked()
        assert link.in_flight == 1
        carrier.answer_to(sent, {"resultType": "complete"})


async def test_pauses_grow(autojump_clock):
    async with modern() as (link, carrier, _):
        times = []

        def listen(message):
            times.append(trio.current_time())
            raise Failure(-32603, "Subscription limit reached")

        carrier.answers[LISTEN] = listen
        await link.replay()
        assert len(times) == 1, "what cannot be had at once is not waited for"
        await trio.sleep(20 * AGAIN_MAX)
        pauses = [after - before for before, after in itertools.pairwise(times)]
        for number, pause in enumerate(pauses):
            expected = min(AGAIN * 2**number, AGAIN_MAX)
            assert 0.79 * expected <= pause <= 1.21 * expected
        assert not link.dialect.announces("tools")


async def test_a_stream_that_lasted_is_opened_again_soon(autojump_clock):
    async with modern() as (link, carrier, _):
        await link.replay()
        for number in range(2, 6):
            await trio.sleep(AGAIN_MAX + 1)
            begun = trio.current_time()
            end_by_result(carrier, carrier.named(LISTEN)[-1])
            await carrier.wait_sent(LISTEN, number)
            assert trio.current_time() - begun <= 1.2 * AGAIN


async def test_one_that_begins_late_may_have_missed_something(autojump_clock):
    async with modern() as (link, carrier, heard):
        refused = []

        def listen(message):
            if not refused:
                refused.append(message)
                raise Failure(-32603, "not yet")
            acknowledge(carrier, message, LISTS)

        carrier.answers[LISTEN] = listen
        await link.replay()
        assert heard.list_changes == []
        await trio.sleep(2 * AGAIN)
        assert len(heard.list_changes) == 3
        assert link.dialect.announces("tools")


async def test_one_that_is_acknowledged_late(autojump_clock):
    async with modern() as (link, carrier, heard):
        carrier.answers[LISTEN] = lambda message: None
        begun = trio.current_time()
        await link.replay()
        assert trio.current_time() == begun + ACK_WAIT
        assert not link.dialect.announces("tools")
        acknowledge(carrier, carrier.named(LISTEN)[0], LISTS)
        assert link.dialect.announces("tools")
        assert len(heard.list_changes) == 3, "the lists may have changed since they were fetched"


async def test_the_end_of_the_link_ends_it(autojump_clock, caplog):
    caplog.set_level(logging.INFO)
    async with modern() as (link, carrier, _):
        await link.replay()
        link.fail(BackendCrashed("b", "gone"))
        await trio.sleep(2 * AGAIN_MAX)
        assert len(carrier.named(LISTEN)) == 1
        assert ended(carrier) == []
        assert not [record for record in caplog.records if "listen_ended" in record.message]


# ---- backends that tell of nothing


async def test_a_backend_without_the_method_is_not_asked_again(autojump_clock):
    async with modern() as (link, carrier, _):
        carrier.answers[LISTEN] = Failure(-32601, "Method not found")
        begun = trio.current_time()
        await link.replay()
        assert trio.current_time() == begun
        await trio.sleep(2 * AGAIN_MAX)
        with pytest.raises(RpcError, match="does not announce updates of x:/1"):
            await subscribe(link, "x:/1")
        assert len(carrier.named(LISTEN)) == 1
        assert not link.dialect.announces("tools")


async def test_a_backend_that_will_tell_of_nothing_is_not_asked_again(autojump_clock):
    async with modern() as (link, carrier, heard):

        def listen(message):
            acknowledge(carrier, message, {})
            return {"resultType": "complete", "_meta": {ID: message["id"]}}

        carrier.answers[LISTEN] = listen
        await link.replay()
        await trio.sleep(2 * AGAIN_MAX)
        assert len(carrier.named(LISTEN)) == 1
        assert heard.list_changes == []
        assert not link.dialect.announces("tools")


def test_what_is_granted():
    assert not Granted().anything
    assert not Granted(toolsListChanged=False, resourceSubscriptions=()).anything
    assert Granted(resourcesListChanged=True).lists == ("resources",)
    assert Granted(resourceSubscriptions=("x:/1",)).uris == ("x:/1",)
    assert not Granted(taskIds=()).anything
    assert Granted(taskIds=("t",)).anything
    assert Granted(taskIds=("t",)).tasks == ("t",)
