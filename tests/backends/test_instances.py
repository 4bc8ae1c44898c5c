from __future__ import annotations

import itertools
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.instances import SWEEP, Instances
from mcpd.errors import BackendCrashed, BackendUnavailable
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import Client, Heard, MemoryConnector, calling, make_spec, modern_client


@asynccontextmanager
async def started(**members):
    deadlines = Deadlines()
    connector = MemoryConnector(make_spec(**{"instances": "per-session", **members}), deadlines)
    failures = []
    instances = Instances(connector, Heard(), at_failure=lambda: failures.append(trio.current_time()))
    async with trio.open_nursery() as nursery:
        await nursery.start(deadlines.run)
        await nursery.start(instances.run)
        yield instances, connector, failures
        nursery.cancel_scope.cancel()
    assert len(connector.ended) == len(connector.carriers), "every link was ended"


async def test_one_link_for_each_session(autojump_clock):
    async with started() as (instances, _connector, _):
        one, two = Client("1").caller, Client("2").caller
        link = await instances.get(one)
        assert link.owner == "1"
        assert await instances.get(one) is link
        assert await instances.get(two) is not link
        assert (len(instances), instances.find(one.key), instances.find("3")) == (2, link, None)


async def test_calls_that_come_at_once_open_one_link(nursery, autojump_clock):
    async with started() as (instances, connector, _):
        caller = Client("1").caller
        found = []

        async def get():
            found.append(await instances.get(caller))

        for _ in range(5):
            nursery.start_soon(get)
        await wait_all_tasks_blocked()
        assert len(found) == 5
        assert len(set(map(id, found))) == 1
        assert len(connector.attempts) == 1


async def test_the_level_is_set_before_the_first_call(autojump_clock):
    async with started() as (instances, connector, _):
        instances.levels["1"] = "error"
        await instances.get(Client("1").caller)
        assert connector.carriers[0].named("logging/setLevel")[0]["params"] == {"level": "error"}


async def test_a_failure_is_told_to_all_who_wait_and_forgotten(autojump_clock):
    async with started() as (instances, connector, failures):
        caller = Client("1").caller
        connector.failures = [BackendUnavailable("b", "not today")]
        with pytest.raises(BackendUnavailable, match="not today"):
            await instances.get(caller)
        assert len(failures) == 1
        assert len(instances) == 0
        assert (await instances.get(caller)).owner == "1"


async def test_a_server_whose_links_cannot_be_opened_is_not_hammered_by_calls(autojump_clock):
    async with started() as (instances, connector, _):
        connector.failing = BackendUnavailable("b", "exits at once")
        with trio.move_on_after(3600):
            for number in itertools.count():
                with pytest.raises(BackendUnavailable, match="exits at once"):
                    await instances.get(Client(str(number)).caller)
                await trio.sleep(2)
        assert len(connector.attempts) < 20 + 3600 / (300 * 0.8) + 6 + 2 + 3600 / 300
        connector.failing = None
        await trio.sleep(300)
        await instances.get(Client("1").caller)
        before = len(connector.attempts)
        for number in range(2, 30):
            await instances.get(Client(str(number)).caller)
        assert len(connector.attempts) == before + 28, "what works again is not held back"


async def test_one_attempt_at_a_time_finds_out_whether_links_can_be_opened_again(nursery, autojump_clock):
    async with started() as (instances, connector, _):
        connector.failing = BackendUnavailable("b", "exits at once")
        with pytest.raises(BackendUnavailable):
            await instances.get(Client("0").caller)
        connector.failing = None
        opened = []

        async def get(number):
            opened.append(await instances.get(Client(str(number)).caller))

        for number in range(1, 6):
            nursery.start_soon(get, number)
        await connector.wait_attempts(2)
        assert 0 < connector.attempts[1] - connector.attempts[0] <= 0.2
        await wait_all_tasks_blocked()
        assert len(connector.attempts) == 6
        assert len(opened) == 5


async def test_a_session_whose_child_dies_at_once_does_not_start_one_with_every_call(autojump_clock):
    async with started() as (instances, connector, _):
        caller = Client("1").caller
        refused = set()
        with trio.move_on_after(3600):
            while True:
                try:
                    link = await instances.get(caller)
                except BackendUnavailable as error:
                    refused.add(error.reason)
                    await trio.sleep(2)
                else:
                    link.fail(BackendCrashed("b", "was killed by SIGSEGV"))
                    await wait_all_tasks_blocked()
        assert refused == {"it is backing-off; the last failure: was killed by SIGSEGV"}
        assert len(connector.attempts) < 20 + 3600 / (300 * 0.8) + 6 + 2 + 3600 / 300
        other = await instances.get(Client("2").caller)
        assert not other.lost.is_set(), "another session is not held back"


async def test_an_unexpected_error_ends_one_link_only(autojump_clock):
    async with started() as (instances, connector, _):
        other = await instances.get(Client("2").caller)
        connector.failures = [RuntimeError("a bug")]
        with pytest.raises(BackendUnavailable, match="internal error in mcpd"):
            await instances.get(Client("1").caller)
        assert not other.lost.is_set()


async def test_a_lost_link_is_replaced_and_set_up_again(autojump_clock):
    async with started() as (instances, connector, failures):
        caller = Client("1").caller
        instances.levels[caller.key] = "info"
        link = await instances.get(caller)
        link.subscriptions["x:/1"] = {"uri": b'"x:/1"'}
        link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        assert instances.find(caller.key) is None
        assert len(failures) == 1
        again = await instances.get(caller)
        assert again is not link
        carrier = connector.carriers[1]
        assert carrier.methods() == [
            "initialize",
            "notifications/initialized",
            "logging/setLevel",
            "resources/subscribe",
        ]
        assert again.subscriptions is instances.holding(caller.key, "x:/1").subscriptions


async def test_subscriptions_survive_an_attempt_that_fails(autojump_clock):
    async with started() as (instances, connector, _):
        caller = Client("1").caller
        link = await instances.get(caller)
        link.subscriptions["x:/1"] = {"uri": b'"x:/1"'}
        link.fail(BackendCrashed("b", "gone"))
        connector.failures = [BackendUnavailable("b", "still away")]
        with pytest.raises(BackendUnavailable):
            await instances.get(caller)
        await instances.get(caller)
        assert "resources/subscribe" in connector.carriers[-1].methods()


async def test_revive_opens_what_has_subscriptions(autojump_clock):
    async with started() as (instances, connector, _):
        for key in "123":
            link = await instances.get(Client(key).caller)
            if key != "3":
                link.subscriptions["x:/1"] = {"uri": b'"x:/1"'}
            if key != "2":
                link.fail(BackendCrashed("b", "gone"))
        instances.levels["1"] = "error"
        instances.revive()
        await wait_all_tasks_blocked()
        assert len(connector.attempts) == 4
        assert connector.carriers[-1].methods()[2:] == ["logging/setLevel", "resources/subscribe"]
        assert instances.find("1") is not None
        assert instances.find("3") is None


async def test_the_end_of_a_session_fails_its_calls_at_once_and_ends_its_link(nursery, autojump_clock):
    async with started() as (instances, connector, _):
        client = Client("1")
        connector.farewell = 5.0
        connector.prepare = lambda carrier: carrier.answers.update({"tools/call": lambda message: None})
        link = await instances.get(client.caller)
        call = client.call()
        outcome = calling(nursery, link.call, call, "tools/call", call.members)
        await connector.carriers[0].wait_sent("tools/call")
        before = trio.current_time()
        instances.forget("1")
        await outcome.done.wait()
        assert trio.current_time() == before
        assert "ended by mcpd" in str(outcome.error) or "its connection was ended" in str(outcome.error)
        await connector.wait_ended(1)
        assert trio.current_time() == before + 5
        assert len(instances) == 0
        instances.forget("1")


async def test_a_session_that_ends_while_its_link_is_opened(nursery, autojump_clock):
    async with started() as (instances, connector, _):
        connector.prepare = lambda carrier: carrier.answers.update({"initialize": lambda message: None})
        errors = []

        async def get():
            try:
                await instances.get(Client("1").caller)
            except BackendUnavailable as error:
                errors.append(str(error))

        nursery.start_soon(get)
        await connector.wait_attempts(1)
        await wait_all_tasks_blocked()
        instances.forget("1")
        await wait_all_tasks_blocked()
        assert len(errors) == 1
        assert "its session was ended" in errors[0]
        assert len(instances) == 0


async def test_the_longest_idle_one_makes_room_but_none_in_use(nursery, autojump_clock):
    async with started(max_instances=2) as (instances, connector, _):
        connector.prepare = lambda carrier: carrier.answers.update({"tools/call": lambda message: None})
        busy = Client("busy")
        link = await instances.get(busy.caller)
        call = busy.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        await connector.carriers[0].wait_sent("tools/call")
        await trio.sleep(1)
        await instances.get(Client("idle").caller)
        await instances.get(Client("new").caller)
        assert instances.find("idle") is None
        assert instances.find("busy") is link
        other = Client("new")
        link = await instances.get(other.caller)
        call = other.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        await connector.carriers[2].wait_sent("tools/call")
        with pytest.raises(BackendUnavailable, match=r"2 instances are in use \(raise servers.b.max_instances"):
            await instances.get(Client("one more").caller)
        assert instances.in_flight == 2


async def test_lost_ones_make_room_first(autojump_clock):
    async with started(max_instances=2) as (instances, _connector, _):
        await instances.get(Client("old").caller)
        await trio.sleep(1)
        link = await instances.get(Client("lost").caller)
        link.fail(BackendCrashed("b", "gone"))
        await instances.get(Client("new").caller)
        assert instances.find("old") is not None
        assert (len(instances), instances.find("new") is not None) == (2, True)


async def test_idle_ones_end_but_not_those_with_subscriptions(autojump_clock):
    async with started(instance_idle=60.0) as (instances, _connector, _):
        await instances.get(Client("idle").caller)
        link = await instances.get(Client("subscribed").caller)
        link.subscriptions["x:/1"] = {}
        await trio.sleep(60 + 2 * SWEEP)
        assert instances.find("idle") is None
        assert instances.find("subscribed") is link


async def test_nothing_is_opened_when_it_is_over(autojump_clock):
    async with started() as (instances, _, _):
        pass
    with pytest.raises(BackendUnavailable, match="mcpd is stopping"):
        await instances.get(Client("1").caller)
    instances.revive()


# ---- subscriptions of an earlier run

SUBSCRIPTION = {"uri": b'"x:/1"'}


async def test_an_inherited_subscription_is_made_again_and_its_client_told_of_an_update(autojump_clock):
    async with started() as (instances, connector, _):
        caller = Client("1").caller
        instances.inherit(caller, "x:/1", SUBSCRIPTION)
        assert instances.find(caller.key) is None
        instances.levels["1"] = "error"
        instances.revive()
        await wait_all_tasks_blocked()
        carrier = connector.carriers[0]
        assert carrier.methods()[2:] == ["logging/setLevel", "resources/subscribe"]
        heard = carrier.link.listener
        assert heard.updates == [({"uri": "x:/1"}, "1")]
        carrier.link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        instances.revive()
        await wait_all_tasks_blocked()
        assert len(connector.carriers) == 2
        assert heard.updates == [({"uri": "x:/1"}, "1")], "once for each restart of mcpd"


async def test_a_call_that_comes_first_opens_the_link_with_what_was_inherited(autojump_clock):
    async with started() as (instances, connector, _):
        caller = Client("1").caller
        instances.inherit(caller, "x:/1", SUBSCRIPTION)
        link = await instances.get(caller)
        assert link.subscriptions == {"x:/1": SUBSCRIPTION}
        await wait_all_tasks_blocked()
        assert connector.carriers[0].link.listener.updates == [({"uri": "x:/1"}, "1")]


async def test_who_left_or_gave_up_inherits_nothing(autojump_clock):
    async with started() as (instances, connector, _):
        instances.inherit(Client("1").caller, "x:/1", SUBSCRIPTION)
        instances.inherit(Client("2").caller, "x:/1", SUBSCRIPTION)
        instances.forget("1")
        held = instances.holding("2", "x:/1")
        held.subscribers.remove("x:/1", "2")
        held.subscriptions.clear()
        instances.revive()
        await wait_all_tasks_blocked()
        assert connector.carriers == []
        assert instances.disinherit() == []


async def test_inheriting_is_bounded(autojump_clock):
    async with started(max_instances=2) as (instances, _connector, _):
        for key in "123":
            instances.inherit(Client(key).caller, "x:/1", SUBSCRIPTION)
        assert sorted(key for key, _, _ in instances.disinherit()) == ["1", "2"]
        assert len(instances) == 0


# ---- one link for all clients of a principal


def clients(*keys, principal="alice", **members):
    return [Client(key, principal=principal, **members).caller for key in keys]


async def test_the_clients_of_a_principal_share_a_link_and_nobody_else(autojump_clock):
    async with started(instances="per-principal") as (instances, connector, _):
        one, two = clients("1", "2", capabilities=ClientCapability.ROOTS)
        (other,) = clients("3", principal="bob")
        link = await instances.get(one)
        assert await instances.get(two) is link
        assert await instances.get(other) is not link
        assert (len(instances), link.capabilities) == (2, EVERYTHING)
        assert instances.hearers(link.owner) == ("1", "2") or instances.hearers(link.owner) == ("2", "1")
        assert instances.hearers(None) == (None,)
        assert instances.find("1") is instances.find("2") is link
        instances.forget("1")
        assert (instances.hearers(link.owner), instances.find("1"), instances.find("2")) == (("2",), None, link)
        instances.forget("2")
        assert (instances.hearers(link.owner), link.lost.is_set()) == ((), False), "others may come"
        assert await instances.get(one) is link
        assert len(connector.attempts) == 2


async def test_a_client_without_a_session_uses_the_link_and_is_no_session_of_it(autojump_clock):
    async with started(instances="per-principal") as (instances, connector, _):
        (one,) = clients("1")
        link = await instances.get(one)
        assert await instances.get(modern_client("call 7", principal="alice").caller) is link
        assert instances.hearers(link.owner) == ("1",)
        listening = modern_client("call 8", principal="alice").caller
        subscribers = instances.subscribing(listening, link.owner)
        subscribers.add("x:/1", listening.key)
        link.subscriptions["x:/1"] = {"uri": b'"x:/1"'}
        assert instances.hearers(link.owner) == ("1",), "it hears of what it is subscribed to, and of nothing else"
        assert instances.listeners(link.owner) == ("1", "call 8")
        instances.forget(listening.key)
        await connector.carriers[0].wait_sent("resources/unsubscribe")
        assert instances.listeners(link.owner) == ("1",)


async def test_a_session_called_like_a_principal_is_another_one(autojump_clock):
    async with started(instances="per-principal") as (instances, _connector, _):
        (one,) = clients("1")
        (odd,) = clients((await instances.get(one)).owner, principal="bob")
        link = await instances.get(odd)
        assert instances.find(odd.key) is link
        assert link.owner == "principal bob"


async def test_who_wants_most_of_the_log_of_a_principals_link_has_it(autojump_clock):
    async with started(instances="per-principal") as (instances, connector, _):
        one, two, three = clients("1", "2", "3")
        instances.levels["1"] = "error"
        await instances.get(one)
        carrier = connector.carriers[0]

        def levels():
            return [message["params"]["level"] for message in carrier.named("logging/setLevel")]

        assert levels() == ["error"]
        instances.levels["2"] = "debug"
        await instances.get(two)
        assert levels() == ["error", "debug"], "it came later, with what it had wanted all the time"
        await instances.get(three)
        instances.levels["3"] = "info"
        await instances.set_level("3")
        assert levels() == ["error", "debug"]
        instances.forget("2")
        await carrier.wait_sent("logging/setLevel", 3)
        assert levels() == ["error", "debug", "info"]
        carrier.link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        await instances.get(one)
        assert connector.carriers[1].named("logging/setLevel")[0]["params"] == {"level": "info"}


async def test_a_principals_link_with_subscriptions_is_revived_for_all_its_sessions(autojump_clock):
    async with started(instances="per-principal") as (instances, connector, _):
        one, two = clients("1", "2")
        link = await instances.get(one)
        await instances.get(two)
        subscribers = instances.subscribing(two, link.owner)
        subscribers.add("x:/1", "2")
        link.subscriptions["x:/1"] = {"uri": b'"x:/1"'}
        link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        instances.revive()
        await wait_all_tasks_blocked()
        assert instances.find("1") is instances.find("2") is connector.carriers[1].link
        assert len(connector.carriers[1].named("resources/subscribe")) == 1
        assert instances.holding("2", "x:/1").subscribers is subscribers
        instances.forget("2")
        await connector.carriers[1].wait_sent("resources/unsubscribe")
        assert instances.holding("1", "x:/1") is None


async def test_links_of_principals_are_bounded_and_end_when_they_are_idle(autojump_clock):
    async with started(instances="per-principal", max_instances=2, instance_idle=60.0) as (instances, _connector, _):
        for principal in ("alice", "bob", "carol"):
            await instances.get(clients(f"{principal}'s", principal=principal)[0])
            await trio.sleep(1)
        assert (len(instances), instances.find("alice's")) == (2, None)
        await trio.sleep(60 + 2 * SWEEP)
        assert (len(instances), instances.find("bob's"), instances.find("carol's")) == (0, None, None)


async def test_what_sessions_of_a_principal_inherit_is_one_subscription(autojump_clock):
    async with started(instances="per-principal") as (instances, connector, _):
        for caller in clients("1", "2"):
            instances.inherit(caller, "x:/1", SUBSCRIPTION)
        assert len(instances) == 1
        instances.revive()
        await wait_all_tasks_blocked()
        carrier = connector.carriers[0]
        assert len(carrier.named("resources/subscribe")) == 1
        assert sorted(key for _, key in carrier.link.listener.updates) == ["1", "2"]
    async with started(instances="per-principal") as (instances, _, _):
        for caller in clients("1", "2"):
            instances.inherit(caller, "x:/1", SUBSCRIPTION)
        assert sorted(instances.disinherit()) == [("1", "x:/1", SUBSCRIPTION), ("2", "x:/1", SUBSCRIPTION)]
        assert len(instances) == 0
