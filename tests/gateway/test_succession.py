from __future__ import annotations

import msgspec
import pytest
import trio

from mcpd.config.model import Caching, Config, Limits, Naming, Streams
from mcpd.errors import BackendUnavailable, RpcError, UnknownName
from mcpd.gateway.succession import FINISH
from mcpd.gateway.tasks import EXTENSION
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import ServerCapabilities
from mcpd.protocol.versions import MODERN
from tests.gateway.fakes import (
    Ear,
    FakeBackend,
    catalogue,
    hello,
    join,
    make_gateway,
    modern_caller,
    serve,
    subscribe_call,
)

DEBUG = LOG_LEVELS.index("debug")
TOOLS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


def ear_of(session) -> Ear:
    ear = Ear()
    session.listen(ear)
    return ear


def names(gateway) -> list[str]:
    return list(gateway.catalog.tools.routes)


def take(gateway, backends, config=None):
    """As a reload does it."""
    for backend in backends:
        backend.news = gateway.notices
    return gateway.use(backends, config)


async def running(gateway, nursery) -> None:
    """As the daemon has it: everything of the gateway runs."""
    await nursery.start(gateway.run)
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def a():
    return FakeBackend("a", catalogue(tools=["x"]))


@pytest.fixture
def b():
    return FakeBackend("b", catalogue(tools=["y"]))


async def test_lists_follow_at_once_and_are_told_of_once(tmp_path, nursery, autojump_clock, a, b):
    gateway = make_gateway(tmp_path, a)
    await running(gateway, nursery)
    ear = ear_of(join(gateway.sessions))
    take(gateway, [b, a])
    assert names(gateway) == ["b_y", "a_x"]
    assert ear.methods() == [TOOLS]
    take(gateway, [b, a])
    await trio.sleep(1)
    assert ear.methods() == [TOOLS], "nothing differs"
    take(gateway, [a, b])
    assert ear.methods() == [TOOLS] * 2, "the order does"
    take(gateway, [])
    assert (names(gateway), ear.methods()) == ([], [TOOLS] * 3)


async def test_calls_go_to_the_successor_and_nowhere_once_it_is_gone(tmp_path, nursery, autojump_clock, a):
    gateway = make_gateway(tmp_path, a)
    await running(gateway, nursery)
    session = join(gateway.sessions)
    successor = FakeBackend("a", catalogue(tools=["x"]))
    take(gateway, [successor])
    await serve(gateway, session, "tools/call", {"name": "a_x"})
    assert (len(a.asked), len(successor.asked)) == (0, 1)
    take(gateway, [])
    with pytest.raises(UnknownName, match="Unknown tool: a_x"):
        await serve(gateway, session, "tools/call", {"name": "a_x"})


async def test_links_learnt_from_results_are_the_successors(tmp_path, nursery, autojump_clock):
    a, b = FakeBackend("a"), FakeBackend("b")
    gateway = make_gateway(tmp_path, a, b)
    await running(gateway, nursery)
    link = b'{"content":[{"type":"resource_link","uri":"x:%d","name":"n"}]}'
    gateway.router.learn(link % 1, a)
    gateway.router.learn(link % 2, b)
    successor, other = FakeBackend("a"), FakeBackend("c")
    take(gateway, [successor, other])
    assert gateway.router.owner("x:1") is successor
    assert gateway.router.owner("x:2") is None
    # What a call brings that began before.
    gateway.router.learn(link % 3, a)
    gateway.router.learn(link % 4, b)
    assert gateway.router.owner("x:3") is successor
    assert gateway.router.owner("x:4") is None


async def test_log_levels_are_told_to_who_is_new_and_to_nobody_else_again(tmp_path, nursery, autojump_clock, a, b):
    gateway = make_gateway(tmp_path, a, b)
    await running(gateway, nursery)
    session = join(gateway.sessions)
    await gateway.levels.set(session, DEBUG)
    told = ("debug", session.caller.key, "debug")
    assert (a.levels, b.levels) == ([told], [told])
    successor = FakeBackend("a")
    take(gateway, [successor, b])
    await trio.testing.wait_all_tasks_blocked()
    assert (a.levels, b.levels, successor.levels) == ([told], [told], [told])
    gateway.sessions.end(session)
    await trio.testing.wait_all_tasks_blocked()
    assert (len(a.levels), len(b.levels), len(successor.levels)) == (1, 2, 2)


async def test_nobody_waits_for_a_backend_that_goes_to_take_a_level(tmp_path, nursery, autojump_clock, a):
    gateway = make_gateway(tmp_path, a)
    await running(gateway, nursery)
    a.level_gate = trio.Event()
    began = trio.current_time()
    async with trio.open_nursery() as inner:
        inner.start_soon(gateway.levels.set, join(gateway.sessions), DEBUG)
        await trio.testing.wait_all_tasks_blocked()
        take(gateway, [])
    assert trio.current_time() == began


async def subscribed(gateway, session, uri, backend):
    call = subscribe_call(session, uri)
    await gateway.subscriptions.add(session, call, uri, backend, call.members)


@pytest.mark.parametrize(("instances", "times"), [("shared", 1), ("per-session", 2)])
async def test_subscriptions_are_made_again_at_the_successor(tmp_path, nursery, autojump_clock, instances, times):
    old = FakeBackend("a", instances=instances)
    gateway = make_gateway(tmp_path, old)
    await running(gateway, nursery)
    one, two = join(gateway.sessions), join(gateway.sessions)
    ear = ear_of(one)
    for session in (one, two):
        await subscribed(gateway, session, "x:1", old)
    new = FakeBackend("a", instances=instances)
    await take(gateway, [new]).finish()
    assert new.subscribed == {"x:1": times}
    assert ear.methods() == [UPDATED], "nobody can say what it is there"
    gateway.notices.resource_updated(new, b'{"uri":"x:1"}', None)
    assert ear.methods() == [UPDATED] * 2
    await gateway.subscriptions.remove(one, "x:1")
    await gateway.subscriptions.remove(two, "x:1")
    assert old.unsubscribed == []
    assert new.subscribed == {"x:1": 0}
    assert len(gateway.subscriptions) == 0


@pytest.mark.parametrize("instances", ["shared", "per-session"])
async def test_a_subscription_that_the_successor_refuses_is_over(tmp_path, nursery, autojump_clock, instances):
    old = FakeBackend("a", instances=instances)
    gateway = make_gateway(tmp_path, old)
    await running(gateway, nursery)
    sessions = [join(gateway.sessions), join(gateway.sessions)]
    for session in sessions:
        await subscribed(gateway, session, "x:1", old)
    new = FakeBackend("a", instances=instances)
    new.error = BackendUnavailable("a", "away")
    await take(gateway, [new]).finish()
    assert [session.subscriptions for session in sessions] == [{}, {}]
    assert len(gateway.subscriptions) == 0


async def test_a_subscription_at_a_backend_that_is_gone_is_over(tmp_path, nursery, autojump_clock, a, b):
    gateway = make_gateway(tmp_path, a, b)
    await running(gateway, nursery)
    session = join(gateway.sessions)
    await subscribed(gateway, session, "x:1", a)
    await subscribed(gateway, session, "x:2", b)
    await take(gateway, [b]).finish()
    assert list(session.subscriptions) == ["x:2"]
    assert b.subscribed == {"x:2": 1}, "one that stays is not touched"
    gateway.sessions.end(session)
    assert (a.dropped, b.dropped) == ([], ["x:2"])


async def test_a_successor_that_does_not_answer_is_waited_for_with_a_bound(tmp_path, nursery, autojump_clock, a):
    gateway = make_gateway(tmp_path, a)
    await running(gateway, nursery)
    await subscribed(gateway, join(gateway.sessions), "x:1", a)
    new = FakeBackend("a")
    new.gate = trio.Event()
    began = trio.current_time()
    await take(gateway, [new]).finish()
    assert trio.current_time() - began == FINISH


TASKS = hello(ServerCapabilities(extensions=(EXTENSION,)), MODERN)


def with_tasks(name: str) -> FakeBackend:
    backend = FakeBackend(name)
    backend.hello = TASKS
    return backend


async def watching(gateway, nursery, *ids):
    """A client that watches tasks; returns what it hears, and how it leaves."""
    ear, scope = Ear(), trio.CancelScope()
    members = {"notifications": msgspec.Raw(msgspec.json.encode({"taskIds": ids}))}
    caller = modern_caller(extensions=b'{"%b":{}}' % EXTENSION.encode())

    async def listen():
        with scope:
            await gateway.listens.listen(caller, b"1", members, ear)

    nursery.start_soon(listen)
    await trio.testing.wait_all_tasks_blocked()
    assert ear.heard[0]["params"]["notifications"] == {"taskIds": list(ids)}
    return ear, scope


async def test_watched_tasks_are_watched_at_the_successor(tmp_path, nursery, autojump_clock):
    a, b, new = with_tasks("a"), with_tasks("b"), with_tasks("a")
    gateway = make_gateway(tmp_path, a, b)
    await running(gateway, nursery)
    ear, scope = await watching(gateway, nursery, "a:t", "b:t")
    await take(gateway, [new]).finish()
    assert new.watched["t"] == 1
    for backend in (new, b):
        gateway.notices.task_changed(backend, b'{"taskId":"t","status":"working"}')
    await trio.testing.wait_all_tasks_blocked()
    assert [message["params"]["taskId"] for message in ear.heard[1:]] == ["a:t"], "nothing is heard of one that is gone"
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert new.watched["t"] == 0


async def test_a_client_that_leaves_while_the_successor_is_asked_leaves_no_watch(tmp_path, nursery, autojump_clock):
    a, new = with_tasks("a"), with_tasks("a")
    gateway = make_gateway(tmp_path, a)
    await running(gateway, nursery)
    _ear, scope = await watching(gateway, nursery, "a:t")
    new.gate = trio.Event()
    async with trio.open_nursery() as inner:
        inner.start_soon(take(gateway, [new]).finish)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        new.gate.set()
    assert new.watched["t"] == 0


async def test_a_task_that_the_successor_does_not_know_is_watched_no_more(tmp_path, nursery, autojump_clock):
    a, new = with_tasks("a"), with_tasks("a")
    gateway = make_gateway(tmp_path, a)
    await running(gateway, nursery)
    ear, scope = await watching(gateway, nursery, "a:t")
    new.error = RpcError(-32602, "no such task")
    await take(gateway, [new]).finish()
    gateway.notices.task_changed(new, b'{"taskId":"t","status":"working"}')
    await trio.testing.wait_all_tasks_blocked()
    assert len(ear.heard) == 1
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert new.watched["t"] == 0


async def test_settings_apply_at_once(tmp_path, nursery, autojump_clock, a):
    a.listed = a.catalogue = catalogue(tools=["x", "y", "z"])
    gateway = make_gateway(tmp_path, a)
    await running(gateway, nursery)
    session = join(gateway.sessions)
    ear = ear_of(session)
    config = Config(
        naming=Naming(separator="-", page_size=2),
        limits=Limits(subscriptions=1, calls=0, listens=0, sessions=5),
        streams=Streams(list_changed_delay=3.0),
        caching=Caching(list_ttl=2.0),
        extensions=("a.example/x",),
    )
    take(gateway, [a], config)
    assert names(gateway) == ["a-x", "a-y", "a-z"]
    assert ear.methods() == [TOOLS]
    assert gateway.list_ttl == 2000
    assert gateway.modern.extensions[-1] == "a.example/x"
    assert gateway.modern.relayed(b'{"a.example/x":{},"b.example/y":{}}') == b'{"a.example/x":{}}'
    with pytest.raises(RpcError, match=r"limits\.calls"):
        await serve(gateway, session, "tools/call", {"name": "a-x"})
    await subscribed(gateway, session, "x:1", a)
    with pytest.raises(RpcError, match=r"more than 1 subscriptions"):
        await subscribed(gateway, session, "x:2", a)
    a.listed = a.catalogue = catalogue(tools=["other"])
    gateway.notices.catalogue_changed(a, ("tools",))
    await trio.sleep(2.9)
    assert len(ear.heard) == 1
    await trio.sleep(0.2)
    assert len(ear.heard) == 2


async def test_a_page_size_alone_changes_pages_that_were_rendered(tmp_path, a):
    a.listed = a.catalogue = catalogue(tools=["x", "y", "z"])
    gateway = make_gateway(tmp_path, a)
    session = join(gateway.sessions)
    gateway.patience.start([])
    assert len((await serve(gateway, session, "tools/list"))["tools"]) == 3
    take(gateway, [a], Config(naming=Naming(page_size=2)))
    page = await serve(gateway, session, "tools/list")
    assert len(page["tools"]) == 2
    assert len((await serve(gateway, session, "tools/list", {"cursor": page["nextCursor"]}))["tools"]) == 1


async def test_nobody_waits_for_what_was_replaced_or_came_later(tmp_path, nursery, autojump_clock, a):
    slow = FakeBackend("slow", catalogue(tools=["s"]), takes=100.0)
    gateway = make_gateway(tmp_path, slow, a)
    await running(gateway, nursery)
    assert not gateway.all_judged
    take(gateway, [a, FakeBackend("late", takes=50.0)])
    assert gateway.all_judged


async def test_who_took_the_place_of_one_that_is_waited_for_is_waited_for(tmp_path, nursery, autojump_clock, a):
    slow, quick = (FakeBackend("s", catalogue(tools=["t"]), takes=takes) for takes in (2.0, 1.0))
    gateway = make_gateway(tmp_path, slow, a)
    await running(gateway, nursery)
    take(gateway, [quick, a])
    assert not gateway.all_judged
    await trio.sleep(1.5)
    assert gateway.all_judged
    assert names(gateway) == ["s_t", "a_x"]
    await trio.sleep(2)
    assert gateway.all_judged
