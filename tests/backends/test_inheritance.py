"""A server and its links as the next program in the process finds them; that they are real pipes is shown elsewhere
(`tests/e2e/test_upgrade.py`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.backend import ManagedBackend
from mcpd.backends.base import Catalogue, Entry
from mcpd.backends.carried import BackendState, LeaseState, LinkState, Owner, capture_link, identity
from mcpd.backends.opening import LEGACY_FOR, Era
from mcpd.errors import BackendUnavailable
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import ClientCapability, ServerCapabilities
from mcpd.protocol.handshake import ServerHello
from mcpd.protocol.versions import MODERN, Version
from mcpd.supervisor.states import State
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import HELLO as MEMORY
from tests.backends.parts import Client, Heard, MemoryConnector, calling, make_spec, modern_client, result_of

HELLO = ServerHello(Version.V2025_11_25, ServerCapabilities(tools=True, resources=True, logging=True), b"{}", "")
TOOLS = Catalogue(tools=(Entry("t", b'{"name":"t"}'),))
URI = "note://a"


def link_state(**members) -> LinkState:
    members = {"pid": 7, "modern": False, "hello": HELLO, "last_id": 41, **members}
    return LinkState(**members)


def left(*links: LinkState, **members) -> BackendState:
    members = {"name": "b", "identity": identity(make_spec()), "hello": HELLO, "catalogue": TOOLS, **members}
    return BackendState(links=links, **members)


@asynccontextmanager
async def inheriting(state: BackendState, *, modern: bool = False, **members):
    """A backend that another program left, running."""
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=BackendState)
    deadlines = Deadlines()
    connector = MemoryConnector(make_spec(**members), deadlines)
    connector.era = Era.MODERN if modern else Era.LEGACY
    heard = Heard()
    backend = ManagedBackend(connector.spec, connector, heard)
    pids = backend.inherit(state)
    async with trio.open_nursery() as nursery:
        await nursery.start(deadlines.run)
        nursery.start_soon(backend.run)
        await backend.wait_verdict()
        await wait_all_tasks_blocked()
        yield backend, connector, heard, pids
        nursery.cancel_scope.cancel()


async def test_an_open_link_goes_on_without_a_word(autojump_clock):
    state = left(link_state(), restarts=3, ready_for=60.0, unlisted=("resources",))
    async with inheriting(state) as (backend, connector, heard, pids):
        [carrier] = connector.carriers
        assert pids == (7,)
        assert carrier.methods() == []
        assert backend.state is State.DEGRADED
        assert backend.hello == HELLO
        assert backend.catalogue == TOOLS
        assert backend.describe()["restarts"] == 3
        assert heard.catalogues == []
        client = Client()
        call = client.call(name="t")
        assert result_of(await backend.call(call, "tools/call", call.members))["echo"] == {"name": "t"}
        assert carrier.named("tools/call")[0]["id"] == 42, "no id is used twice on a connection"


async def test_what_was_in_flight_is_asked_again(autojump_clock):
    state = left(link_state(settled=False, level="debug"))
    async with inheriting(state) as (backend, connector, _heard, _pids):
        await trio.sleep(1)
        [carrier] = connector.carriers
        assert "initialize" not in carrier.methods()
        assert [each["params"]["level"] for each in carrier.named("logging/setLevel")] == ["debug"]
        assert carrier.named("tools/list")
        assert backend.state is State.READY


async def test_a_subscription_that_nobody_has_any_more_is_ended(autojump_clock):
    async with inheriting(left(link_state(subscriptions={URI: b'{"uri":"note://a"}'}))) as (
        _,
        connector,
        _heard,
        _pids,
    ):
        [carrier] = connector.carriers
        assert [each["params"] for each in carrier.named("resources/unsubscribe")] == [{"uri": URI}]


async def test_a_subscription_that_somebody_has_goes_on_silently(autojump_clock):
    state = left(link_state(subscriptions={URI: b'{"uri":"note://a"}'}))
    deadlines = Deadlines()
    connector = MemoryConnector(make_spec(), deadlines)
    heard = Heard()
    backend = ManagedBackend(connector.spec, connector, heard)
    backend.inherit(state)
    backend.resubscribe(Client("a").caller, URI, jsonrpc.members_of(b'{"uri":"note://a"}'))
    async with trio.open_nursery() as nursery:
        await nursery.start(deadlines.run)
        nursery.start_soon(backend.run)
        await backend.wait_verdict()
        await wait_all_tasks_blocked()
        assert connector.carriers[0].methods() == []
        assert heard.updates == [], "nothing was missed"
        nursery.cancel_scope.cancel()


async def test_a_modern_link_listens_anew_before_the_old_stream_ends(autojump_clock):
    hello = ServerHello(MODERN, ServerCapabilities(tools=True, tools_list_changed=True), b"{}", "")
    state = left(link_state(modern=True, hello=hello, standing=(12,)), hello=hello)
    async with inheriting(state, modern=True) as (backend, connector, _heard, _pids):
        [carrier] = connector.carriers
        assert carrier.methods() == ["subscriptions/listen", "notifications/cancelled"]
        assert carrier.named("notifications/cancelled")[0]["params"] == {"requestId": 12}
        call = modern_client().call(name="t")
        await backend.call(call, "tools/call", call.members)
        assert "server/discover" not in carrier.methods()


async def test_the_link_of_a_session_goes_on_and_is_that_sessions(autojump_clock):
    owner = Owner.of(Client("a").caller)
    state = left(
        link_state(), link_state(pid=8, last_id=5, owner=owner), identity=identity(make_spec(instances="per-session"))
    )
    async with inheriting(state, instances="per-session") as (backend, connector, _heard, pids):
        assert sorted(pids) == [7, 8]
        assert [carrier.methods() for carrier in connector.carriers] == [[], []]
        mine = next(carrier for carrier in connector.carriers if carrier.link.owner == "a")
        call = Client("a").call(name="t")
        await backend.call(call, "tools/call", call.members)
        assert [each["id"] for each in mine.named("tools/call")] == [6]


async def test_the_link_of_a_principal_goes_on_and_is_for_its_clients(autojump_clock):
    owner = Owner.of(Client("a", principal="alice").caller)
    facts = identity(make_spec(instances="per-principal"))
    state = left(link_state(), link_state(pid=8, last_id=5, owner=owner), identity=facts)
    async with inheriting(state, instances="per-principal") as (backend, connector, _heard, pids):
        assert sorted(pids) == [7, 8]
        assert [carrier.methods() for carrier in connector.carriers] == [[], []]
        mine = next(carrier for carrier in connector.carriers if carrier.link.owner == "principal alice")
        for key in "ab":
            call = Client(key, principal="alice").call(name="t")
            await backend.call(call, "tools/call", call.members)
        assert [each["id"] for each in mine.named("tools/call")] == [6, 7]


LEASED = {"instances": "leased"}


def leases_left(**members) -> BackendState:
    """A pooled link of clients that can fill in forms, and a blank child."""
    pooled = LeaseState(
        link=link_state(pid=8, last_id=5, level="info"), capabilities=int(ClientCapability.ELICITATION_FORM), idle_for=5
    )
    blank = LeaseState(link=link_state(pid=9, hello=None, last_id=0), idle_for=1)
    return left(*members.pop("links", (link_state(),)), leases=(blank, pooled), **members)


async def test_leased_links_go_on_for_the_calls_that_suit_them(autojump_clock):
    state = leases_left(identity=identity(make_spec(**LEASED)))
    async with inheriting(state, **LEASED) as (backend, connector, _heard, pids):
        assert sorted(pids) == [7, 8, 9]
        assert [carrier.methods() for carrier in connector.carriers] == [[], [], []]
        assert len(connector.attempts) == 3, "nothing else is started"
        client = modern_client(capabilities=ClientCapability.ELICITATION_FORM)
        call = client.call(name="t")
        await backend.call(call, "tools/call", call.members)
        await wait_all_tasks_blocked()
        [used] = [carrier for carrier in connector.carriers if carrier.sent]
        assert [(each["method"], each["id"]) for each in used.sent] == [("tools/call", 6)]
        assert len(connector.attempts) == 3
        other = modern_client(capabilities=ClientCapability.SAMPLING)
        call = other.call(name="t")
        await backend.call(call, "tools/call", call.members)
        [blank] = [carrier for carrier in connector.carriers if carrier.named("initialize")]
        assert blank.named("initialize")[0]["params"]["capabilities"] == {"sampling": {}}
        assert blank.named("tools/call")


async def test_where_the_spare_had_ended_none_is_started_for_the_upgrade(autojump_clock):
    async with inheriting(left(link_state(), identity=identity(make_spec(**LEASED))), **LEASED) as (_, connector, _, _):
        assert len(connector.attempts) == 1


async def test_leased_links_go_on_while_the_servers_own_is_lost(autojump_clock):
    state = leases_left(links=(), identity=identity(make_spec(start="lazy", **LEASED)))
    async with inheriting(state, start="lazy", **LEASED) as (backend, connector, _heard, pids):
        assert sorted(pids) == [8, 9]
        assert not backend.asleep, "it was running"
        assert sum(not carrier.sent for carrier in connector.carriers) == 2


async def test_it_is_not_quiet_while_a_leased_link_is_opened(autojump_clock):
    async with inheriting(left(identity=identity(make_spec(**LEASED))), **LEASED) as (backend, connector, _, _):
        blank = connector.carriers[-1]
        blank.answers["initialize"] = lambda message: None
        assert blank.sent == []
        assert backend.inheritance.quiet, "nothing is asked of it"
        client = modern_client(capabilities=ClientCapability.ELICITATION_FORM)
        call = client.call(name="t")
        async with trio.open_nursery() as nursery:
            outcome = calling(nursery, backend.call, call, "tools/call", call.members)
            await wait_all_tasks_blocked()
            outcome.scope.cancel()
        assert not backend.inheritance.quiet, "nobody waits for it, and a child is at its handshake"
        blank.answer_to(blank.named("initialize")[0], MEMORY)
        await wait_all_tasks_blocked()
        assert backend.inheritance.quiet


async def test_another_servers_state_counts_for_nothing(autojump_clock):
    state = leases_left(identity="other")
    async with inheriting(state) as (backend, connector, _heard, pids):
        assert pids == ()
        assert connector.carriers[0].methods()[:1] == ["initialize"]
        assert backend.state is State.READY


async def test_without_a_link_what_was_known_is_known_until_the_server_is_up(autojump_clock):
    connector = MemoryConnector(make_spec(), Deadlines())
    backend = ManagedBackend(connector.spec, connector, Heard())
    backend.inherit(left(legacy_for=LEGACY_FOR))
    backend.inheritance.resume_others()
    assert backend.catalogue == TOOLS
    assert backend.hello == HELLO
    assert connector.eras.recall(trio.current_time()) is Era.LEGACY


async def test_one_that_keeps_failing_is_not_hammered_by_the_next_program(autojump_clock):
    connector = MemoryConnector(make_spec(), Deadlines())
    connector.failures = [BackendUnavailable("b", "it is broken")] * 100
    before = ManagedBackend(connector.spec, connector, Heard())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(before.run)
        await connector.wait_attempts(10)
        await wait_all_tasks_blocked()
        state = before.capture()
        nursery.cancel_scope.cancel()
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=BackendState)
    after = ManagedBackend(connector.spec, connector, Heard())
    after.inherit(state)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(after.run)
        await after.wait_verdict()
        await wait_all_tasks_blocked()
        assert after.describe()["crash_looping"] is True
        assert after.describe()["next_attempt_in"] > 60, "ten attempts came before"
        nursery.cancel_scope.cancel()


async def test_a_remote_link_is_not_captured(autojump_clock):
    async with inheriting(left()) as (backend, connector, _heard, _pids):
        assert capture_link(connector.carriers[0].link) is None
        assert backend.capture().links == ()
        assert backend.capture().catalogue == backend.catalogue
        assert backend.inheritance.quiet


async def test_it_is_quiet_when_nothing_of_its_own_is_in_flight(autojump_clock):
    async with inheriting(left()) as (backend, connector, heard, _pids):
        [carrier] = connector.carriers
        carrier.answers["tools/list"] = lambda message: None
        carrier.notify("notifications/tools/list_changed")
        assert not backend.inheritance.quiet, "a change is not fetched yet"
        asked = await carrier.wait_sent("tools/list", 2)
        assert not backend.inheritance.quiet
        carrier.answer_to(asked, {"tools": []})
        await wait_all_tasks_blocked()
        assert backend.inheritance.quiet
        assert heard.catalogues == [("tools",)] * 2, "as it was found, and without the tool"
