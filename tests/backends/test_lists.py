"""The lists of one server: when they are fetched, and who learns of it. `test_catalogue` fetches one."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.base import KINDS, Hint
from mcpd.backends.lists import POLL_MIN, POLL_SPREAD, RELIST_DELAY, RELIST_FAILED, Lists
from mcpd.backends.opening import Era
from mcpd.config.model import Timeouts
from mcpd.errors import RpcError
from tests.backends.parts import DISCOVER, HELLO, Failure, linked, make_spec

METHODS = {
    "tools": "tools/list",
    "resources": "resources/list",
    "resourceTemplates": "resources/templates/list",
    "prompts": "prompts/list",
}


class Told:
    """What the lists report."""

    def __init__(self) -> None:
        self.changed: list[tuple[str, ...]] = []
        self.settled: list[set[str]] = []
        self.lists = Lists(
            make_spec(timeouts=Timeouts(list=5)),
            changed=self.changed.append,
            settled=lambda: self.settled.append(set(self.lists.failed)),
        )


@asynccontextmanager
async def kept(*, era=Era.LEGACY, capabilities=None, prepare=None, **members):
    """Lists of a server, loaded and kept up to date."""
    async with linked(opened=False, era=era, **members) as (link, carrier, _):
        if capabilities is not None:
            opening = {"initialize": HELLO} if era is Era.LEGACY else {"server/discover": DISCOVER}
            carrier.answers.update({name: {**known, "capabilities": capabilities} for name, known in opening.items()})
        if prepare is not None:
            prepare(carrier)
        await link.open()
        told = Told()
        await link.replay()
        await told.lists.load(link)
        link.nursery.start_soon(told.lists.refresh, link)
        yield told, link, carrier


def tools(*names, **members):
    return {"tools": [{"name": name, "inputSchema": {}, **members} for name in names]}


def names(told):
    return [entry.key for entry in told.lists.catalogue.tools]


def count(carrier, kind="tools"):
    return len(carrier.named(METHODS[kind]))


# ---- loading


async def test_loading_says_what_differs(autojump_clock):
    async with linked() as (link, carrier, _):
        told = Told()
        assert await told.lists.load(link) == ("tools",)
        assert await told.lists.load(link) == ()
        carrier.answers["prompts/list"] = {"prompts": [{"name": "p"}]}
        carrier.answers["tools/list"] = tools()
        assert await told.lists.load(link) == ("tools", "prompts")
        assert told.changed == []


async def test_nothing_to_be_had_is_a_failure_and_changes_nothing(autojump_clock):
    async with linked() as (link, carrier, _):
        told = Told()
        await told.lists.load(link)
        before = told.lists.catalogue
        for method in METHODS.values():
            carrier.answers[method] = Failure(-32603, "no database")
        with pytest.raises(RpcError, match="no database"):
            await told.lists.load(link)
        assert told.lists.catalogue is before


async def test_the_facts_of_tools_are_those_of_the_list(autojump_clock):
    async with kept() as (told, link, carrier):
        assert not told.lists.tools.as_tasks
        carrier.answers["tools/list"] = tools("slow", execution={"taskSupport": "required"})
        told.lists.note("notifications/tools/list_changed")
        await trio.sleep(1)
        assert told.lists.tools.as_tasks == {b'"slow"'}
        await told.lists.load(link)
        assert told.lists.tools.as_tasks == {b'"slow"'}


# ---- changes


async def test_changes_that_come_together_are_one_fetch(autojump_clock):
    async with kept() as (told, _, carrier):
        await trio.sleep(1)
        assert count(carrier) == 1
        carrier.answers["tools/list"] = tools("u")
        for _ in range(100):
            told.lists.note("notifications/tools/list_changed")
        await trio.sleep(RELIST_DELAY / 2)
        assert count(carrier) == 1
        await trio.sleep(RELIST_DELAY)
        assert count(carrier) == 2
        assert told.changed == [("tools",)]
        assert names(told) == ["u"]


async def test_what_does_not_differ_is_not_reported(autojump_clock):
    async with kept() as (told, _, carrier):
        told.lists.note("notifications/tools/list_changed")
        await trio.sleep(1)
        assert count(carrier) == 2
        assert told.changed == []
        assert told.settled == [set()]


async def test_one_notification_is_about_resources_and_templates(autojump_clock):
    async with kept() as (told, _, carrier):
        told.lists.note("notifications/resources/list_changed")
        await trio.sleep(1)
        assert {kind: count(carrier, kind) for kind in KINDS} == {
            "tools": 1,
            "resources": 2,
            "resourceTemplates": 2,
            "prompts": 1,
        }


async def test_what_is_not_offered_is_never_asked_for(autojump_clock):
    async with kept(capabilities={"tools": {}}) as (told, _, carrier):
        told.lists.note("notifications/prompts/list_changed")
        await trio.sleep(2 * RELIST_FAILED)
        assert count(carrier, "prompts") == 0


async def test_a_change_while_a_list_is_fetched_is_fetched_again(nursery, autojump_clock):
    async with kept() as (told, _, carrier):
        carrier.answers["tools/list"] = lambda message: None
        told.lists.note("notifications/tools/list_changed")
        sent = await carrier.wait_sent("tools/list", 2)
        told.lists.note("notifications/tools/list_changed")
        carrier.answers["tools/list"] = tools("newest")
        carrier.answer_to(sent, tools("newer"))
        await trio.sleep(1)
        assert names(told) == ["newest"]
        assert told.changed == [("tools",), ("tools",)]


# ---- failures


async def test_a_list_that_fails_is_asked_for_again_and_what_was_known_stays(autojump_clock):
    async with kept() as (told, _, carrier):
        carrier.answers["tools/list"] = Failure(-32603, "no database")
        told.lists.note("notifications/tools/list_changed")
        await trio.sleep(1)
        assert told.settled == [{"tools"}]
        assert names(told) == ["t"]
        await trio.sleep(3 * RELIST_FAILED)
        assert count(carrier) == 5
        carrier.answers["tools/list"] = tools("u")
        await trio.sleep(RELIST_FAILED)
        assert told.lists.failed == set()
        assert told.settled[-1] == set()
        assert told.changed == [("tools",)]
        await trio.sleep(10 * RELIST_FAILED)
        assert count(carrier) == 6


async def test_the_end_of_the_link_is_no_news(autojump_clock):
    async with kept() as (told, link, carrier):
        carrier.answers["tools/list"] = lambda message: link.fail(RpcError(1, "gone"))
        told.lists.note("notifications/tools/list_changed")
        await trio.sleep(2 * RELIST_FAILED)
        assert told.settled == []
        assert count(carrier) == 2


# ---- at once


async def test_a_list_is_fetched_once_for_all_who_need_it(autojump_clock):
    async with kept() as (told, link, carrier):
        waiting = []
        carrier.answers["tools/list"] = waiting.append
        async with trio.open_nursery() as asking:
            asking.start_soon(told.lists.relist, link, "tools")
            await carrier.wait_sent("tools/list", 2)
            for _ in range(10):
                asking.start_soon(told.lists.relist, link, "tools")
            await wait_all_tasks_blocked()
            assert len(waiting) == 1
            # Those who asked while it was on its way may need what came after it.
            carrier.answer_to(waiting[0], tools("u"))
            await carrier.wait_sent("tools/list", 3)
            carrier.answer_to(waiting[1], tools("v"))
        assert count(carrier) == 3
        assert told.changed == [("tools",), ("tools",)]
        assert names(told) == ["v"]


async def test_a_failure_of_it_is_noted_not_raised(autojump_clock):
    async with kept() as (told, link, carrier):
        carrier.answers["tools/list"] = Failure(-32603, "no database")
        await told.lists.relist(link, "tools")
        assert told.lists.failed == {"tools"}


# ---- modern backends, which say how long a list may be kept


def modern_list(kind, ttl, **members):
    return {kind: [], "resultType": "complete", "ttlMs": ttl, "cacheScope": "public", **members}


async def test_a_list_that_is_announced_is_not_polled(autojump_clock):
    def prepare(carrier):
        carrier.answers["tools/list"] = modern_list("tools", 1000)

    async with kept(era=Era.MODERN, prepare=prepare) as (told, _, carrier):
        await trio.sleep(100 * POLL_MIN)
        assert count(carrier) == 1
        assert told.lists.catalogue.hint("tools") == Hint(1000, True)


@pytest.mark.parametrize(("ttl", "period"), [(0, POLL_MIN), (1000, POLL_MIN), (100_000, 100.0), ("soon", POLL_MIN)])
async def test_one_that_is_not_is_looked_at_when_it_is_stale(ttl, period, autojump_clock):
    times = []

    def prepare(carrier):
        def serve(message):
            times.append(trio.current_time())
            return modern_list("tools", ttl)

        carrier.answers["tools/list"] = serve

    async with kept(era=Era.MODERN, capabilities={"tools": {}}, prepare=prepare):
        await trio.sleep(10 * period)
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert 8 <= len(pauses) <= 10
        for pause in pauses:
            assert period <= pause <= POLL_SPREAD * period + 2 * RELIST_DELAY


async def test_each_list_has_its_own_time(autojump_clock):
    def prepare(carrier):
        carrier.answers["tools/list"] = modern_list("tools", 0)
        carrier.answers["prompts/list"] = modern_list("prompts", 3_600_000)

    capabilities = {"tools": {}, "prompts": {}}
    async with kept(era=Era.MODERN, capabilities=capabilities, prepare=prepare) as (_, _, carrier):
        await trio.sleep(20 * POLL_MIN)
        assert count(carrier, "tools") >= 18
        assert count(carrier, "prompts") == 1


async def test_a_backend_that_says_nothing_about_it_is_looked_at_too(autojump_clock):
    def prepare(carrier):
        carrier.answers["tools/list"] = {"tools": []}

    async with kept(era=Era.MODERN, capabilities={"tools": {}}, prepare=prepare) as (told, _, carrier):
        assert told.lists.catalogue.hint("tools") == Hint(0, False)
        await trio.sleep(3 * POLL_MIN)
        assert count(carrier) >= 3


async def test_a_legacy_backend_is_not(autojump_clock):
    def prepare(carrier):
        carrier.answers["tools/list"] = modern_list("tools", 1000)

    async with kept(capabilities={"tools": {}}, prepare=prepare) as (told, _, carrier):
        await trio.sleep(10 * POLL_MIN)
        assert count(carrier) == 1
        assert told.lists.catalogue.hint("tools") is None


async def test_a_list_that_is_announced_but_not_listened_to_is_polled(autojump_clock):
    def prepare(carrier):
        carrier.answers["subscriptions/listen"] = Failure(-32601, "Method not found")
        carrier.answers["tools/list"] = modern_list("tools", 0)

    async with kept(era=Era.MODERN, prepare=prepare) as (_, _, carrier):
        await trio.sleep(3 * POLL_MIN)
        assert count(carrier) >= 3
