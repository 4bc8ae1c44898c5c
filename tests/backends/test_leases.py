from __future__ import annotations

import itertools
import random
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.instances import SWEEP
from mcpd.backends.leases import LEASE_QUEUE_MAX, LEASE_WAIT, PARTING, SPARE_PAUSE, Leases
from mcpd.backends.shelf import may_be_asked
from mcpd.config.model import ServerSpec, Timeouts
from mcpd.errors import BackendCrashed, BackendTimedOut, BackendUnavailable, ProtocolError, RpcError
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import EVERYTHING, NOTHING, ClientCapability
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import HELLO, Client, Failure, Heard, MemoryConnector, calling, make_spec

FORM = ClientCapability.ELICITATION_FORM
SAMPLING = ClientCapability.SAMPLING
QUESTION = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}}


class Connector(MemoryConnector):
    """Notes what each link declares, and for whom."""

    def __init__(self, *args):
        super().__init__(*args)
        self.wishes = []
        self.owners = []

    def connect(self, nursery, listener, capabilities, owner, claim):
        self.wishes.append(capabilities)
        self.owners.append(owner)
        return super().connect(nursery, listener, capabilities, owner, claim)

    @property
    def declared(self):
        """None for one that is blank."""
        return [wish.capabilities for wish in self.wishes]


@asynccontextmanager
async def started(spec=None, **members):
    deadlines = Deadlines()
    connector = Connector(spec or make_spec(**{"instances": "leased", **members}), deadlines)
    failures = []
    heard = Heard()
    leases = Leases(connector, heard, at_failure=lambda: failures.append(trio.current_time()))
    leases.heard = heard
    async with trio.open_nursery() as nursery:
        await nursery.start(deadlines.run)
        await nursery.start(leases.run)
        yield leases, connector, failures
        nursery.cancel_scope.cancel()
    assert len(connector.ended) == len(connector.carriers), "every link was ended"
    assert doing(leases) == {}, "nothing is left"
    assert leases.statistics().waiting == 0
    assert (len(leases), len(leases._shelves), leases._blank) == (0, 0, None)


def doing(leases):
    """How many links do what."""
    about = leases.statistics()
    counts = {state: getattr(about, state) for state in ("blank", "opening", "idle", "busy", "ending")}
    return {state: count for state, count in counts.items() if count}


def hold(connector, *methods):
    """Have backends that answer these methods only when told to."""
    connector.prepare = lambda carrier: carrier.answers.update({method: lambda _message: None for method in methods})


def begin(nursery, leases, client, **params):
    call = client.call(**params)
    return calling(nursery, leases.call, call, "tools/call", call.members)


async def run(leases, client, **params):
    call = client.call(**params)
    return await leases.call(call, "tools/call", call.members)


def named(connector, name):
    """The carrier that a call of that tool went to last."""
    return next(
        carrier
        for carrier in reversed(connector.carriers)
        if any(message["params"]["name"] == name for message in carrier.named("tools/call"))
    )


def finish(connector, name):
    """Let the backend answer the call of that tool."""
    carrier = named(connector, name)
    (request,) = (message for message in carrier.named("tools/call") if message["params"]["name"] == name)
    carrier.answer_to(request, {"content": [], "name": name})


def served(connector):
    """The tools called on each link, in the order in which the links were begun."""
    return [[message["params"]["name"] for message in carrier.named("tools/call")] for carrier in connector.carriers]


def someone(key="client", *, principal="", **members):
    client = Client(key, **members)
    client.caller = msgspec.structs.replace(client.caller, principal=principal)
    return client


# ---- which calls, which links ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capabilities", "method", "expected"),
    [
        (EVERYTHING, "tools/call", True),
        (FORM, "prompts/get", True),
        (ClientCapability.ELICITATION_URL, "resources/read", True),
        (SAMPLING, "tools/call", True),
        (ClientCapability.ROOTS, "tools/call", True),
        (ClientCapability.ROOTS_LIST_CHANGED, "tools/call", False),
        (NOTHING, "tools/call", False),
        (EVERYTHING, "completion/complete", False),
        (EVERYTHING, "tools/list", False),
    ],
)
def test_who_may_be_asked(capabilities, method, expected):
    assert may_be_asked(someone(capabilities=capabilities).call(), method) is expected


async def test_a_link_is_used_again(autojump_clock):
    async with started() as (leases, connector, _):
        for name in "abc":
            await run(leases, someone(name), name=name)
            await wait_all_tasks_blocked()
        assert served(connector)[0] == ["a", "b", "c"]
        assert connector.declared == [EVERYTHING & ~ClientCapability.ROOTS_LIST_CHANGED, None]
        assert connector.owners == ["lease1", "lease2"]
        assert leases.in_flight == 0


async def test_calls_at_once_have_a_link_each(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        hold(connector, "tools/call")
        outcomes = [begin(nursery, leases, someone(name), name=name) for name in "abc"]
        await wait_all_tasks_blocked()
        assert sorted(served(connector)) == [[], ["a"], ["b"], ["c"]]
        assert leases.in_flight == 3
        for name in "abc":
            finish(connector, name)
        for outcome, name in zip(outcomes, "abc", strict=True):
            await outcome.done.wait()
            assert outcome.result["name"] == name
        assert doing(leases) == {"idle": 3, "blank": 1}


async def test_links_are_shared_neither_by_principals_nor_by_capabilities(autojump_clock):
    async with started() as (leases, connector, _):
        await run(leases, someone(capabilities=FORM), name="a")
        await wait_all_tasks_blocked()
        await run(leases, someone(capabilities=FORM, principal="p"), name="b")
        await wait_all_tasks_blocked()
        await run(leases, someone(capabilities=FORM | SAMPLING), name="c")
        await wait_all_tasks_blocked()
        assert served(connector) == [["a"], ["b"], ["c"], []]
        assert connector.declared == [FORM, FORM, FORM | SAMPLING, None]


async def test_a_question_goes_to_the_client_whose_call_it_is(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        hold(connector, "tools/call")
        clients = {name: someone(name) for name in "ab"}
        for name, client in clients.items():
            client.answer = b'{"action":"accept","content":{"by":"%b"}}' % name.encode()
            begin(nursery, leases, client, name=name)
        await wait_all_tasks_blocked()
        for name, client in clients.items():
            carrier = named(connector, name)
            carrier.say({"id": name, **QUESTION})
            answer = await carrier.wait_sent("answer")
            assert answer["result"]["content"] == {"by": name}
            assert len(client.asked) == 1


async def test_a_question_outside_any_call_reaches_nobody(autojump_clock):
    async with started() as (leases, connector, _):
        await run(leases, someone())
        connector.carriers[0].say({"id": 9, **QUESTION})
        answer = await connector.carriers[0].wait_sent("answer")
        assert "nobody can be asked" in answer["error"]["message"]
        assert leases.heard.asked == [("lease1", "elicitation/create")]


async def test_the_level_is_set_before_the_call_if_it_is_another(autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        for level in (None, 4, 4, None, 1):
            await run(leases, someone(log_level=level))
        (carrier,) = connector.carriers
        call = "tools/call"
        level = "logging/setLevel"
        assert carrier.methods()[2:] == [call, level, call, call, call, level, call]
        assert [message["params"]["level"] for message in carrier.named(level)] == [LOG_LEVELS[4], LOG_LEVELS[1]]


# ---- how a call ends, and what becomes of its link ---------------------------------------------------------


async def test_an_error_of_the_backend_is_an_answer(autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        connector.prepare = lambda carrier: carrier.answers.update({"tools/call": Failure(-32602, "not so")})
        for _ in range(2):
            with pytest.raises(RpcError, match="not so"):
                await run(leases, someone())
        assert len(connector.attempts) == 1
        assert leases.statistics().retired == 0


async def test_a_cancelled_call_takes_its_link_along(nursery, autojump_clock):
    async with started(max_instances=2) as (leases, connector, failures):
        hold(connector, "tools/call")
        outcome = begin(nursery, leases, someone(), name="a")
        await wait_all_tasks_blocked()
        outcome.scope.cancel()
        await outcome.done.wait()
        before = trio.current_time()
        other = begin(nursery, leases, someone(), name="b")
        await wait_all_tasks_blocked()
        assert served(connector) == [["a"], ["b"]]
        assert connector.carriers[0].methods()[-1] == "notifications/cancelled", "it hears why"
        await connector.wait_ended(1)
        assert trio.current_time() == before + PARTING
        assert connector.ended == ["lease1"]
        finish(connector, "b")
        await other.done.wait()
        assert leases.statistics().retired == 1
        assert failures == []


async def test_a_call_that_timed_out_takes_its_link_along(autojump_clock):
    async with started(timeouts=Timeouts(call_idle=5.0)) as (leases, connector, _):
        hold(connector, "tools/call")
        with pytest.raises(BackendTimedOut):
            await run(leases, someone())
        await connector.wait_ended(1)
        assert connector.ended == ["lease1"]


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (ProtocolError(-32600, "not MCP"), ["lease1"]),
        (BackendUnavailable("b", "503"), ["lease1"]),
        (RpcError(-32603, "its own"), []),
        (RuntimeError("a bug"), ["lease1"]),
    ],
)
async def test_only_an_answer_leaves_a_link_as_it_was(autojump_clock, error, ended):
    async with started() as (leases, connector, _):
        connector.prepare = lambda carrier: carrier.answers.update({"tools/call": error})
        with pytest.raises(type(error)):
            await run(leases, someone())
        await trio.sleep(2 * PARTING)
        assert connector.ended == ended


async def test_a_link_that_is_lost_fails_its_call_at_once(nursery, autojump_clock):
    async with started(max_instances=2) as (leases, connector, failures):
        hold(connector, "tools/call")
        connector.farewell = 5.0
        outcome = begin(nursery, leases, someone(), name="a")
        await wait_all_tasks_blocked()
        before = trio.current_time()
        connector.carriers[0].link.fail(BackendCrashed("b", "gone"))
        await outcome.done.wait()
        assert isinstance(outcome.error, BackendCrashed)
        assert (trio.current_time(), failures) == (before, [before])
        assert doing(leases) == {"ending": 1, "blank": 1}
        assert leases.statistics().retired == 0
        await connector.wait_ended(1)
        await wait_all_tasks_blocked()
        assert len(leases) == 1


async def test_a_link_that_is_lost_while_idle_is_not_handed_out(autojump_clock):
    async with started(max_instances=2) as (leases, connector, failures):
        connector.farewell = 5.0
        await run(leases, someone(), name="a")
        await wait_all_tasks_blocked()
        connector.carriers[0].link.fail(BackendCrashed("b", "gone"))
        await run(leases, someone(), name="b")
        assert served(connector) == [["a"], ["b"]]
        await wait_all_tasks_blocked()
        assert len(failures) == 1
        connector.carriers[1].link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        assert (len(failures), leases.statistics().idle) == (2, 0)
        assert leases.statistics().ending == 2, "they count until they are cleared away"


async def test_a_link_that_is_cleared_away_before_its_call_has_ended_is_so_once(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        outcome = begin(nursery, leases, someone(), name="a")

        def prepare(carrier):
            carry = carrier.carry

            async def dawdle(waiter, parts):
                try:
                    return await carry(waiter, parts)
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(1)

            carrier.carry = dawdle
            carrier.answers["tools/call"] = lambda _message: None

        connector.prepare = prepare
        await trio.sleep(5)
        connector.carriers[0].link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        assert (len(connector.ended), outcome.done.is_set()) == (1, False)
        await outcome.done.wait()
        assert doing(leases) == {"blank": 1}
        assert leases._ending == 0


async def test_a_link_with_an_open_question_ends_and_so_does_the_question(autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        client = someone()
        client.answer = None

        async def answer(carrier, message):
            await client.wait_asked()
            carrier.answer_to(message, {"content": []})

        async with trio.open_nursery() as nursery:
            connector.prepare = lambda carrier: carrier.answers.update(
                {"tools/call": lambda message: ask_and_hold(nursery, answer, carrier, message)}
            )
            await run(leases, client)
        before = trio.current_time()
        await connector.wait_ended(1)
        assert (trio.current_time(), client.withdrawn) == (before, 1), "nothing is left to tell the backend"
        assert leases.statistics().retired == 1


def ask_and_hold(nursery, answer, carrier, message):
    carrier.say({"id": 9, **QUESTION})
    nursery.start_soon(answer, carrier, message)


async def test_a_question_in_the_same_breath_as_the_answer_does_not_reach_the_next_call(nursery, autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        others = []

        def answer(message):
            if message["params"]["name"] != "asks":
                return None
            connector.carriers[-1].say({"id": 9, **QUESTION})
            client, name = someone("other"), f"quiet{len(others)}"
            others.append((client, name, begin(nursery, leases, client, name=name)))
            return {"content": []}

        connector.prepare = lambda carrier: carrier.answers.update({"tools/call": answer})
        # The scheduler runs what became ready together in any order, so once would be no proof.
        for _ in range(50):
            await run(leases, someone(), name="asks")
            await wait_all_tasks_blocked()
            client, name, outcome = others[-1]
            assert client.asked == []
            finish(connector, name)
            await outcome.done.wait()
            assert outcome.error is None


async def test_requests_that_outlive_the_call_end_its_link(autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        hold(connector, "ping")
        client = someone()
        call = client.call()
        connector.prepare = lambda carrier: carrier.answers.update(
            {
                "tools/call": lambda _message: carrier.link.request_quietly("ping", {}) or {},
                "ping": lambda _message: None,
            }
        )
        await leases.call(call, "tools/call", call.members)
        await connector.wait_ended(1)
        assert leases.statistics().retired == 1


# ---- waiting -----------------------------------------------------------------------------------------------


async def test_the_oldest_call_is_served_first(nursery, autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        hold(connector, "tools/call")
        for name in "abcd":
            begin(nursery, leases, someone(name), name=name)
            await wait_all_tasks_blocked()
        assert served(connector) == [["a"]]
        assert leases.statistics().waiting == 3
        for name in "abcd":
            finish(connector, name)
            await wait_all_tasks_blocked()
        assert served(connector) == [["a", "b", "c", "d"]]


async def test_who_needs_another_link_is_not_passed_by(nursery, autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        hold(connector, "tools/call")
        for name, capabilities in (("a", FORM), ("b", SAMPLING), ("c", FORM), ("d", SAMPLING)):
            begin(nursery, leases, someone(name, capabilities=capabilities), name=name)
            await wait_all_tasks_blocked()
        for name in "abcd":
            finish(connector, name)
            await wait_all_tasks_blocked()
        assert served(connector) == [["a"], ["b"], ["c"], ["d"]]
        assert connector.declared == [FORM, SAMPLING, FORM, SAMPLING]


async def test_the_longest_idle_link_of_others_makes_room(nursery, autojump_clock):
    async with started(max_instances=3) as (leases, connector, _):
        hold(connector, "tools/call")
        for name in "abc":
            begin(nursery, leases, someone(name, capabilities=FORM), name=name)
        await wait_all_tasks_blocked()
        for name in "ab":
            await trio.sleep(1)
            finish(connector, name)
            await wait_all_tasks_blocked()
        begin(nursery, leases, someone("d", capabilities=SAMPLING), name="d")
        await wait_all_tasks_blocked()
        assert connector.ended == [named(connector, "a").link.owner]
        assert doing(leases) == {"busy": 2, "idle": 1}
        assert named(connector, "d")


async def test_no_more_links_end_than_there_are_calls_for_their_room(nursery, autojump_clock):
    async with started(max_instances=3) as (leases, connector, _):
        connector.farewell = 5.0
        hold(connector, "tools/call")
        for name in "abc":
            begin(nursery, leases, someone(name, capabilities=FORM), name=name)
        await wait_all_tasks_blocked()
        for name in "abc":
            finish(connector, name)
        await wait_all_tasks_blocked()
        assert doing(leases) == {"idle": 3}
        begin(nursery, leases, someone("s", capabilities=SAMPLING), name="s")
        await wait_all_tasks_blocked()
        begin(nursery, leases, someone("d", capabilities=FORM), name="d")
        await wait_all_tasks_blocked()
        finish(connector, "d")
        await wait_all_tasks_blocked()
        about = leases.statistics()
        assert (about.ending, about.idle, about.waiting) == (1, 2, 1), "the room of one will do"
        begin(nursery, leases, someone("e", capabilities=SAMPLING), name="e")
        await wait_all_tasks_blocked()
        about = leases.statistics()
        assert (about.ending, about.idle, about.waiting) == (2, 1, 2), "one for each"
        await trio.sleep(6)
        assert leases.in_flight == 2


async def test_a_link_that_ends_slowly_still_counts(nursery, autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        connector.farewell = 5.0
        await run(leases, someone(capabilities=FORM), name="a")
        before = trio.current_time()
        begin(nursery, leases, someone(capabilities=SAMPLING), name="b")
        await wait_all_tasks_blocked()
        outcome = begin(nursery, leases, someone(capabilities=SAMPLING), name="c")
        await wait_all_tasks_blocked()
        assert (len(leases), leases.statistics().ending, len(connector.attempts)) == (1, 1, 1)
        await outcome.done.wait()
        assert connector.attempts == [before, before + 5]
        assert served(connector) == [["a"], ["b", "c"]]


async def test_a_call_waits_no_longer_than_others_may_take(nursery, autojump_clock):
    async with started(max_instances=2) as (leases, connector, _):
        hold(connector, "tools/call")
        for name in "ab":
            begin(nursery, leases, someone(name), name=name)
        await wait_all_tasks_blocked()
        before = trio.current_time()
        with pytest.raises(BackendUnavailable, match=r"2 instances are in use, and none was free for 20 s") as failure:
            await run(leases, someone())
        assert trio.current_time() == before + LEASE_WAIT
        assert "raise servers.b.max_instances" in failure.value.message
        assert leases.statistics().waiting == 0


async def test_a_call_waits_for_a_link_that_is_opened_slowly(nursery, autojump_clock):
    async with started(timeouts=Timeouts(init=3 * LEASE_WAIT)) as (leases, connector, _):
        hold(connector, "initialize")
        outcome = begin(nursery, leases, someone(), name="a")
        await trio.sleep(2.5 * LEASE_WAIT)
        assert not outcome.done.is_set()
        connector.prepare = lambda carrier: None
        (carrier,) = connector.carriers
        carrier.answer_to(carrier.named("initialize")[0], HELLO)
        await outcome.done.wait()
        assert outcome.error is None


async def test_so_many_calls_wait_and_no_more(nursery, autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        hold(connector, "tools/call")
        begin(nursery, leases, someone(), name="a")
        await wait_all_tasks_blocked()
        waiting = [begin(nursery, leases, someone()) for _ in range(LEASE_QUEUE_MAX)]
        await wait_all_tasks_blocked()
        before = trio.current_time()
        with pytest.raises(
            BackendUnavailable, match=f"1 instances are in use, and {LEASE_QUEUE_MAX} calls wait for one"
        ):
            await run(leases, someone(capabilities=FORM))
        assert trio.current_time() == before
        assert not any(outcome.done.is_set() for outcome in waiting)


async def test_a_call_that_is_cancelled_leaves_the_queue(nursery, autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        hold(connector, "tools/call")
        outcomes = {}
        for name in "abc":
            outcomes[name] = begin(nursery, leases, someone(name), name=name)
            await wait_all_tasks_blocked()
        outcomes["b"].scope.cancel()
        await outcomes["b"].done.wait()
        assert leases.statistics().waiting == 1
        finish(connector, "a")
        await wait_all_tasks_blocked()
        assert served(connector) == [["a", "c"]]


async def test_a_link_that_nobody_waits_for_any_more_is_for_the_next_call(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        hold(connector, "initialize")
        outcome = begin(nursery, leases, someone(), name="a")
        await connector.wait_attempts(1)
        outcome.scope.cancel()
        await outcome.done.wait()
        other = begin(nursery, leases, someone(), name="b")
        await wait_all_tasks_blocked()
        assert len(connector.attempts) == 1, "the one that is being opened will do"
        connector.prepare = lambda carrier: None
        (carrier,) = connector.carriers
        carrier.answer_to(carrier.named("initialize")[0], HELLO)
        await other.done.wait()
        assert served(connector)[0] == ["b"]


async def test_a_link_that_is_given_back_is_there_before_the_one_that_is_opened(nursery, autojump_clock):
    async with started(max_instances=2) as (leases, connector, _):
        hold(connector, "tools/call")
        begin(nursery, leases, someone(), name="a")
        await wait_all_tasks_blocked()
        await trio.sleep(1)
        connector.carriers[1].link.fail(BackendCrashed("b", "the spare"))
        await wait_all_tasks_blocked()
        hold(connector, "tools/call", "initialize")
        begin(nursery, leases, someone(), name="b")
        await wait_all_tasks_blocked()
        assert len(connector.attempts) == 3
        finish(connector, "a")
        await wait_all_tasks_blocked()
        assert served(connector) == [["a", "b"], [], []]
        carrier = connector.carriers[2]
        carrier.answer_to(carrier.named("initialize")[0], HELLO)
        await wait_all_tasks_blocked()
        assert leases.statistics().idle == 1


async def test_a_call_that_is_cancelled_as_it_gets_its_link_gives_it_back(nursery, autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        # The scheduler runs what became ready together in any order, so once would be no proof.
        for round in range(1, 31):
            hold(connector, "initialize")
            outcome = begin(nursery, leases, someone(), name="a")
            await connector.wait_attempts(round)
            await wait_all_tasks_blocked()
            carrier = connector.carriers[-1]
            carrier.answer_to(carrier.named("initialize")[0], HELLO)
            outcome.scope.cancel()
            await outcome.done.wait()
            await wait_all_tasks_blocked()
            about = leases.statistics()
            assert (about.busy, about.waiting) == (0, 0)
            if about.idle:
                await run(leases, someone(), name="b")
                assert served(connector)[-1][-1] == "b"
            carrier.link.fail(BackendCrashed("b", "gone"))
            await wait_all_tasks_blocked()


# ---- a spare -----------------------------------------------------------------------------------------------


async def test_a_spare_is_there_before_it_is_needed_and_suits_everybody(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        hold(connector, "tools/call")
        for number, capabilities in enumerate((FORM, SAMPLING, FORM | SAMPLING)):
            begin(nursery, leases, someone(capabilities=capabilities), name=f"t{number}")
            await wait_all_tasks_blocked()
            assert len(connector.carriers) == number + 2
            assert connector.carriers[-1].sent == [], "it was not spoken to"
        assert served(connector) == [["t0"], ["t1"], ["t2"], []]
        assert connector.declared == [FORM, SAMPLING, FORM | SAMPLING, None]
        declared = [carrier.named("initialize")[0]["params"]["capabilities"] for carrier in connector.carriers[:3]]
        assert [sorted(each) for each in declared] == [["elicitation"], ["sampling"], ["elicitation", "sampling"]]
        assert leases.in_flight == 3


async def test_only_the_first_link_of_all_is_begun_for_its_call(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        opened = []
        connector.prepare = lambda carrier: opened.append(trio.current_time())
        for principal in "abc":
            await run(leases, someone(principal=principal))
            await trio.sleep(1)
        first, *others = opened
        assert [at - first for at in others] == [0, 1, 2], "each by the call before"


async def test_a_server_that_is_ready_has_a_spare_before_its_first_call(autojump_clock):
    async with started() as (leases, connector, _):
        for _ in range(2):
            leases.warm()
            await wait_all_tasks_blocked()
        assert (len(leases), doing(leases), leases.in_flight) == (1, {"blank": 1}, 0)
        assert (connector.declared, connector.carriers[0].sent) == ([None], [])
        await run(leases, someone(), name="a")
        assert served(connector)[0] == ["a"]


@pytest.mark.parametrize(
    ("spec", "stateless"),
    [
        (make_spec(instances="leased"), True),
        (make_spec(instances="per-session"), False),
        (make_spec(instances="shared"), False),
        (ServerSpec(name="b", transport="streamable-http", url="http://[::1]/", instances="leased"), False),
    ],
)
async def test_where_calls_need_none_no_spare_waits_for_the_first(spec, stateless, autojump_clock):
    async with started(spec) as (leases, connector, _):
        connector.stateless = stateless
        leases.warm()
        await wait_all_tasks_blocked()
        assert connector.attempts == []


async def test_a_link_without_a_process_has_no_spare(autojump_clock):
    spec = ServerSpec(name="b", transport="streamable-http", url="http://[::1]/", instances="leased")
    async with started(spec) as (leases, connector, _):
        for _ in range(2):
            await run(leases, someone(), name="a")
            await wait_all_tasks_blocked()
        assert served(connector) == [["a", "a"]]


async def test_nobody_is_warmed_after_the_end(autojump_clock):
    async with started() as (leases, connector, _):
        pass
    leases.warm()
    await wait_all_tasks_blocked()
    assert connector.attempts == []


async def test_a_call_that_gives_up_in_a_cold_start_spares_the_next_one_its_own(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        hold(connector, "initialize")
        outcome = begin(nursery, leases, someone(capabilities=FORM), name="a")
        await connector.wait_attempts(1)
        outcome.scope.cancel()
        await outcome.done.wait()
        (carrier,) = connector.carriers
        carrier.answer_to(carrier.named("initialize")[0], HELLO)
        await wait_all_tasks_blocked()
        assert doing(leases) == {"idle": 1, "blank": 1}


async def test_many_calls_at_once_have_one_spare_together(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        hold(connector, "tools/call")
        for _ in range(10):
            begin(nursery, leases, someone())
        await wait_all_tasks_blocked()
        assert doing(leases) == {"busy": 10, "blank": 1}
        assert leases.statistics().opened == 10


async def test_a_spare_needs_room_and_gives_it(nursery, autojump_clock):
    async with started(max_instances=2) as (leases, connector, _):
        leases.warm()
        await wait_all_tasks_blocked()
        hold(connector, "tools/call")
        connector.carriers[0].answers["tools/call"] = lambda _message: None
        for name, capabilities, expected in (("a", FORM, {"busy": 1, "blank": 1}), ("b", SAMPLING, {"busy": 2})):
            begin(nursery, leases, someone(name, capabilities=capabilities), name=name)
            await wait_all_tasks_blocked()
            assert doing(leases) == expected
        for name in "ab":
            finish(connector, name)
        await wait_all_tasks_blocked()
        assert (doing(leases), connector.ended) == ({"idle": 2}, []), "there is no room for one"
        begin(nursery, leases, someone(capabilities=FORM | SAMPLING), name="c")
        await wait_all_tasks_blocked()
        assert len(connector.ended) == 1
        assert named(connector, "c")


async def test_no_link_ends_as_long_as_there_is_a_spare(nursery, autojump_clock):
    async with started(max_instances=2) as (leases, connector, _):
        await run(leases, someone(capabilities=FORM), name="a")
        await wait_all_tasks_blocked()
        assert doing(leases) == {"idle": 1, "blank": 1}
        await run(leases, someone(capabilities=SAMPLING), name="b")
        assert served(connector) == [["a"], ["b"]]
        assert connector.ended == []


async def test_a_spare_that_ended_as_it_was_taken_fails_no_call(autojump_clock):
    async with started() as (leases, connector, failures):
        leases.warm()
        await wait_all_tasks_blocked()
        connector.carriers[0].answers["initialize"] = BackendCrashed("b", "it waited too long")
        await run(leases, someone(), name="a")
        assert served(connector) == [[], ["a"]]
        assert (leases.statistics().failed, len(failures)) == (1, 1)
        await wait_all_tasks_blocked()
        assert doing(leases) == {"idle": 1}, "and none again for a while"


async def test_a_server_that_crashes_in_any_case_fails_the_call(autojump_clock):
    async with started() as (leases, connector, _):
        connector.prepare = lambda carrier: carrier.answers.update({"initialize": BackendCrashed("b", "no database")})
        leases.warm()
        await wait_all_tasks_blocked()
        with pytest.raises(BackendCrashed, match="no database"):
            await run(leases, someone())
        assert len(connector.attempts) == 2


async def test_a_spare_that_refuses_fails_its_call(autojump_clock):
    async with started() as (leases, connector, _):
        leases.warm()
        await wait_all_tasks_blocked()
        connector.carriers[0].answers["initialize"] = BackendUnavailable("b", "it does not like you")
        with pytest.raises(BackendUnavailable, match="it does not like you"):
            await run(leases, someone())
        assert len(connector.attempts) == 1


async def test_a_spare_that_ends_by_itself_is_missed_by_nobody(autojump_clock):
    async with started() as (leases, connector, failures):
        leases.warm()
        await wait_all_tasks_blocked()
        connector.carriers[0].link.fail(BackendCrashed("b", "nobody spoke to it"))
        await wait_all_tasks_blocked()
        assert (doing(leases), connector.ended, len(failures)) == ({}, ["lease1"], 1)
        await run(leases, someone(), name="a")
        await wait_all_tasks_blocked()
        assert (served(connector), doing(leases)) == ([[], ["a"]], {"idle": 1})
        await trio.sleep(SPARE_PAUSE)
        await run(leases, someone(), name="b")
        await wait_all_tasks_blocked()
        assert doing(leases) == {"idle": 1, "blank": 1}


async def test_a_bug_in_a_spare_fails_nobody(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        hold(connector, "tools/call")
        connector.failures = [RuntimeError("a bug")]
        leases.warm()
        await wait_all_tasks_blocked()
        assert doing(leases) == {}
        outcome = begin(nursery, leases, someone(), name="a")
        await wait_all_tasks_blocked()
        finish(connector, "a")
        await outcome.done.wait()
        assert outcome.error is None


async def test_a_spare_stays_while_calls_come_and_ends_after(autojump_clock):
    async with started(instance_idle=60.0) as (leases, connector, _):
        leases.warm()
        for _ in range(5):
            await run(leases, someone())
            await trio.sleep(40)
        assert (doing(leases), connector.ended) == ({"idle": 1, "blank": 1}, [])
        await trio.sleep(20 + 2 * SWEEP)
        assert doing(leases) == {}
        assert sorted(connector.ended) == ["lease1", "lease2"]


async def test_a_spare_that_ends_slowly_still_counts(nursery, autojump_clock):
    async with started(max_instances=1, instance_idle=60.0) as (leases, connector, failures):
        connector.farewell = 10.0
        leases.warm()
        await trio.sleep(60 + SWEEP + 1)
        assert doing(leases) == {"ending": 1}
        outcome = begin(nursery, leases, someone(), name="a")
        await wait_all_tasks_blocked()
        assert (len(connector.attempts), len(leases)) == (1, 1)
        await outcome.done.wait()
        assert outcome.error is None
        assert failures == [], "to end it was no failure"


async def test_a_spare_that_cannot_be_opened_fails_nobody_and_is_not_tried_all_the_time(nursery, autojump_clock):
    async with started() as (leases, connector, failures):

        def prepare(carrier):
            carrier.answers["tools/call"] = lambda _message: None
            connector.failing = BackendUnavailable("b", "one is enough")

        connector.prepare = prepare
        begin(nursery, leases, someone(), name="a")
        await wait_all_tasks_blocked()
        assert (len(connector.attempts), len(failures), leases.in_flight) == (2, 1, 1)
        for name in "abc":
            finish(connector, name)
            await wait_all_tasks_blocked()
            begin(nursery, leases, someone(), name=chr(ord(name) + 1))
            await wait_all_tasks_blocked()
        assert (len(connector.attempts), leases.in_flight) == (2, 1)


async def test_after_a_pause_there_is_a_spare_again(autojump_clock):
    async with started() as (leases, connector, _):
        connector.failures = [BackendUnavailable("b", "not now")]
        with pytest.raises(BackendUnavailable, match="not now"):
            await run(leases, someone())
        await run(leases, someone())
        await wait_all_tasks_blocked()
        assert len(connector.attempts) == 2
        await trio.sleep(SPARE_PAUSE)
        await run(leases, someone())
        await wait_all_tasks_blocked()
        assert len(connector.attempts) == 3


async def test_idle_links_end_the_last_one_too(nursery, autojump_clock):
    async with started(instance_idle=60.0) as (leases, connector, _):
        hold(connector, "tools/call")
        for name, capabilities in (("a", FORM), ("b", SAMPLING)):
            begin(nursery, leases, someone(name, capabilities=capabilities), name=name)
            await wait_all_tasks_blocked()
        finish(connector, "a")
        await trio.sleep(50)
        finish(connector, "b")
        await trio.sleep(50)
        assert doing(leases) == {"idle": 1}, "what was used lately stays"
        assert sorted(connector.ended) == ["lease1", "lease3"]
        await trio.sleep(60 + SWEEP)
        assert (len(leases), len(connector.ended)) == (0, 3)
        assert len(leases._shelves) == 0


# ---- failures ----------------------------------------------------------------------------------------------


async def test_a_failure_is_told_to_who_waits_for_that_link(nursery, autojump_clock):
    async with started(max_instances=2) as (leases, connector, failures):
        connector.failures = [BackendUnavailable("b", "not today")]
        outcomes = [begin(nursery, leases, someone(), name=name) for name in "abc"]
        for outcome in outcomes:
            await outcome.done.wait()
        assert [str(outcome.error or "") for outcome in outcomes].count("") == 2
        failed = next(outcome.error for outcome in outcomes if outcome.error)
        assert "not today" in str(failed)
        assert len(failures) == 1
        assert leases.statistics().failed == 1


async def test_a_failure_does_not_reach_calls_of_other_capabilities(nursery, autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        connector.failures = [BackendUnavailable("b", "not today")]
        one = begin(nursery, leases, someone(capabilities=FORM), name="a")
        await connector.wait_attempts(1)
        two = begin(nursery, leases, someone(capabilities=SAMPLING), name="b")
        await one.done.wait()
        await two.done.wait()
        assert "not today" in str(one.error)
        assert two.error is None


async def test_a_server_that_is_down_fails_each_call_with_its_reason(nursery, autojump_clock):
    async with started(max_instances=2) as (leases, connector, failures):
        connector.failing = BackendUnavailable("b", "down")
        outcomes = [begin(nursery, leases, someone()) for _ in range(6)]
        for outcome in outcomes:
            await outcome.done.wait()
            assert "down" in str(outcome.error)
        await wait_all_tasks_blocked()
        assert len(failures) == len(connector.attempts) == 6
        assert len(leases._shelves) == 0


async def test_one_that_is_still_being_opened_makes_up_for_one_that_failed(nursery, autojump_clock):
    async with started(max_instances=2) as (leases, connector, _):
        hold(connector, "initialize")
        outcomes = [begin(nursery, leases, someone(name), name=name) for name in "ab"]
        await wait_all_tasks_blocked()
        outcomes[0].scope.cancel()
        await wait_all_tasks_blocked()
        one, two = connector.carriers
        one.link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        assert not outcomes[1].done.is_set()
        two.answer_to(two.named("initialize")[0], HELLO)
        await outcomes[1].done.wait()
        assert outcomes[1].error is None


async def test_a_bug_ends_one_link_only(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        hold(connector, "tools/call")
        other = begin(nursery, leases, someone(capabilities=FORM), name="a")
        await wait_all_tasks_blocked()
        connector.carriers[1].link.fail(BackendCrashed("b", "the spare"))
        await wait_all_tasks_blocked()
        connector.failures = [RuntimeError("a bug")]
        with pytest.raises(BackendUnavailable, match="internal error in mcpd"):
            await run(leases, someone(capabilities=SAMPLING))
        finish(connector, "a")
        await other.done.wait()
        assert other.error is None


async def test_when_it_is_over_nobody_waits(nursery, autojump_clock):
    async with started(max_instances=1) as (leases, connector, _):
        connector.farewell = 5.0
        hold(connector, "tools/call")
        outcomes = []
        for name in "abc":
            outcomes.append(begin(nursery, leases, someone(name), name=name))
            await wait_all_tasks_blocked()
        before = trio.current_time()
    assert trio.current_time() == before + 5
    assert "its connection was ended" in str(outcomes[0].error)
    assert ["mcpd is stopping" in str(outcome.error) for outcome in outcomes] == [False, True, True]
    with pytest.raises(BackendUnavailable, match="mcpd is stopping"):
        await run(leases, someone())


async def test_when_it_is_over_while_a_link_is_opened(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        hold(connector, "initialize")
        outcome = begin(nursery, leases, someone())
        await wait_all_tasks_blocked()
    await outcome.done.wait()
    assert "mcpd is stopping" in str(outcome.error)


# ---- everything at once ------------------------------------------------------------------------------------


class Chaos:
    """Backends that do all that backends do, and a watch over which call is on which link. What happens to a call is
    drawn for that call alone: the order in which the scheduler runs tasks does not change it.
    """

    def __init__(self, seed, leases, connector, nursery):
        self.seed = seed
        self.leases = leases
        self.connector = connector
        self.nursery = nursery
        self.wrong = []
        self.asked = 0
        self.ends = []
        connector.prepare = self.prepare

    def dice(self, *about):
        return random.Random(f"{self.seed} {about}")

    def prepare(self, carrier):
        if len(self.leases) > self.connector.spec.max_instances:
            self.wrong.append(f"{len(self.leases)} links")
        on_link = []

        def take(message):
            name = message["params"]["name"]
            if on_link:
                self.wrong.append(f"{name} shares a link with {on_link}")
            on_link.append(name)
            self.nursery.start_soon(self.answer, carrier, message, on_link)

        carrier.answers["tools/call"] = take
        dice = self.dice(carrier.link.owner)
        if dice.random() < 0.15:
            self.nursery.start_soon(self.die, carrier, dice.choice([0, 0.5, 10]))
        if dice.random() < 0.3:
            carrier.answers["initialize"] = lambda message: self.nursery.start_soon(
                self.greet, carrier, message, dice.choice([0.1, 3, 15])
            )

    async def die(self, carrier, after):
        await trio.sleep(after)
        carrier.link.fail(BackendCrashed("b", "it ended by itself"))

    async def greet(self, carrier, message, after):
        await trio.sleep(after)
        carrier.answer_to(message, HELLO)

    async def answer(self, carrier, message, on_link):
        name = message["params"]["name"]
        dice = self.dice(name, "answer")
        fate = dice.choice(["ask", "ask", "ask and go", "error", "crash", "answer", "answer", "answer", "answer"])
        if fate == "ask":
            carrier.say({"id": f"q-{name}", "method": "elicitation/create", "params": {"message": name}})
        await trio.sleep(dice.choice([0, 0, 0.5, 2]))
        if carrier.link.lost.is_set():
            return
        if fate == "crash":
            carrier.link.fail(BackendCrashed("b", "gone"))
            return
        if fate == "ask and go":
            carrier.say({"id": f"q-{name}", "method": "elicitation/create", "params": {"message": name}})
        # Cleared before the answer: the next call may come in the same breath, but not before it.
        on_link.clear()
        if fate == "error":
            carrier.say({"id": message["id"], "error": {"code": -32000, "message": "no"}})
        else:
            carrier.answer_to(message, {"content": [], "name": name})

    async def client(self, name):
        dice = self.dice(name, "client")
        capabilities = dice.choice([FORM, FORM | SAMPLING, EVERYTHING])
        client = someone(name, principal=dice.choice("pq"), capabilities=capabilities, log_level=dice.choice([None, 3]))
        client.answer = dice.choice([None, b'{"action":"decline"}'])
        await trio.sleep(dice.random() * 90)
        with trio.move_on_after(dice.choice([0.1, 1, 100, 100, 100])) as scope:
            try:
                answer = await run(self.leases, client, name=name)
                self.ends.append("answered")
                if msgspec.json.decode(answer.members["result"])["name"] != name:
                    self.wrong.append(f"{name} has the answer of another call")
            except RpcError as error:
                self.ends.append(type(error).__name__)
        if scope.cancelled_caught:
            self.ends.append("cancelled")
        self.asked += len(client.asked)
        self.wrong += [f"{name} was asked for {params}" for _, params in client.asked if params["message"] != name]


@pytest.mark.parametrize("seed", range(12))
async def test_no_two_calls_share_a_link_whatever_happens(autojump_clock, seed):
    async with started(max_instances=5, instance_idle=20.0) as (leases, connector, _):
        connector.farewell = 0.5
        async with trio.open_nursery() as nursery:
            chaos = Chaos(seed, leases, connector, nursery)
            connector.failures = [BackendUnavailable("b", "not now")] * 3
            leases.warm()
            for number in range(150):
                nursery.start_soon(chaos.client, f"call{number}")
        assert chaos.wrong == []
        assert len(chaos.ends) == 150
        assert chaos.asked > 5
        assert {"answered", "cancelled", "RpcError", "BackendCrashed", "BackendUnavailable"} <= set(chaos.ends)
        await trio.sleep(20 + 2 * SWEEP)
        assert (len(leases), leases.in_flight, len(leases._shelves)) == (0, 0, 0), "all were given back, and ended idle"


# ---- servers that fail -------------------------------------------------------------------------------------


async def test_a_server_whose_links_cannot_be_opened_is_not_hammered_by_calls(autojump_clock):
    async with started() as (leases, connector, _):
        connector.failing = BackendUnavailable("b", "exits at once")
        with trio.move_on_after(3600):
            while True:
                with pytest.raises(BackendUnavailable, match="exits at once"):
                    await run(leases, someone())
                await trio.sleep(2)
        assert len(connector.attempts) < 20 + 3600 / (300 * 0.8) + 6 + 2 + 3600 / 300
        connector.failing = None
        await trio.sleep(300)
        await run(leases, someone())


async def test_a_server_that_every_call_kills_is_not_started_by_every_call(autojump_clock):
    died = BackendCrashed("b", "was killed by SIGSEGV")
    spec = ServerSpec(name="b", transport="streamable-http", url="http://x/", instances="leased")
    async with started(spec) as (leases, connector, _):

        def die(carrier):
            carrier.answers["tools/call"] = lambda _message: carrier.link.fail(died)

        connector.prepare = die
        with trio.move_on_after(3600):
            while True:
                with pytest.raises((BackendCrashed, BackendUnavailable), match="killed by SIGSEGV"):
                    await run(leases, someone())
                await trio.sleep(2)
        assert len(connector.attempts) < 20 + 3600 / (300 * 0.8) + 6 + 2 + 3600 / 300
        connector.prepare = lambda _carrier: None
        await trio.sleep(300)
        for _ in range(5):
            await run(leases, someone())


async def test_calls_that_meet_a_failing_server_wait_for_one_attempt_and_are_all_told(nursery, autojump_clock):
    async with started() as (leases, connector, _):
        connector.failing = BackendUnavailable("b", "exits at once")
        with pytest.raises(BackendUnavailable):
            await run(leases, someone())
        outcomes = [begin(nursery, leases, someone(str(number), principal=str(number))) for number in range(10)]
        for outcome in outcomes:
            await outcome.done.wait()
        assert all("exits at once" in str(outcome.error) for outcome in outcomes)
        pauses = [after - before for before, after in itertools.pairwise(connector.attempts)]
        assert len(pauses) == 5, "four are waited for, and one is made to happen"
        assert all(before < after for before, after in itertools.pairwise([0, *pauses[:4]])), pauses
