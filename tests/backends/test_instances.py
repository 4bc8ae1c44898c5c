from __future__ import annotations

import itertools
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.instances import SWEEP, Instances
from mcpd.errors import BackendCrashed, BackendUnavailable
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import Client, Heard, MemoryConnector, calling, make_spec


@asynccontextmanager
async def started(**members):
    deadlines = Deadlines()
    connector = MemoryConnector(make_spec(instances="per-session", **members), deadlines)
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
        link = await instances.get(one, None)
        assert link.owner == "1"
        assert await instances.get(one, None) is link
        assert await instances.get(two, None) is not link
        assert (len(instances), instances.find(one.key), instances.find("3")) == (2, link, None)


async def test_calls_that_come_at_once_open_one_link(nursery, autojump_clock):
    async with started() as (instances, connector, _):
        caller = Client("1").caller
        found = []

        async def get():
            found.append(await instances.get(caller, None))

        for _ in range(5):
            nursery.start_soon(get)
        await wait_all_tasks_blocked()
        assert len(found) == 5
        assert len(set(map(id, found))) == 1
        assert len(connector.attempts) == 1


async def test_the_level_is_set_before_the_first_call(autojump_clock):
    async with started() as (instances, connector, _):
        await instances.get(Client("1").caller, "error")
        assert connector.carriers[0].named("logging/setLevel")[0]["params"] == {"level": "error"}


async def test_a_failure_is_told_to_all_who_wait_and_forgotten(autojump_clock):
    async with started() as (instances, connector, failures):
        caller = Client("1").caller
        connector.failures = [BackendUnavailable("b", "not today")]
        with pytest.raises(BackendUnavailable, match="not today"):
            await instances.get(caller, None)
        assert len(failures) == 1
        assert len(instances) == 0
        assert (await instances.get(caller, None)).owner == "1"


async def test_a_server_whose_links_cannot_be_opened_is_not_hammered_by_calls(autojump_clock):
    async with started() as (instances, connector, _):
        connector.failing = BackendUnavailable("b", "exits at once")
        with trio.move_on_after(3600):
            for number in itertools.count():
                with pytest.raises(BackendUnavailable, match="exits at once"):
                    await instances.get(Client(str(number)).caller, None)
                await trio.sleep(2)
        assert len(connector.attempts) < 20 + 3600 / (300 * 0.8) + 6 + 2 + 3600 / 300
        connector.failing = None
        await trio.sleep(300)
        await instances.get(Client("1").caller, None)
        before = len(connector.attempts)
        for number in range(2, 30):
            await instances.get(Client(str(number)).caller, None)
        assert len(connector.attempts) == before + 28, "what works again is not held back"


async def test_one_attempt_at_a_time_finds_out_whether_links_can_be_opened_again(nursery, autojump_clock):
    async with started() as (instances, connector, _):
        connector.failing = BackendUnavailable("b", "exits at once")
        with pytest.raises(BackendUnavailable):
            await instances.get(Client("0").caller, None)
        connector.failing = None
        opened = []

        async def get(number):
            opened.append(await instances.get(Client(str(number)).caller, None))

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
                    link = await instances.get(caller, None)
                except BackendUnavailable as error:
                    refused.add(error.reason)
                    await trio.sleep(2)
                else:
                    link.fail(BackendCrashed("b", "was killed by SIGSEGV"))
                    await wait_all_tasks_blocked()
        assert refused == {"it is backing-off; the last failure: was killed by SIGSEGV"}
        assert len(connector.attempts) < 20 + 3600 / (300 * 0.8) + 6 + 2 + 3600 / 300
        other = await instances.get(Client("2").caller, None)
        assert not other.lost.is_set(), "another session is not held back"


async def test_an_unexpected_error_ends_one_link_only(autojump_clock):
    async with started() as (instances, connector, _):
        other = await instances.get(Client("2").caller, None)
        connector.failures = [RuntimeError("a bug")]
        with pytest.raises(BackendUnavailable, match="internal error in mcpd"):
            await instances.get(Client("1").caller, None)
        assert not other.lost.is_set()


async def test_a_lost_link_is_replaced_and_set_up_again(autojump_clock):
    async with started() as (instances, connector, failures):
        caller = Client("1").caller
        link = await instances.get(caller, "info")
        link.subscriptions["x:/1"] = {"uri": b'"x:/1"'}
        link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        assert instances.find(caller.key) is None
        assert len(failures) == 1
        again = await instances.get(caller, "info")
        assert again is not link
        carrier = connector.carriers[1]
        assert carrier.methods() == [
            "initialize",
            "notifications/initialized",
            "logging/setLevel",
            "resources/subscribe",
        ]
        assert again.subscriptions is instances.subscriptions(caller.key)


async def test_subscriptions_survive_an_attempt_that_fails(autojump_clock):
    async with started() as (instances, connector, _):
        caller = Client("1").caller
        link = await instances.get(caller, None)
        link.subscriptions["x:/1"] = {"uri": b'"x:/1"'}
        link.fail(BackendCrashed("b", "gone"))
        connector.failures = [BackendUnavailable("b", "still away")]
        with pytest.raises(BackendUnavailable):
            await instances.get(caller, None)
        await instances.get(caller, None)
        assert "resources/subscribe" in connector.carriers[-1].methods()


async def test_revive_opens_what_has_subscriptions(autojump_clock):
    async with started() as (instances, connector, _):
        for key in "123":
            link = await instances.get(Client(key).caller, None)
            if key != "3":
                link.subscriptions["x:/1"] = {"uri": b'"x:/1"'}
            if key != "2":
                link.fail(BackendCrashed("b", "gone"))
        instances.revive({"1": "error"})
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
        link = await instances.get(client.caller, None)
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
                await instances.get(Client("1").caller, None)
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
        link = await instances.get(busy.caller, None)
        call = busy.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        await connector.carriers[0].wait_sent("tools/call")
        await trio.sleep(1)
        await instances.get(Client("idle").caller, None)
        await instances.get(Client("new").caller, None)
        assert instances.find("idle") is None
        assert instances.find("busy") is link
        other = Client("new")
        link = await instances.get(other.caller, None)
        call = other.call()
        calling(nursery, link.call, call, "tools/call", call.members)
        await connector.carriers[2].wait_sent("tools/call")
        with pytest.raises(BackendUnavailable, match=r"2 instances are in use \(raise servers.b.max_instances"):
            await instances.get(Client("one more").caller, None)
        assert instances.in_flight == 2


async def test_lost_ones_make_room_first(autojump_clock):
    async with started(max_instances=2) as (instances, _connector, _):
        await instances.get(Client("old").caller, None)
        await trio.sleep(1)
        link = await instances.get(Client("lost").caller, None)
        link.fail(BackendCrashed("b", "gone"))
        await instances.get(Client("new").caller, None)
        assert instances.find("old") is not None
        assert instances.subscriptions("lost") is None


async def test_idle_ones_end_but_not_those_with_subscriptions(autojump_clock):
    async with started(instance_idle=60.0) as (instances, _connector, _):
        await instances.get(Client("idle").caller, None)
        link = await instances.get(Client("subscribed").caller, None)
        link.subscriptions["x:/1"] = {}
        await trio.sleep(60 + 2 * SWEEP)
        assert instances.find("idle") is None
        assert instances.find("subscribed") is link


async def test_nothing_is_opened_when_it_is_over(autojump_clock):
    async with started() as (instances, _, _):
        pass
    with pytest.raises(BackendUnavailable, match="mcpd is stopping"):
        await instances.get(Client("1").caller, None)
    instances.revive({})


# ---- subscriptions of an earlier run

SUBSCRIPTION = {"uri": b'"x:/1"'}


async def test_an_inherited_subscription_is_made_again_and_its_client_told_of_an_update(autojump_clock):
    async with started() as (instances, connector, _):
        caller = Client("1").caller
        instances.inherit(caller, "x:/1", SUBSCRIPTION)
        assert instances.find(caller.key) is None
        instances.revive({"1": "error"})
        await wait_all_tasks_blocked()
        carrier = connector.carriers[0]
        assert carrier.methods()[2:] == ["logging/setLevel", "resources/subscribe"]
        heard = carrier.link.listener
        assert heard.updates == [({"uri": "x:/1"}, "1")]
        carrier.link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        instances.revive({})
        await wait_all_tasks_blocked()
        assert len(connector.carriers) == 2
        assert heard.updates == [({"uri": "x:/1"}, "1")], "once for each restart of mcpd"


async def test_a_call_that_comes_first_opens_the_link_with_what_was_inherited(autojump_clock):
    async with started() as (instances, connector, _):
        caller = Client("1").caller
        instances.inherit(caller, "x:/1", SUBSCRIPTION)
        link = await instances.get(caller, None)
        assert link.subscriptions == {"x:/1": SUBSCRIPTION}
        await wait_all_tasks_blocked()
        assert connector.carriers[0].link.listener.updates == [({"uri": "x:/1"}, "1")]


async def test_who_left_or_gave_up_inherits_nothing(autojump_clock):
    async with started() as (instances, connector, _):
        instances.inherit(Client("1").caller, "x:/1", SUBSCRIPTION)
        instances.inherit(Client("2").caller, "x:/1", SUBSCRIPTION)
        instances.forget("1")
        instances.subscriptions("2").clear()
        instances.revive({})
        await wait_all_tasks_blocked()
        assert connector.carriers == []
        assert instances.disinherit() == []


async def test_inheriting_is_bounded(autojump_clock):
    async with started(max_instances=2) as (instances, _connector, _):
        for key in "123":
            instances.inherit(Client(key).caller, "x:/1", SUBSCRIPTION)
        assert sorted(key for key, _, _ in instances.disinherit()) == ["1", "2"]
        assert len(instances) == 0
