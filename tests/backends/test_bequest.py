"""Leased links as one program leaves them and the next one finds them; the exec is in `tests/e2e/test_upgrade.py`."""

from __future__ import annotations

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.bequest import Bequest
from mcpd.backends.carried import LeaseState, LinkState
from mcpd.backends.instances import SWEEP
from mcpd.backends.leases import Leases
from mcpd.protocol.capabilities import ClientCapability
from tests.backends.parts import Client, Heard, calling
from tests.backends.test_carried import HELLO
from tests.backends.test_connector import connector_for
from tests.backends.test_leases import doing, run, someone, started
from tests.backends.test_stdio import make

FORM = ClientCapability.ELICITATION_FORM
SAMPLING = ClientCapability.SAMPLING

SAYS_HALF = "out.write(b'{\"jsonrpc\": '); out.flush(); sys.stdin.readline()"
"""A server that, before anybody asks, begins a line and does not end it."""


def pooled(pid, *, idle_for=1.0, capabilities=FORM, principal="", **members):
    link = LinkState(pid=pid, modern=False, hello=HELLO, last_id=pid, **members)
    return LeaseState(link=link, principal=principal, capabilities=int(capabilities), idle_for=idle_for)


def blank(pid, *, idle_for=1.0):
    return LeaseState(link=LinkState(pid=pid, modern=False, hello=None, last_id=0), idle_for=idle_for)


async def until(condition):
    """Waits for what a process does."""
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - it cannot be heard of
            await trio.sleep(0.002)


def go_on(leases, connector, *states):
    """As the next program does; the pids of the children that are gone on with."""
    bequest = Bequest(connector, leases)
    pids = bequest.accept(states)
    bequest.resume()
    return pids


def on_pid(connector, pid):
    """The carrier of the link that goes on with this child."""
    return next(each for each in connector.carriers if each.link.carried is not None and each.link.carried.pid == pid)


async def test_idle_links_go_on_without_a_word_in_their_order(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        states = (pooled(1, idle_for=30), pooled(2, idle_for=10, level="info"), pooled(3, idle_for=20), blank(4))
        assert sorted(go_on(leases, connector, *states)) == [1, 2, 3, 4]
        await wait_all_tasks_blocked()
        assert doing(leases) == {"blank": 1, "idle": 3}
        assert [carrier.methods() for carrier in connector.carriers if carrier.sent] == []
        assert leases.statistics().opened == 0
        assert on_pid(connector, 2).link.level == "info"
        await run(leases, someone(capabilities=FORM))
        assert [each["id"] for each in on_pid(connector, 2).sent] == [3], "the one that was used last is used first"
        await wait_all_tasks_blocked()
        for each in connector.carriers:
            each.answers["tools/call"] = lambda message: None
        outcomes = [calling(nursery, run, leases, someone(capabilities=FORM)) for _ in range(2)]
        await wait_all_tasks_blocked()
        assert len(on_pid(connector, 3).sent) == 1
        assert on_pid(connector, 1).sent == []
        for outcome in outcomes:
            outcome.scope.cancel()


async def test_links_go_on_for_their_kind_of_client_only(autojump_clock):
    async with started() as (leases, connector, _):
        go_on(leases, connector, pooled(1, principal="alice"), pooled(2, capabilities=SAMPLING))
        await wait_all_tasks_blocked()
        await run(leases, someone(principal="alice", capabilities=FORM))
        await run(leases, someone(capabilities=SAMPLING))
        assert [len(on_pid(connector, pid).sent) for pid in (1, 2)] == [1, 1]
        await run(leases, someone(principal="bob", capabilities=FORM))
        assert [len(on_pid(connector, pid).sent) for pid in (1, 2)] == [1, 1]


async def test_a_call_that_comes_before_a_link_goes_on_waits_for_it(autojump_clock):
    async with started() as (leases, connector, _):
        go_on(leases, connector, pooled(1))
        await run(leases, someone(capabilities=FORM))
        assert on_pid(connector, 1).methods() == ["tools/call"]


async def test_a_blank_child_is_still_anybodys(autojump_clock):
    async with started() as (leases, connector, _):
        go_on(leases, connector, blank(1))
        await run(leases, someone(capabilities=SAMPLING))
        assert connector.carriers[0].methods() == ["initialize", "notifications/initialized", "tools/call"]
        assert connector.declared[0] == SAMPLING


async def test_time_of_no_use_goes_on_to_count(autojump_clock):
    async with started(instance_idle=100.0) as (leases, connector, _):
        go_on(leases, connector, pooled(1, idle_for=90), pooled(2, idle_for=10), blank(3, idle_for=90))
        await trio.sleep(SWEEP + 1)
        assert doing(leases) == {"idle": 1}
        assert len(connector.ended) == 2
        await trio.sleep(100)
        assert doing(leases) == {}


async def test_no_more_go_on_than_there_may_be(autojump_clock):
    async with started(max_instances=2) as (leases, connector, _):
        states = (blank(1, idle_for=0), pooled(2, idle_for=3), pooled(3, idle_for=1), pooled(4, idle_for=2))
        assert go_on(leases, connector, *states) == (3, 4)
        await wait_all_tasks_blocked()
        assert doing(leases) == {"idle": 2}


async def test_what_has_ended_meanwhile_serves_nobody(autojump_clock):
    async with started() as (leases, connector, _):
        connector.failures = [ConnectionError("a bug")]
        go_on(leases, connector, pooled(1))
        await wait_all_tasks_blocked()
        assert doing(leases) == {}
        await run(leases, someone(capabilities=FORM))
        assert connector.carriers[0].methods()[0] == "initialize"


async def test_what_is_left_of_real_children():
    async with connector_for(make(instances="leased")) as connector, trio.open_nursery() as nursery:
        leases = Leases(connector, Heard(), at_failure=lambda: None)
        bequest = Bequest(connector, leases)
        await nursery.start(leases.run)
        assert bequest.capture() == ()
        call = Client("a", capabilities=FORM, principal="alice", log_level=None).call()
        held = calling(nursery, leases.call, call, "tools/call", call.members)
        await until(lambda: bequest.opening)
        assert bequest.capture() == ()
        await held.done.wait()
        await until(lambda: leases._blank is not None and leases._blank.wish.link is not None)
        assert not bequest.opening
        assert [link.hello is not None for link in bequest.links()] == [True]
        states = bequest.capture()
        assert [state.link for state in bequest.capture()] == [state.link for state in states], "nothing was changed"
        states = msgspec.msgpack.decode(msgspec.msgpack.encode(states), type=tuple[LeaseState, ...])
        [mine] = [state for state in states if not state.blank]
        [ahead] = [state for state in states if state.blank]
        assert {mine.link.pid, ahead.link.pid} == {child.pid for child in connector._supervisor.children()}
        assert (mine.principal, mine.capabilities) == ("alice", int(FORM))
        assert mine.link.last_id > 0 == ahead.link.last_id
        assert min(mine.idle_for, ahead.idle_for) >= 0
        nursery.cancel_scope.cancel()


async def test_what_a_blank_child_has_begun_to_say_is_left_too():
    async with connector_for(make(SAYS_HALF, instances="leased")) as connector, trio.open_nursery() as nursery:
        leases = Leases(connector, Heard(), at_failure=lambda: None)
        await nursery.start(leases.run)
        leases.warm()
        bequest = Bequest(connector, leases)
        await until(lambda: any(state.link.partial for state in bequest.capture()))
        [state] = bequest.capture()
        assert state.link.partial == b'{"jsonrpc": '
        nursery.cancel_scope.cancel()
