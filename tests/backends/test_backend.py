from __future__ import annotations

import math
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd import failures
from mcpd.backends.backend import ManagedBackend
from mcpd.backends.kept import KeptCatalogues
from mcpd.backends.lists import RELIST_DELAY, RELIST_FAILED
from mcpd.backends.lobby import WAIT_FOR_ATTEMPT
from mcpd.backends.opening import Era
from mcpd.backends.stdio import ChildEnded
from mcpd.config.model import Restart, Timeouts
from mcpd.errors import BackendCrashed, BackendUnavailable, RpcError
from mcpd.protocol.capabilities import EVERYTHING, NOTHING
from mcpd.supervisor.exits import Exit
from mcpd.supervisor.restart import WAKE_INTERVAL
from mcpd.supervisor.slots import StartSlots, Urgency
from mcpd.supervisor.states import State
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import (
    DISCOVER,
    Client,
    Failure,
    Heard,
    MemoryConnector,
    calling,
    make_spec,
    modern_client,
    result_of,
)

DAY = 86_400.0
LISTEN = "subscriptions/listen"
GONE = BackendCrashed("b", "was killed by SIGKILL", detail="last words")
ONLY_TOOLS = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "x", "version": "1"},
}


@asynccontextmanager
async def started(*, failures=(), prepare=None, wait=True, modern=False, kept=None, **members):
    deadlines = Deadlines()
    connector = MemoryConnector(make_spec(**members), deadlines)
    connector.era = Era.MODERN if modern else Era.LEGACY
    connector.failures = list(failures)
    if prepare is not None:
        connector.prepare = prepare
    heard = Heard()
    backend = ManagedBackend(connector.spec, connector, heard, kept)
    async with trio.open_nursery() as nursery:
        await nursery.start(deadlines.run)
        nursery.start_soon(backend.run)
        if wait:
            await backend.wait_verdict()
        yield backend, connector, heard
        nursery.cancel_scope.cancel()


def ended(code: int | None) -> ChildEnded:
    class Tail:
        def tail(self, *, clear) -> str:
            return clear("")

    class Child:
        name = "b"
        stderr = Tail()
        exit = None if code is None else Exit(code=code)

    return ChildEnded(Child(), failures.Failure(failures.Kind.EXITED, "ended"), str)


# ---- staying alive


async def test_ready_means_usable(autojump_clock):
    async with started() as (backend, _connector, heard):
        assert backend.state is State.READY
        assert [entry.key for entry in backend.catalogue.tools] == ["t"]
        assert heard.catalogues == [("tools",)]
        assert heard.verdicts == ["ready"]
        about = backend.describe()
        assert (about["state"], about["tools"], about["restarts"]) == ("ready", 1, 0)
        assert "error" not in about
        call = Client().call()
        assert result_of(await backend.call(call, "tools/call", call.members))["echo"] == {"name": "t"}


async def test_a_lost_backend_keeps_its_catalogue_and_comes_back(autojump_clock):
    async with started() as (backend, connector, heard):
        connector.failing = BackendUnavailable("b", "still away")
        before = backend.catalogue
        connector.carriers[0].link.fail(GONE)
        await heard.wait_until(lambda: len(heard.verdicts) == 3)
        assert backend.state is State.BACKING_OFF
        assert backend.catalogue is before
        assert backend.hello is not None
        assert "still away" in str(backend.describe()["error"])
        connector.failing = None
        await heard.wait_until(lambda: backend.state is State.READY)
        assert heard.catalogues == [("tools",)], "nothing differs, so nothing is said"
        assert "error" not in backend.describe()


async def test_the_first_restart_of_a_backend_that_worked_is_immediate(autojump_clock):
    async with started() as (_backend, connector, _heard):
        await trio.sleep(100)
        connector.carriers[0].link.fail(GONE)
        await connector.wait_attempts(2)
        assert connector.attempts[1] == connector.attempts[0] + 100


async def test_a_dead_backend_is_tried_for_ever_but_not_hammered(autojump_clock):
    async with started(wait=False) as (backend, connector, _heard):
        connector.failing = BackendUnavailable("b", "connection refused")
        await backend.wait_verdict()
        await trio.sleep(24 * 3600)
        pauses = [after - before for before, after in zip(connector.attempts, connector.attempts[1:], strict=False)]
        assert 280 < len(connector.attempts) < 400
        assert pauses[0] <= 0.2
        assert all(240 <= pause <= 300 for pause in pauses[15:])
        assert backend.describe()["restarts"] == len(connector.attempts) - 1


@pytest.mark.parametrize("policy", ["never", "on-failure", "always"])
@pytest.mark.parametrize(("code", "failed"), [(0, False), (3, True), (None, True)])
async def test_the_restart_policy_hears_how_it_ended(policy, code, failed, autojump_clock):
    async with started(restart=Restart(policy=policy)) as (backend, connector, heard):
        await trio.sleep(100)
        connector.carriers[0].link.fail(ended(code))
        await heard.wait_until(lambda: len(heard.verdicts) >= 2)
        restarts = policy == "always" or (policy == "on-failure" and failed)
        await trio.sleep(1)
        assert len(connector.attempts) == (2 if restarts else 1)
        assert backend.state is (State.READY if restarts else State.STOPPED)
        if not restarts:
            call = Client().call()
            with pytest.raises(BackendUnavailable, match="it is stopped; the last failure: ended"):
                await backend.call(call, "tools/call", call.members)


async def test_an_end_with_status_0_before_it_worked_is_a_failure(autojump_clock):
    async with started(failures=[ended(0)], restart=Restart(policy="on-failure")) as (
        backend,
        _connector,
        heard,
    ):
        await heard.wait_until(lambda: backend.state is State.READY)


async def test_needs_operator_is_tried_again_at_the_slowest_pace(autojump_clock):
    failure = BackendUnavailable(
        "b", "command 'x' not found", remedy="install it", kind="not-found", needs_operator=True
    )
    async with started(failures=[failure] * 1000) as (backend, connector, _heard):
        assert backend.state is State.NEEDS_OPERATOR
        await trio.sleep(DAY)
        assert backend.state is State.NEEDS_OPERATOR
        assert 280 <= len(connector.attempts) <= 1 + DAY / SLOW
        about = backend.describe()
        assert about["error"] == "backend 'b': command 'x' not found (install it)"
        assert about["failure"] == {
            "kind": "not-found",
            "reason": "command 'x' not found",
            "remedy": "install it",
        }
        assert about["crash_looping"]
        assert 0 < about["next_attempt_in"] <= 300
        await trio.sleep(1)  # not at the very moment of an attempt
        before = len(connector.attempts)
        call = Client().call()
        for _ in range(10):  # the first call makes an attempt at once, and those that follow make no more of them
            with pytest.raises(BackendUnavailable, match=r"it is needs-operator.*found \(install it; it is tr") as told:
                await backend.call(call, "tools/call", call.members)
            assert told.value.kind == "not-found"
        assert len(connector.attempts) == before + 1


SLOW = 300.0 * 0.8
"""Seconds between two attempts at the slowest pace with the default policy: the cap, shortened by the jitter."""

OUTAGES = {
    "a child that cannot be started": [BackendUnavailable("b", "not found", needs_operator=True)],
    "a child that dies in its handshake": [GONE],
    "a remote that is not there": [BackendUnavailable("b", "connection refused")],
    "a remote that refuses": [BackendUnavailable("b", "HTTP 403", needs_operator=True)],
    "a remote that is busy": [BackendUnavailable("b", "HTTP 503"), BackendUnavailable("b", "HTTP 503", retry_after=7)],
}


@pytest.mark.parametrize("failures", OUTAGES.values(), ids=OUTAGES)
@pytest.mark.parametrize("calls", [False, True])
async def test_a_day_of_outage_leads_to_a_bounded_number_of_attempts(failures, calls, nursery, autojump_clock):
    restart = Restart()
    most = restart.start_limit + DAY / SLOW
    if calls:
        most += math.log2(restart.cap / WAKE_INTERVAL) + 2 + DAY / restart.cap
    refused = []
    async with started(failures=failures * 1000) as (backend, connector, _heard):
        call = Client().call()
        with trio.move_on_after(DAY):
            while calls:
                with pytest.raises(BackendUnavailable) as caught:
                    await backend.call(call, "tools/call", call.members)
                refused.append(caught.value.reason)
                await trio.sleep(30)
            await trio.sleep_forever()
        assert 270 < len(connector.attempts) <= most
        assert len(refused) == (DAY / 30 if calls else 0)


async def test_a_busy_remote_is_left_alone_for_as_long_as_it_says_whoever_calls(autojump_clock):
    busy = BackendUnavailable("b", "HTTP 429", retry_after=3600.0)
    async with started(failures=[busy] * 100) as (backend, connector, _heard):
        call = Client().call()
        with trio.move_on_after(DAY):
            while True:
                with pytest.raises(BackendUnavailable, match="HTTP 429"):
                    await backend.call(call, "tools/call", call.members)
                await trio.sleep(30)
        assert len(connector.attempts) == 24


async def test_one_that_works_a_little_and_dies_is_slowed_down_and_shown(autojump_clock):
    async with started() as (backend, connector, _heard):
        with trio.move_on_after(DAY):
            while True:
                await connector.wait_attempts(len(connector.carriers) + 1 if backend.state is not State.READY else 1)
                await trio.sleep(12)
                connector.carriers[-1].link.fail(GONE)
                await wait_all_tasks_blocked()
        restart = Restart()
        assert 200 < len(connector.attempts) <= restart.start_limit + DAY / (SLOW + 12)
        assert backend.describe()["crash_looping"] is True


async def test_retry_after_is_honoured(autojump_clock):
    busy = BackendUnavailable("b", "HTTP 429", retry_after=120.0)
    async with started(failures=[busy]) as (backend, connector, heard):
        call = Client().call()
        with pytest.raises(BackendUnavailable, match="HTTP 429"):
            await backend.call(call, "tools/call", call.members)
        await heard.wait_until(lambda: backend.state is State.READY)
        assert 120 <= connector.attempts[1] - connector.attempts[0] < 121


@pytest.mark.parametrize(
    ("instances", "modern", "leases"),
    [("leased", False, 1), ("leased", True, 0), ("shared", False, 0), ("per-session", False, 0)],
)
async def test_when_ready_it_has_a_spare_link_where_the_first_call_needs_one(instances, modern, leases, autojump_clock):
    async with started(instances=instances, modern=modern) as (backend, connector, _heard):
        await wait_all_tasks_blocked()
        about = backend.describe()
        assert (about["leases"], len(connector.attempts)) == (leases, 1 + leases)
        assert about["calls_in_flight"] == 0, "it serves nobody"
        assert [carrier.sent for carrier in connector.carriers[1:]] == [[]] * leases
        connector.carriers[0].link.fail(GONE)
        await connector.wait_attempts(2 + leases)
        await wait_all_tasks_blocked()
        assert (backend.describe()["leases"], len(connector.attempts)) == (leases, 2 + leases), "it is there still"


async def test_a_bug_is_a_failure_like_any_other(autojump_clock):
    async with started(failures=[RuntimeError("oops"), ExceptionGroup("two", [ValueError("x")])]) as (
        backend,
        _,
        heard,
    ):
        assert backend.state is State.BACKING_OFF
        assert "internal error in mcpd" in str(backend.describe()["error"])
        await heard.wait_until(lambda: backend.state is State.READY)


async def test_a_bug_while_ready_fails_calls_in_flight(nursery, autojump_clock):
    def prepare(carrier):
        carrier.answers["tools/call"] = lambda message: None

    async with started(prepare=prepare) as (backend, connector, heard):
        call = Client().call()
        outcome = calling(nursery, backend.call, call, "tools/call", call.members)
        link = connector.carriers[0].link
        await connector.carriers[0].wait_sent("tools/call")
        link.nursery.start_soon(break_something)
        await outcome.done.wait()
        assert isinstance(outcome.error, BackendUnavailable)
        await heard.wait_until(lambda: len(connector.carriers) == 2 and backend.state is State.READY)


async def break_something():
    raise KeyError("a bug in a task of the link")


async def test_handshake_fine_but_no_list(autojump_clock):
    def prepare(carrier):
        carrier.answers["initialize"] = ONLY_TOOLS
        carrier.answers["tools/list"] = Failure(-32603, "no database")

    async with started(prepare=prepare) as (backend, _, _):
        assert backend.state is State.BACKING_OFF
        assert "no database" in str(backend.describe()["error"])


# ---- what was kept of it


def tools(*names):
    return {"tools": [{"name": name, "inputSchema": {}} for name in names]}


async def test_what_was_kept_holds_until_the_server_says_otherwise(tmp_path, autojump_clock):
    kept = KeptCatalogues(tmp_path, b"key")
    async with started(kept=kept) as (backend, _, _):
        assert backend.describe()["catalogue"] == "fetched"
        known = backend.catalogue
    write(kept)
    answers = []

    def prepare(carrier):
        carrier.answers["tools/list"] = lambda message: answers.append((carrier, message))

    kept = KeptCatalogues(tmp_path, b"key")
    async with started(kept=kept, prepare=prepare, wait=False) as (backend, connector, heard):
        assert (backend.catalogue, backend.hello.instructions) == (known, "")
        assert backend.describe()["catalogue"] == "kept"
        await connector.wait_attempts(1)
        await connector.carriers[0].wait_sent("tools/list")
        assert backend.describe()["catalogue"] == "kept"
        carrier, message = answers[0]
        carrier.answer_to(message, tools("t"))
        await backend.wait_verdict()
        assert heard.catalogues == [], "nothing differs, so nothing is said"
        assert backend.describe()["catalogue"] == "fetched"


async def test_what_differs_from_what_was_kept_is_told_and_kept(tmp_path, autojump_clock):
    kept = KeptCatalogues(tmp_path, b"key")
    async with started(kept=kept):
        pass
    write(kept)

    def prepare(carrier):
        carrier.answers["tools/list"] = tools("t", "u")

    kept = KeptCatalogues(tmp_path, b"key")
    async with started(kept=kept, prepare=prepare) as (backend, connector, heard):
        assert heard.catalogues == [("tools",)]
        connector.carriers[0].answers["tools/list"] = tools("v")
        connector.carriers[0].notify("notifications/tools/list_changed")
        await heard.wait_until(lambda: len(heard.catalogues) == 2)
        spec = backend.spec
    write(kept)
    assert [entry.key for entry in KeptCatalogues(tmp_path, b"key").load(spec).catalogue.tools] == ["v"]


async def test_what_was_kept_stays_when_the_server_does_not_come_up(tmp_path, autojump_clock):
    kept = KeptCatalogues(tmp_path, b"key")
    async with started(kept=kept):
        pass
    write(kept)
    kept = KeptCatalogues(tmp_path, b"key")
    async with started(kept=kept, failures=[BackendUnavailable("b", "away")]) as (backend, _, _):
        assert [entry.key for entry in backend.catalogue.tools] == ["t"]
        about = backend.describe()
        assert (about["state"], about["catalogue"], about["tools"]) == ("backing-off", "kept", 1)


async def test_a_start_that_waits_for_its_turn_is_waited_for(nursery, autojump_clock):
    async with started(wait=False) as (backend, connector, heard):
        connector.slots = StartSlots(1, hold=1000)
        turn = await connector.slots.acquire()
        before = []

        async def other():
            await connector.slots.acquire()
            before.append(len(connector.attempts))

        nursery.start_soon(other)
        await wait_all_tasks_blocked()
        call = Client().call()
        outcome = calling(nursery, backend.call, call, "tools/call", call.members)
        await trio.sleep(10 * WAIT_FOR_ATTEMPT)
        assert not outcome.done.is_set(), "the time of the line is nobody's"
        turn.release()
        await outcome.done.wait()
        assert outcome.error is None
        await wait_all_tasks_blocked()
        assert before == [1], "nobody waits for the other one"
        connector.slots = None
        connector.carriers[0].link.fail(GONE)
        await heard.wait_until(lambda: len(connector.carriers) == 2)
        assert connector.claims[0].urgency is Urgency.BACKGROUND, "nobody waits any more"


# ---- one link for each principal


async def test_what_a_principals_link_says_reaches_its_own_clients_only(autojump_clock):
    async with started(instances="per-principal") as (backend, connector, heard):
        ann, amy, bob = (Client(key, principal=key[0]) for key in ("ann", "amy", "bob"))
        uri = "file:///a"
        for client in (ann, amy, bob):
            call = client.call("resources/subscribe", uri=uri)
            await backend.subscribe(call, uri, call.members)
        _own, of_a, of_b = connector.carriers
        assert [len(each.named("resources/subscribe")) for each in connector.carriers] == [0, 1, 1]
        of_a.notify("notifications/resources/updated", {"uri": uri})
        of_b.notify("notifications/resources/updated", {"uri": uri})
        assert sorted(key for _, key in heard.updates) == ["amy", "ann", "bob"]
        of_b.notify("notifications/message", {"data": 1})
        of_a.notify("notifications/message", {"data": 2})
        assert heard.strays == [("notifications/message", {"data": 1}, "bob")], "it may be for either of the others"
        await backend.unsubscribe("ann", uri)
        assert of_a.named("resources/unsubscribe") == []
        backend.forget("amy")
        await of_a.wait_sent("resources/unsubscribe")
        assert of_b.named("resources/unsubscribe") == []
        of_a.notify("notifications/message", {"data": 3})
        assert heard.strays[1:] == [("notifications/message", {"data": 3}, "ann")], "only she is left"


async def test_a_question_on_a_principals_link_goes_to_the_only_client_that_calls(nursery, autojump_clock):
    def prepare(carrier):
        carrier.answers["tools/call"] = lambda message: None

    async with started(instances="per-principal", prepare=prepare) as (backend, connector, _):
        ann, amy, bob = (Client(key, principal=key[0]) for key in ("ann", "amy", "bob"))
        for client in (ann, bob):
            call = client.call()
            calling(nursery, backend.call, call, "tools/call", call.members)
        await connector.wait_attempts(3)
        of_a, of_b = sorted(connector.carriers[1:], key=lambda carrier: carrier.link.owner)
        for carrier in (of_a, of_b):
            await carrier.wait_sent("tools/call")
            carrier.say({"id": 1, "method": "roots/list"})
        await ann.wait_asked()
        await bob.wait_asked()
        call = amy.call()
        calling(nursery, backend.call, call, "tools/call", call.members)
        await of_a.wait_sent("tools/call", 2)
        of_a.say({"id": 2, "method": "roots/list"})
        answer = await of_a.wait_sent("answer", 2)
        assert "2 clients have a call in flight" in answer["error"]["message"]
        assert [len(each.asked) for each in (ann, amy, bob)] == [1, 0, 1]


async def test_a_client_that_leaves_while_it_subscribes_leaves_no_subscription(nursery, autojump_clock):
    answers = []

    def prepare(carrier):
        carrier.answers["resources/subscribe"] = lambda message: answers.append((carrier, message))

    async with started(instances="per-principal", prepare=prepare) as (backend, connector, _):
        client, uri = Client("ann", principal="a"), "file:///a"
        call = client.call("resources/subscribe", uri=uri)
        nursery.start_soon(backend.subscribe, call, uri, call.members)
        await connector.wait_attempts(2)
        carrier = connector.carriers[1]
        await carrier.wait_sent("resources/subscribe")
        backend.forget("ann")
        carrier.answer_to(answers[0][1], {})
        await carrier.wait_sent("resources/unsubscribe")
        assert carrier.link.subscriptions == {}


# ---- servers that sleep


def lasting(kept, **members):
    return started(kept=kept, start="lazy", wait=False, **{"idle_stop": 600.0, **members})


async def test_a_lazy_server_that_is_known_is_started_by_the_first_call(tmp_path, nursery, autojump_clock):
    kept = KeptCatalogues(tmp_path, b"key")
    async with lasting(kept) as (backend, connector, heard):
        await backend.wait_verdict()
        assert (len(connector.attempts), backend.asleep) == (1, False), "once, to learn what it lists"
    write(kept)
    async with lasting(KeptCatalogues(tmp_path, b"key")) as (backend, connector, heard):
        await backend.wait_verdict()
        await trio.sleep(10_000)
        assert (backend.state, backend.asleep, connector.attempts) == (State.STOPPED, True, [])
        about = backend.describe()
        assert (about["state"], about["asleep"], about["catalogue"], about["tools"]) == ("stopped", True, "kept", 1)
        calls = [Client(f"c{n}").call() for n in range(5)]
        outcomes = [calling(nursery, backend.call, call, "tools/call", call.members) for call in calls]
        for outcome in outcomes:
            await outcome.done.wait()
            assert outcome.result["echo"] == {"name": "t"}
        assert len(connector.attempts) == 1, "several at once are one start"
        assert (backend.asleep, "asleep" in backend.describe()) == (False, False)
        assert heard.catalogues == []


async def test_a_call_that_comes_before_it_runs_wakes_it_too(tmp_path, nursery, autojump_clock):
    kept = KeptCatalogues(tmp_path, b"key")
    async with lasting(kept) as (backend, _, _):
        await backend.wait_verdict()
    write(kept)
    connector = MemoryConnector(make_spec(start="lazy"), Deadlines())
    backend = ManagedBackend(connector.spec, connector, Heard(), KeptCatalogues(tmp_path, b"key"))
    call = Client().call()
    outcome = calling(nursery, backend.call, call, "tools/call", call.members)
    await wait_all_tasks_blocked()
    nursery.start_soon(backend.run)
    await outcome.done.wait()
    assert outcome.error is None


async def test_what_nobody_uses_is_stopped_and_started_by_the_next_call(autojump_clock):
    async with started(idle_stop=60.0, timeouts=Timeouts(init=30)) as (backend, connector, heard):
        call = Client().call()
        for _ in range(10):
            await trio.sleep(50)
            await backend.call(call, "tools/call", call.members)
        assert len(connector.attempts) == 1
        used = trio.current_time()
        await heard.wait_until(lambda: backend.asleep)
        assert 60 <= trio.current_time() - used <= 66
        about = backend.describe()
        assert (backend.state, about["restarts"], about.get("error")) == (State.STOPPED, 0, None)
        assert [entry.key for entry in backend.catalogue.tools] == ["t"], "it stays listed"
        await trio.sleep(10_000)
        assert len(connector.attempts) == 1
        assert result_of(await backend.call(call, "tools/call", call.members))["echo"] == {"name": "t"}
        assert (len(connector.attempts), backend.state) == (2, State.READY)
        assert heard.catalogues == [("tools",)]


@pytest.mark.parametrize("use", ["call", "subscription", "task", "session", "lease"])
async def test_what_is_in_use_is_not_stopped(use, nursery, autojump_clock):
    held = []

    def prepare(carrier):
        carrier.answers["tools/call"] = lambda message: held.append((carrier, message))

    instances = {"session": "per-session", "lease": "leased"}.get(use, "shared")
    modern = use == "task"
    async with started(
        idle_stop=60.0,
        timeouts=Timeouts(call_idle=1000),
        instances=instances,
        instance_idle=60.0,
        prepare=prepare,
        modern=modern,
    ) as (
        backend,
        connector,
        _,
    ):
        call = Client().call()
        outcome = None
        if use == "subscription":
            call = Client().call("resources/subscribe", uri="file:///a")
            await backend.subscribe(call, "file:///a", call.members)
        elif use == "task":
            await backend.watch_task("1")
        else:
            outcome = calling(nursery, backend.call, call, "tools/call", call.members)
        if use == "session":
            await wait_all_tasks_blocked()
            carrier, message = held[0]
            carrier.answer_to(message, {"content": []})
            await trio.sleep(50)
        else:
            await trio.sleep(6 * 60)
            assert not backend.asleep
        if use == "subscription":
            await backend.unsubscribe(call.caller.key, "file:///a")
        elif use == "task":
            backend.unwatch_task("1")
        elif use == "session":
            assert not backend.asleep, "its instance is not idle yet"
        else:
            carrier, message = held[0]
            carrier.answer_to(message, {"content": []})
        if outcome is not None:
            await outcome.done.wait()
        await trio.sleep(50)
        assert not backend.asleep, "as long as that after its end"
        await trio.sleep(100)
        assert (backend.state, backend.asleep) == (State.STOPPED, True)
        await wait_all_tasks_blocked()
        assert len(connector.ended) == len(connector.carriers), "nothing of it is left"


async def test_lists_that_are_fetched_again_are_no_use_of_it(autojump_clock):
    def prepare(carrier):
        carrier.answers["server/discover"] = {**DISCOVER, "capabilities": {"tools": {}}}

    async with started(idle_stop=600.0, prepare=prepare, modern=True) as (backend, connector, heard):
        await heard.wait_until(lambda: len(heard.verdicts) >= 1)
        with trio.fail_after(660):
            await heard.wait_until(lambda: backend.asleep)
        assert len(connector.carriers[0].named("tools/list")) > 10


async def test_a_call_while_it_is_being_stopped_waits_and_starts_it_again(nursery, autojump_clock):
    async with started(idle_stop=60.0) as (backend, connector, _heard):
        connector.farewell = 2 * WAIT_FOR_ATTEMPT  # its tree ends slowly
        with trio.fail_after(70):
            while backend.state is not State.STOPPING:  # noqa: ASYNC110 - nothing is told of that
                await trio.sleep(1)
        call = Client().call()
        outcome = calling(nursery, backend.call, call, "tools/call", call.members)
        await outcome.done.wait()
        assert outcome.error is None
        assert len(connector.attempts) == 2


async def test_who_wakes_a_server_waits_as_long_as_its_handshake_may_take(tmp_path, nursery, autojump_clock):
    waiting = []
    async with started(idle_stop=60.0, timeouts=Timeouts(init=45)) as (backend, connector, heard):
        await heard.wait_until(lambda: backend.asleep)
        connector.prepare = lambda carrier: carrier.answers.update(
            initialize=lambda message: waiting.append((carrier, message))
        )
        call = Client().call()
        first = calling(nursery, backend.call, call, "tools/call", call.members)
        await trio.sleep(20)
        second = calling(nursery, backend.call, call, "tools/call", call.members)
        await trio.sleep(20)
        carrier, message = waiting[0]
        carrier.answer_to(message, ONLY_TOOLS)
        for outcome in (first, second):
            await outcome.done.wait()
            assert outcome.error is None


async def test_a_subscription_wakes_it_and_keeps_it_awake(autojump_clock):
    async with started(idle_stop=60.0) as (backend, connector, heard):
        await heard.wait_until(lambda: backend.asleep)
        call = Client().call("resources/subscribe", uri="file:///a")
        await backend.subscribe(call, "file:///a", call.members)
        await trio.sleep(10_000)
        assert (backend.state, len(connector.attempts)) == (State.READY, 2)


async def test_a_subscription_of_an_earlier_run_wakes_it(tmp_path, nursery, autojump_clock):
    kept = KeptCatalogues(tmp_path, b"key")
    async with lasting(kept) as (backend, _, _):
        await backend.wait_verdict()
    write(kept)
    connector = MemoryConnector(make_spec(start="lazy"), Deadlines())
    backend = ManagedBackend(connector.spec, connector, Heard(), KeptCatalogues(tmp_path, b"key"))
    assert backend.asleep
    backend.resubscribe(Client().caller, "file:///a", {"uri": b'"file:///a"'})
    nursery.start_soon(backend.run)
    await connector.wait_attempts(1)
    await connector.carriers[0].wait_sent("resources/subscribe")


async def test_one_that_was_removed_is_not_woken_any_more(nursery, autojump_clock):
    async with started(idle_stop=60.0) as (backend, connector, heard):
        await heard.wait_until(lambda: backend.asleep)
        call = Client().call()
        outcome = calling(nursery, backend.call, call, "tools/call", call.members)
        backend.tenure.stop("it was removed from the configuration")
        await outcome.done.wait()
        assert "it was removed from the configuration" in str(outcome.error)
        with pytest.raises(BackendUnavailable, match="it was removed"):
            await backend.call(call, "tools/call", call.members)
        assert len(connector.attempts) == 1


async def test_a_server_that_does_not_wake_says_why_and_is_tried_again(autojump_clock):
    async with started(idle_stop=60.0) as (backend, connector, heard):
        await heard.wait_until(lambda: backend.asleep)
        connector.failures = [BackendUnavailable("b", "refused")]
        call = Client().call()
        with pytest.raises(BackendUnavailable, match="the last failure: refused"):
            await backend.call(call, "tools/call", call.members)
        assert len(connector.attempts) == 2
        await heard.wait_until(lambda: backend.state is State.READY)
        await heard.wait_until(lambda: backend.asleep)


def write(kept):
    """Have what is noted written; not in a thread, of which the virtual clock knows nothing."""
    kept._write_all(kept._due)


# ---- draining


async def test_draining_lets_calls_finish_and_takes_no_new_ones(nursery, autojump_clock):
    def prepare(carrier):
        carrier.answers["tools/call"] = lambda message: None

    async with started(prepare=prepare) as (backend, connector, _heard):
        carrier = connector.carriers[0]
        call = Client().call()
        slow = calling(nursery, backend.call, call, "tools/call", call.members)
        request = await carrier.wait_sent("tools/call")
        drained = []

        async def drain():
            drained.append(await backend.drain(60))

        nursery.start_soon(drain)
        await wait_all_tasks_blocked()
        assert backend.state is State.DRAINING
        assert backend.describe()["calls_in_flight"] == 1
        with pytest.raises(BackendUnavailable, match="it is draining"):
            await backend.call(call, "tools/call", call.members)
        await trio.sleep(30)
        assert not drained
        carrier.answer_to(request, {"content": []})
        await slow.done.wait()
        assert slow.error is None
        await trio.sleep(1)
        assert drained == [True]
        assert await backend.drain(60), "once more is nothing"


async def test_draining_is_over_when_its_time_is(nursery, autojump_clock):
    def prepare(carrier):
        carrier.answers["tools/call"] = lambda message: None

    async with started(prepare=prepare) as (backend, connector, _heard):
        call = Client().call()
        slow = calling(nursery, backend.call, call, "tools/call", call.members)
        await connector.carriers[0].wait_sent("tools/call")
        before = trio.current_time()
        assert not await backend.drain(5)
        assert trio.current_time() == before + 5
        connector.carriers[0].link.fail(GONE)
        await slow.done.wait()
        await trio.sleep(400)
        assert backend.state is State.STOPPED, "what is lost while it drains is not started again"
        assert len(connector.attempts) == 1


@pytest.mark.parametrize("instances", ["per-session", "leased"])
async def test_draining_waits_for_the_links_of_clients_too(instances, nursery, autojump_clock):
    def prepare(carrier):
        carrier.answers["tools/call"] = lambda message: None

    async with started(prepare=prepare, instances=instances) as (backend, connector, _heard):
        client = Client()
        call = client.call()
        slow = calling(nursery, backend.call, call, "tools/call", call.members)
        await trio.sleep(1)
        (carrier,) = [each for each in connector.carriers if each.named("tools/call")]
        assert not await backend.drain(5)
        with pytest.raises(BackendUnavailable, match="it is draining"):
            await backend.call(call, "tools/call", call.members)
        carrier.answer_to(carrier.named("tools/call")[0], {"content": []})
        await slow.done.wait()
        assert slow.error is None


async def test_what_is_not_usable_has_nothing_to_drain(autojump_clock):
    async with started(failures=[GONE] * 3) as (backend, _connector, heard):
        assert await backend.drain(60)
        await heard.wait_until(lambda: backend.state is State.READY)


# ---- calls while it is away


async def test_a_call_waits_for_the_attempt_under_way(nursery, autojump_clock):
    waiting = []

    def prepare(carrier):
        carrier.answers["initialize"] = lambda message: waiting.append((carrier, message))

    async with started(prepare=prepare, wait=False) as (backend, connector, _heard):
        await connector.wait_attempts(1)
        call = Client().call()
        outcome = calling(nursery, backend.call, call, "tools/call", call.members)
        await wait_all_tasks_blocked()
        assert backend.state is State.STARTING
        carrier, message = waiting[0]
        await trio.sleep(3)
        assert not outcome.done.is_set()
        carrier.answer_to(message, ONLY_TOOLS)
        await outcome.done.wait()
        assert outcome.error is None


async def test_a_call_does_not_wait_for_ever(autojump_clock):
    def prepare(carrier):
        carrier.answers["initialize"] = lambda message: None

    async with started(prepare=prepare, wait=False) as (backend, connector, _heard):
        await connector.wait_attempts(1)
        call = Client().call()
        before = trio.current_time()
        with pytest.raises(BackendUnavailable, match="it is starting"):
            await backend.call(call, "tools/call", call.members)
        assert trio.current_time() == before + WAIT_FOR_ATTEMPT


async def test_a_call_after_the_loss_waits_for_the_restart(autojump_clock):
    async with started() as (backend, connector, _heard):
        await trio.sleep(100)
        connector.farewell = 2.0  # the rest of the tree takes its time to end
        connector.carriers[0].link.fail(GONE)
        await wait_all_tasks_blocked()
        call = Client().call()
        assert result_of(await backend.call(call, "tools/call", call.members))["echo"] == {"name": "t"}
        assert len(connector.attempts) == 2


async def test_a_call_in_backoff_causes_an_attempt_but_a_loop_of_calls_does_not(autojump_clock):
    async with started(failures=[BackendUnavailable("b", "refused")] * 12) as (backend, connector, heard):
        await heard.wait_until(lambda: len(connector.attempts) == 12)
        call = Client().call()
        await trio.sleep(10)
        assert backend.state is State.BACKING_OFF
        connector.failures = [BackendUnavailable("b", "refused again")]
        with pytest.raises(BackendUnavailable, match="the last failure: refused again"):
            await backend.call(call, "tools/call", call.members)
        assert len(connector.attempts) == 13
        before = trio.current_time()
        for _ in range(50):
            with pytest.raises(BackendUnavailable, match="it is backing-off"):
                await backend.call(call, "tools/call", call.members)
        assert trio.current_time() == before, "they fail at once"
        await trio.sleep(6)
        answer = await backend.call(call, "tools/call", call.members)
        assert result_of(answer)["echo"] == {"name": "t"}


# ---- lists


async def test_news_about_lists_is_coalesced_and_compared(autojump_clock):
    async with started() as (backend, connector, heard):
        carrier = connector.carriers[0]
        await trio.sleep(1)
        asked = len(carrier.named("tools/list"))
        for _ in range(100):
            carrier.notify("notifications/tools/list_changed")
        await trio.sleep(1)
        assert len(carrier.named("tools/list")) == asked + 1
        assert heard.catalogues == [("tools",)]
        carrier.answers["tools/list"] = {"tools": [{"name": "u", "inputSchema": {}}]}
        carrier.answers["resources/templates/list"] = {"resourceTemplates": [{"uriTemplate": "x:/{y}", "name": "y"}]}
        carrier.notify("notifications/tools/list_changed")
        carrier.notify("notifications/resources/list_changed")
        await trio.sleep(2 * RELIST_DELAY)
        assert heard.catalogues[1:] == [("tools", "resourceTemplates")]
        assert [entry.key for entry in backend.catalogue.tools] == ["u"]


async def test_a_list_that_fails_degrades_and_is_asked_for_again(autojump_clock):
    def prepare(carrier):
        carrier.answers["prompts/list"] = Failure(-32603, "no database")

    async with started(prepare=prepare) as (backend, connector, heard):
        assert backend.state is State.DEGRADED
        assert backend.describe()["error"] == "could not be listed: prompts"
        call = Client().call()
        await backend.call(call, "tools/call", call.members)
        carrier = connector.carriers[0]
        await trio.sleep(3 * RELIST_FAILED + 1)
        assert len(carrier.named("prompts/list")) == 4
        assert len(carrier.named("tools/list")) == 1
        carrier.answers["prompts/list"] = {"prompts": [{"name": "p"}]}
        await trio.sleep(RELIST_FAILED + 1)
        assert backend.state is State.READY
        assert [entry.key for entry in backend.catalogue.prompts] == ["p"]
        carrier.answers["tools/list"] = Failure(-32603, "no database")
        carrier.notify("notifications/tools/list_changed")
        await trio.sleep(1)
        assert backend.state is State.DEGRADED
        assert [entry.key for entry in backend.catalogue.tools] == ["t"], "the last known list stays"
        carrier.link.fail(GONE)
        await heard.wait_until(lambda: len(connector.carriers) == 2)


async def test_a_new_session_after_a_loss_lists_again(autojump_clock):
    async with started() as (backend, connector, heard):
        carrier = connector.carriers[0]
        carrier.answers["tools/list"] = {"tools": [{"name": "newer", "inputSchema": {}}]}
        await carrier.link.legacy.renewed(0)
        await heard.wait_until(lambda: len(heard.catalogues) == 2)
        assert [entry.key for entry in backend.catalogue.tools] == ["newer"]


# ---- levels and subscriptions


async def test_levels_and_subscriptions_survive_a_restart(autojump_clock):
    async with started() as (backend, connector, heard):
        client = Client("1")
        await backend.set_level("warning", client.caller.key, "error")
        call = client.call("resources/subscribe", uri="x:/1")
        await backend.subscribe(call, "x:/1", call.members)
        connector.carriers[0].link.fail(GONE)
        await heard.wait_until(lambda: len(connector.carriers) == 2 and backend.state is State.READY)
        again = connector.carriers[1]
        assert again.named("logging/setLevel")[0]["params"] == {"level": "warning"}
        assert again.named("resources/subscribe")[0]["params"] == {"uri": "x:/1"}


async def test_a_subscription_given_up_while_it_is_away_is_not_replayed(autojump_clock):
    async with started() as (backend, connector, heard):
        client = Client("1")
        for uri in ("x:/1", "x:/2", "x:/3"):
            call = client.call("resources/subscribe", uri=uri)
            await backend.subscribe(call, uri, call.members)
        connector.failures = [BackendUnavailable("b", "away")]
        connector.carriers[0].link.fail(GONE)
        await heard.wait_until(lambda: backend.state is State.BACKING_OFF)
        await backend.unsubscribe(client.caller.key, "x:/1")
        backend.drop_subscription("x:/2")
        await heard.wait_until(lambda: backend.state is State.READY)
        assert [each["params"]["uri"] for each in connector.carriers[1].named("resources/subscribe")] == ["x:/3"]


async def test_unsubscribing_tells_the_backend_and_never_raises(autojump_clock):
    async with started() as (backend, connector, _heard):
        client = Client("1")
        carrier = connector.carriers[0]
        for uri in ("x:/1", "x:/2"):
            call = client.call("resources/subscribe", uri=uri)
            await backend.subscribe(call, uri, call.members)
        carrier.answers["resources/unsubscribe"] = Failure(-32602, "never heard of it")
        await backend.unsubscribe(client.caller.key, "x:/1")
        await backend.unsubscribe(client.caller.key, "x:/1")
        backend.drop_subscription("x:/2")
        backend.drop_subscription("x:/2")
        await wait_all_tasks_blocked()
        assert [each["params"]["uri"] for each in carrier.named("resources/unsubscribe")] == ["x:/1", "x:/2"]


async def test_roots_changed_is_passed_on(autojump_clock):
    async with started() as (backend, connector, _heard):
        backend.roots_changed(Client().caller.key)
        await connector.carriers[0].wait_sent("notifications/roots/list_changed")


# ---- instances of sessions


async def test_every_session_has_its_own_link(autojump_clock):
    async with started(instances="per-session") as (backend, connector, _heard):
        for key in "112":
            call = Client(key).call()
            await backend.call(call, "tools/call", call.members)
        assert [carrier.link.owner for carrier in connector.carriers] == [None, "1", "2"]
        assert "tools/call" not in connector.carriers[0].methods()
        assert backend.describe()["sessions"] == 2
        backend.roots_changed("1")
        await connector.carriers[1].wait_sent("notifications/roots/list_changed")
        await backend.set_level("debug", "2", "error")
        assert connector.carriers[2].named("logging/setLevel")[0]["params"] == {"level": "error"}
        backend.forget("1")
        await connector.wait_ended(1)
        assert connector.ended == ["1"]


async def test_a_sessions_own_link_needs_no_other(autojump_clock):
    async with started(instances="per-session") as (backend, connector, heard):
        call = Client("1").call()
        await backend.call(call, "tools/call", call.members)
        connector.failing = BackendUnavailable("b", "no more processes")
        connector.carriers[0].link.fail(GONE)
        await heard.wait_until(lambda: backend.state is State.BACKING_OFF)
        await backend.call(call, "tools/call", call.members)
        other = Client("2").call()
        with pytest.raises(BackendUnavailable):
            await backend.call(other, "tools/call", other.members)


async def test_a_stateless_remote_is_shared(autojump_clock):
    async with started(instances="per-session") as (backend, connector, _heard):
        connector.stateless = True
        for key in "12":
            call = Client(key).call()
            await backend.call(call, "tools/call", call.members)
        assert len(connector.carriers) == 1


async def test_a_failing_instance_makes_mcpd_look_at_the_shared_link(autojump_clock):
    async with started(instances="per-session") as (backend, connector, _heard):
        connector.failures = [BackendUnavailable("b", "connection refused")]
        call = Client("1").call()
        with pytest.raises(BackendUnavailable):
            await backend.call(call, "tools/call", call.members)
        await connector.carriers[0].wait_sent("ping")


async def test_subscribed_instances_come_back_with_the_backend(autojump_clock):
    async with started(instances="per-session") as (backend, connector, _heard):
        client = Client("1")
        call = client.call("resources/subscribe", uri="x:/1")
        await backend.subscribe(call, "x:/1", call.members)
        connector.carriers[1].link.fail(GONE)
        connector.carriers[0].link.fail(GONE)
        await connector.wait_attempts(4)
        await connector.carriers[3].wait_sent("resources/subscribe")
        await backend.unsubscribe(client.caller.key, "x:/1")
        assert connector.carriers[3].named("resources/unsubscribe")


async def test_a_client_without_a_session_uses_the_shared_link_unless_it_may_be_asked(autojump_clock):
    async with started(instances="per-session") as (backend, connector, _heard):
        for number in range(3):
            call = modern_client(f"m{number}", capabilities=NOTHING).call()
            await backend.call(call, "tools/call", call.members)
        assert len(connector.carriers) == 1
        call = modern_client("m9").call("completion/complete", ref={}, argument={})
        connector.carriers[0].answers["completion/complete"] = {}
        await backend.call(call, "completion/complete", call.members)
        assert len(connector.carriers) == 1, "nothing asks in the middle of that"
        call = modern_client("m9").call()
        await backend.call(call, "tools/call", call.members)
        leased = [carrier for carrier in connector.carriers[1:] if carrier.named("tools/call")]
        assert [carrier.link.owner for carrier in leased] == ["lease1"]
        assert backend.describe()["sessions"] == 0


@pytest.mark.parametrize(("capabilities", "leases"), [(NOTHING, 0), (EVERYTHING, 1)])
async def test_leased_is_for_who_may_be_asked(capabilities, leases, autojump_clock):
    async with started(instances="leased") as (backend, connector, _heard):
        for client in (Client("1", capabilities=capabilities), modern_client("2", capabilities=capabilities)):
            call = client.call()
            await backend.call(call, "tools/call", call.members)
        assert bool(connector.carriers[0].named("tools/call")) == (not leases)
        assert any(carrier.named("tools/call") for carrier in connector.carriers[1:]) == bool(leases)


# ---- modern backends


@pytest.mark.parametrize("instances", ["shared", "per-session", "leased"])
async def test_one_link_of_a_modern_backend_serves_everybody(instances, autojump_clock):
    async with started(modern=True, instances=instances) as (backend, connector, _heard):
        for client in (Client("1"), Client("2"), modern_client("3")):
            call = client.call()
            await backend.call(call, "tools/call", call.members)
        assert len(connector.carriers) == 1
        assert backend.describe()["protocol_version"] == "2026-07-28"
        assert backend.describe()["calls_in_flight"] == 0, "what listens is no call"
        assert (backend.describe()["sessions"], backend.describe()["leases"]) == (0, 0)


@pytest.mark.parametrize("instances", ["per-session", "leased"])
async def test_also_those_who_called_before_it_was_ready(instances, nursery, autojump_clock):
    waiting = []

    def prepare(carrier):
        carrier.answers["server/discover"] = lambda message: waiting.append((carrier, message))

    async with started(modern=True, instances=instances, prepare=prepare, wait=False) as (backend, connector, _heard):
        await connector.wait_attempts(1)
        outcomes = []
        for client in (Client("1"), modern_client("2")):
            call = client.call()
            outcomes.append(calling(nursery, backend.call, call, "tools/call", call.members))
        await wait_all_tasks_blocked()
        carrier, message = waiting[0]
        carrier.answer_to(message, DISCOVER)
        for outcome in outcomes:
            await outcome.done.wait()
            assert outcome.error is None
        assert len(connector.carriers) == 1


async def test_it_listens_before_its_lists_are_fetched(autojump_clock):
    """Or a change in between would never be heard of."""
    async with started(modern=True) as (_backend, connector, _heard):
        methods = connector.carriers[0].methods()
        assert methods[:2] == ["server/discover", "subscriptions/listen"]
        assert set(methods[2:]) == {"tools/list", "resources/list", "resources/templates/list", "prompts/list"}


async def test_a_change_while_the_lists_are_fetched_is_not_missed(autojump_clock):
    def prepare(carrier):
        asked = []

        def serve(message):
            if not asked:
                asked.append(message)
                carrier.notify("notifications/tools/list_changed")
                return {"tools": []}
            return {"tools": [{"name": "new", "inputSchema": {}}]}

        carrier.answers["tools/list"] = serve

    async with started(modern=True, prepare=prepare) as (backend, _connector, heard):
        await heard.wait_until(lambda: heard.catalogues == [("tools",)])
        assert [entry.key for entry in backend.catalogue.tools] == ["new"]


async def test_a_refusal_for_headers_lists_the_tools_of_the_backend(autojump_clock):
    def prepare(carrier):
        carrier.shared = False
        carrier.answers["tools/call"] = lambda message: (
            {"content": []} if len(carrier.named("tools/call")) == 2 else fail(-32020, "mismatch")
        )

    def fail(code, message):
        raise Failure(code, message)

    async with started(modern=True, prepare=prepare) as (backend, connector, _heard):
        call = modern_client().call()
        await backend.call(call, "tools/call", call.members)
        assert len(connector.carriers[0].named("tools/list")) == 2


async def test_a_backend_that_is_not_modern_any_more_is_opened_anew(autojump_clock):
    async with started(modern=True) as (backend, connector, heard):
        carrier = connector.carriers[0]
        carrier.answers["tools/call"] = Failure(-32022, "unsupported", data={"supported": ["2025-11-25"]})
        connector.era, connector.stateless = Era.LEGACY, False
        call = Client().call()
        with pytest.raises(BackendUnavailable, match="does not speak 2026-07-28 any more"):
            await backend.call(call, "tools/call", call.members)
        await heard.wait_until(lambda: len(connector.carriers) == 2 and backend.state is State.READY)
        call = Client().call()
        assert result_of(await backend.call(call, "tools/call", call.members))["echo"] == {"name": "t"}
        assert backend.describe()["protocol_version"] == "2025-11-25"


@pytest.mark.parametrize("instances", ["shared", "per-session", "leased"])
async def test_a_task_is_watched_until_nobody_watches_it_also_after_a_restart(instances, autojump_clock):
    def prepare(carrier):
        carrier.answers["tasks/get"] = lambda message: {"taskId": message["params"]["taskId"], "status": "completed"}

    async with started(modern=True, instances=instances, prepare=prepare) as (backend, connector, heard):
        for _ in range(2):
            await backend.watch_task("t1")
        first = connector.carriers[0]
        assert [each["params"]["notifications"].get("taskIds") for each in first.named(LISTEN)] == [None, ["t1"]]
        first.notify("notifications/tasks", {"taskId": "t1", "status": "working"})
        first.link.fail(GONE)
        backend.unwatch_task("t1")
        await heard.wait_until(lambda: len(heard.tasks) == 2)
        assert [each["status"] for each in heard.tasks] == ["working", "completed"]
        second = connector.carriers[1]
        assert [each["params"]["notifications"]["taskIds"] for each in second.named(LISTEN)] == [["t1"]]
        backend.unwatch_task("t1")
        await wait_all_tasks_blocked()
        assert "taskIds" not in second.named(LISTEN)[-1]["params"]["notifications"]
        assert len(first.named(LISTEN)) == 2


async def test_a_task_of_a_backend_that_is_away_is_watched_when_it_is_back(nursery, autojump_clock):
    async with started(modern=True) as (backend, connector, _heard):
        await trio.sleep(100)
        connector.farewell = 2.0
        connector.carriers[0].link.fail(GONE)
        await wait_all_tasks_blocked()
        await backend.watch_task("t1")
        assert connector.carriers[1].named(LISTEN)[-1]["params"]["notifications"]["taskIds"] == ["t1"]


async def test_a_backend_without_tasks_watches_none(autojump_clock):
    async with started() as (backend, connector, _heard):
        with pytest.raises(RpcError, match="has no tasks to be watched"):
            await backend.watch_task("t1")
        connector.failing = BackendUnavailable("b", "still away")
        connector.carriers[0].link.fail(GONE)
        await wait_all_tasks_blocked()
        with pytest.raises(BackendUnavailable, match="still away"):
            await backend.watch_task("t1")


@pytest.mark.parametrize("instances", ["shared", "per-session"])
async def test_subscriptions_at_a_modern_backend_survive_a_restart(instances, autojump_clock):
    async with started(modern=True, instances=instances) as (backend, connector, heard):
        client = Client("1")
        call = client.call("resources/subscribe", uri="x:/1")
        await backend.subscribe(call, "x:/1", call.members)
        connector.carriers[0].link.fail(GONE)
        await heard.wait_until(lambda: len(connector.carriers) == 2 and backend.state is State.READY)
        again = connector.carriers[1]
        assert again.named("subscriptions/listen")[0]["params"]["notifications"]["resourceSubscriptions"] == ["x:/1"]
        again.notify("notifications/resources/updated", {"uri": "x:/1"})
        assert heard.updates == [({"uri": "x:/1"}, None)]
        await backend.unsubscribe(client.caller.key, "x:/1")
        assert "resourceSubscriptions" not in again.named("subscriptions/listen")[-1]["params"]["notifications"]


async def test_sessions_that_share_a_link_after_all_share_its_subscriptions(autojump_clock):
    """The gateway subscribes each session of a per-session server; the backend is told of the first and the last."""
    async with started(modern=True, instances="per-session") as (backend, connector, _heard):
        carrier = connector.carriers[0]
        clients = [Client(key) for key in "123"]
        for client in clients:
            call = client.call("resources/subscribe", uri="x:/1")
            await backend.subscribe(call, "x:/1", call.members)
        assert len(carrier.named("subscriptions/listen")) == 2
        await backend.unsubscribe(clients[0].caller.key, "x:/1")
        await backend.unsubscribe(clients[0].caller.key, "x:/1")
        backend.forget(clients[1].caller.key)
        await wait_all_tasks_blocked()
        assert len(carrier.named("subscriptions/listen")) == 2, "one is left"
        backend.forget(clients[2].caller.key)
        await wait_all_tasks_blocked()
        assert len(carrier.named("subscriptions/listen")) == 3
        assert "resourceSubscriptions" not in carrier.named("subscriptions/listen")[-1]["params"]["notifications"]


async def test_so_do_clients_without_a_session_at_a_legacy_backend(autojump_clock):
    async with started(instances="per-session") as (backend, connector, _heard):
        carrier = connector.carriers[0]
        clients = [modern_client("m1"), modern_client("m2"), Client("s")]
        for client in clients:
            call = client.call("resources/subscribe", uri="x:/1")
            await backend.subscribe(call, "x:/1", call.members)
        assert [len(each.named("resources/subscribe")) for each in connector.carriers] == [1, 1]
        await backend.unsubscribe(clients[0].caller.key, "x:/1")
        assert carrier.named("resources/unsubscribe") == []
        await backend.unsubscribe(clients[2].caller.key, "x:/1")
        assert carrier.named("resources/unsubscribe") == []
        assert len(connector.carriers[1].named("resources/unsubscribe")) == 1
        await backend.unsubscribe(clients[1].caller.key, "x:/1")
        assert len(carrier.named("resources/unsubscribe")) == 1


async def test_a_subscription_that_is_refused_counts_for_nobody(autojump_clock):
    async with started(instances="per-session") as (backend, connector, _heard):
        carrier = connector.carriers[0]
        carrier.answers["resources/subscribe"] = Failure(-32602, "no such resource")
        for key in ("m1", "m1", "m2"):
            call = modern_client(key).call("resources/subscribe", uri="x:/1")
            with pytest.raises(RpcError, match="no such resource"):
                await backend.subscribe(call, "x:/1", call.members)
        assert len(carrier.named("resources/subscribe")) == 3
        carrier.answers["resources/subscribe"] = {}
        call = modern_client("m2").call("resources/subscribe", uri="x:/1")
        await backend.subscribe(call, "x:/1", call.members)
        await backend.unsubscribe(call.caller.key, "x:/1")
        assert len(carrier.named("resources/unsubscribe")) == 1, "it was the only one that had it"


# ---- the way of a call


def awaiting(task) -> list[str]:
    """The functions that a parked task is in, outermost first."""
    names, coroutine = [], task.coro
    while hasattr(coroutine, "cr_code"):
        names.append(coroutine.cr_code.co_name)
        coroutine = coroutine.cr_await
    return names


@pytest.mark.parametrize("instances", ["shared", "per-session"])
async def test_a_call_is_parked_as_few_frames_deep_as_can_be(instances, nursery, autojump_clock):
    """Each of them costs again whenever the task is parked and woken."""

    def prepare(carrier):
        carrier.answers["tools/call"] = lambda message: None

    async with started(instances=instances, prepare=prepare) as (backend, _connector, _heard):
        if instances == "per-session":
            with trio.move_on_after(1):  # opens its link
                call = Client("1").call()
                await backend.call(call, "tools/call", call.members)
        call = Client("1").call()
        calling(nursery, backend.call, call, "tools/call", call.members)
        await wait_all_tasks_blocked()
        (task,) = nursery.child_tasks
        # `carry` is of the carrier in these tests; a pipe's has no frame of its own.
        assert awaiting(task) == ["run", "_request", "once", "carry", "wait", "wait_task_rescheduled"]


# ---- the rest of the contract


async def test_completion_context_is_for_those_who_know_it(autojump_clock):
    def prepare(carrier):
        carrier.answers["initialize"] = {**ONLY_TOOLS, "protocolVersion": "2024-11-05"}
        carrier.answers["completion/complete"] = lambda message: {"got": sorted(message["params"])}

    async with started(prepare=prepare) as (backend, _connector, _heard):
        call = Client().call("completion/complete", ref={}, argument={}, context={})
        answer = await backend.call(call, "completion/complete", call.members)
        assert result_of(answer) == {"got": ["argument", "ref"]}


async def test_news_of_links_goes_up_with_the_backend(autojump_clock):
    async with started() as (_backend, connector, heard):
        carrier = connector.carriers[0]
        carrier.notify("notifications/resources/updated", {"uri": "x:/1"})
        carrier.notify("notifications/message", {"level": "info", "data": 1})
        carrier.say({"id": 1, "method": "roots/list"})
        await carrier.wait_sent("answer")
        assert heard.updates == [({"uri": "x:/1"}, None)]
        assert len(heard.strays) == 1
        assert heard.asked == [(None, "roots/list")]


async def test_a_slow_backend_is_bounded_by_its_timeouts(autojump_clock):
    def prepare(carrier):
        carrier.answers["initialize"] = lambda message: None

    async with started(prepare=prepare, timeouts=Timeouts(init=7)) as (backend, connector, _heard):
        assert math.isclose(trio.current_time() - connector.attempts[0], 7, abs_tol=0.5)
        assert backend.state is State.BACKING_OFF
        assert "timeouts.init" in str(backend.describe()["error"])


# ---- subscriptions of an earlier run


async def inheriting(*, uris=("x:/1",), clients=("1",), **members):
    """What a backend tells its server, and its clients, when these were subscribed before mcpd was started."""
    async with started(wait=False, **members) as (backend, connector, heard):
        for key in clients:
            for uri in uris:
                call = Client(key).call("resources/subscribe", uri=uri)
                backend.resubscribe(call.caller, uri, call.members)
        await backend.wait_verdict()
        await heard.wait_until(lambda: len(heard.updates) >= 1)
        await wait_all_tasks_blocked()
        return backend, connector, heard


async def test_a_shared_link_takes_over_the_subscriptions_of_an_earlier_run(autojump_clock):
    _backend, connector, heard = await inheriting(clients=("1", "2"))
    assert [each["params"]["uri"] for each in connector.carriers[0].named("resources/subscribe")] == ["x:/1"]
    assert heard.updates == [({"uri": "x:/1"}, None)]


async def test_so_does_each_sessions_own_link(autojump_clock):
    _backend, connector, heard = await inheriting(clients=("1", "2"), instances="per-session")
    assert connector.carriers[0].named("resources/subscribe") == []
    assert [len(each.named("resources/subscribe")) for each in connector.carriers[1:]] == [1, 1]
    assert sorted(heard.updates, key=str) == [({"uri": "x:/1"}, "1"), ({"uri": "x:/1"}, "2")]


async def test_a_server_without_sessions_is_subscribed_in_common(autojump_clock):
    _backend, connector, heard = await inheriting(clients=("1", "2"), instances="per-session", modern=True)
    assert len(connector.carriers) == 1
    [listen] = connector.carriers[0].named(LISTEN)
    assert listen["params"]["notifications"]["resourceSubscriptions"] == ["x:/1"]
    assert heard.updates == [({"uri": "x:/1"}, None)]


async def test_what_is_given_up_before_the_server_is_there_is_not_made_again(autojump_clock):
    async with started(failures=[GONE], wait=False) as (backend, connector, heard):
        call = Client("1").call("resources/subscribe", uri="x:/1")
        backend.resubscribe(call.caller, "x:/1", call.members)
        await backend.unsubscribe(call.caller.key, "x:/1")
        await heard.wait_until(lambda: backend.state is State.READY)
        assert connector.carriers[0].named("resources/subscribe") == []
        assert heard.updates == []
