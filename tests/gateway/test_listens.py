from __future__ import annotations

import msgspec
import pytest
import trio

from mcpd.config.model import Config, Limits
from mcpd.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    MissingCapability,
    RpcError,
)
from mcpd.gateway import listens as module
from mcpd.gateway import tasks
from mcpd.gateway.listens import GRANT_WAIT, LOOK, QUEUE_MAX
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import ServerCapabilities
from mcpd.protocol.versions import MODERN
from tests.gateway.fakes import Ear, FakeBackend, catalogue, hello, join, make_gateway, modern_caller, serve

TAG = "io.modelcontextprotocol/subscriptionId"
DECLARED = b'{"io.modelcontextprotocol/tasks":{}}'
ALL_LISTS = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
NO_UPDATES = hello(ServerCapabilities(resources=True))


def offering(name: str = "b", **spec) -> FakeBackend:
    return FakeBackend(name, catalogue(tools=["add"], resources=["x:1", "x:2"], resourceTemplates=["x:d/{id}"]), **spec)


@pytest.fixture
def backend():
    return offering()


@pytest.fixture
def gateway(tmp_path, backend):
    """With a second backend that has resources too, so that a URI belongs to nobody by itself."""
    return make_gateway(tmp_path, backend, FakeBackend("other"))


class Listener:
    """A client that listens, and what it heard."""

    def __init__(self, gateway, notifications, id=b"7", **caller):
        self.gateway, self.id = gateway, id
        self.members = (
            {} if notifications is None else {"notifications": msgspec.Raw(msgspec.json.encode(notifications))}
        )
        self.caller = modern_caller(**caller)
        self.ear = Ear()
        self.scope = trio.CancelScope()
        self.ended = False

    async def run(self):
        with self.scope:
            await self.gateway.listens.listen(self.caller, self.id, self.members, self.ear)
            self.ended = True

    async def begin(self, nursery):
        nursery.start_soon(self.run)
        await trio.testing.wait_all_tasks_blocked()
        return self

    @property
    def granted(self):
        """What its acknowledgement says; the first message."""
        first = self.ear.heard[0]
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["_meta"] == {TAG: msgspec.json.decode(self.id)}
        return first["params"]["notifications"]

    @property
    def news(self):
        """Method, URI and tag of everything after the acknowledgement."""
        return [(m["method"], m["params"].get("uri"), m["params"]["_meta"][TAG]) for m in self.ear.heard[1:]]


async def listen(gateway, nursery, notifications, **options):
    return await Listener(gateway, notifications, **options).begin(nursery)


def changed(method: str, tag: object = 7):
    return (f"notifications/{method}/list_changed", None, tag)


def updated(uri: str, tag: object = 7):
    return ("notifications/resources/updated", uri, tag)


async def tell(gateway, backend, uri, owner=None, **members):
    gateway.notices.resource_updated(backend, msgspec.json.encode({"uri": uri, **members}), owner)
    await trio.testing.wait_all_tasks_blocked()


async def change(gateway, backend, **keys):
    backend.catalogue = catalogue(**keys)
    gateway.notices.catalogue_changed(backend, ("tools",))
    gateway.notices.flush()
    await trio.testing.wait_all_tasks_blocked()


# ---- the acknowledgement


@pytest.mark.parametrize("id", [b"7", b'"7"', b"0", b'""', b"1.0", b'"\\u0061"'])
async def test_it_comes_first_and_names_what_is_granted(gateway, backend, nursery, id):
    asked = {**ALL_LISTS, "resourceSubscriptions": ["x:1", "nobody:1", "x:1"], "taskIds": ["t"], "vendor": 5}
    listener = await listen(gateway, nursery, asked, id=id)
    assert listener.granted == {**ALL_LISTS, "resourceSubscriptions": ["x:1"]}
    assert len(listener.ear.heard) == 1
    assert backend.subscribed == {"x:1": 1}
    assert len(gateway.listens) == 1


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ({}, {}),
        ({"toolsListChanged": False, "promptsListChanged": None}, {}),
        ({"promptsListChanged": True}, {"promptsListChanged": True}),
        ({"resourceSubscriptions": []}, {}),
        ({"resourceSubscriptions": None}, {}),
        ({"resourceSubscriptions": ["nobody:1"]}, {"resourceSubscriptions": []}),
    ],
)
async def test_nothing_is_granted_that_was_not_asked_for(gateway, backend, nursery, asked, granted):
    listener = await listen(gateway, nursery, asked)
    assert listener.granted == granted
    await change(gateway, backend, tools=["other"], resources=["x:1"])
    await tell(gateway, backend, "x:1")
    assert listener.news == []
    assert not listener.ended, "it stays open"


@pytest.mark.parametrize(
    "asked",
    [
        *(None, 5, [], "x", True),
        *({"toolsListChanged": 1}, {"promptsListChanged": "true"}, {"resourcesListChanged": {}}),
        *({"resourceSubscriptions": "x:1"}, {"resourceSubscriptions": [1]}, {"resourceSubscriptions": {}}),
        *({"taskIds": "b:1"}, {"taskIds": [1]}, {"taskIds": {}}, {"taskIds": [None]}),
    ],
)
async def test_what_has_the_wrong_form_is_refused(gateway, asked):
    listener = Listener(gateway, asked)
    with pytest.raises(RpcError) as caught:
        await listener.run()
    assert (caught.value.code, caught.value.http_status) == (INVALID_PARAMS, 400)
    assert listener.ear.heard == []
    assert len(gateway.listens) == 0


async def test_resources_of_backends_that_do_not_announce_updates_are_not_granted(tmp_path, nursery):
    able, unable = offering(), FakeBackend("u", catalogue(resources=["u:1"]))
    unable.hello = NO_UPDATES
    gateway = make_gateway(tmp_path, able, unable)
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["u:1", "x:1"]})
    assert listener.granted == {"resourceSubscriptions": ["x:1"]}
    assert unable.subscribed == {}


async def test_a_backend_that_does_not_answer_delays_it_a_little_and_nobody_elses(tmp_path, nursery, autojump_clock):
    hanging, other = FakeBackend("h", catalogue(resources=[f"h:{n}" for n in range(99)])), offering()
    hanging.gate = trio.Event()
    gateway = make_gateway(tmp_path, hanging, other)
    began = trio.current_time()
    uris = [*(f"h:{n}" for n in range(99)), "x:1", "x:2"]
    listener = await listen(gateway, nursery, {"toolsListChanged": True, "resourceSubscriptions": uris})
    assert listener.ear.heard == []
    assert len(hanging.subscribe_members) == module.AT_ONCE, "it is not asked for everything at once"
    await trio.sleep(GRANT_WAIT)
    await trio.testing.wait_all_tasks_blocked()
    assert listener.granted == {"toolsListChanged": True, "resourceSubscriptions": ["x:1", "x:2"]}
    assert trio.current_time() == pytest.approx(began + GRANT_WAIT)
    assert hanging.subscribed == {}


async def test_what_happens_before_it_is_told_after_it(tmp_path, nursery, autojump_clock):
    slow, other = FakeBackend("s", catalogue(resources=["s:1"])), offering()
    slow.gate = trio.Event()
    gateway = make_gateway(tmp_path, slow, other)
    asked = {"toolsListChanged": True, "resourceSubscriptions": ["s:1", "x:1"]}
    listener = await listen(gateway, nursery, asked)
    await change(gateway, other, tools=["new"], resources=["x:1"])
    await tell(gateway, other, "x:1")
    assert listener.ear.heard == []
    slow.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert listener.granted == asked
    assert listener.news == [changed("tools"), updated("x:1")]


async def test_whose_resource_it_is_may_be_about_to_become_known(tmp_path, nursery, autojump_clock):
    late = offering(takes=2.0)
    gateway = make_gateway(tmp_path, late)
    await nursery.start(gateway.run)
    listener = Listener(gateway, {"resourceSubscriptions": ["x:1"]})
    nursery.start_soon(listener.run)
    await trio.sleep(3)
    assert listener.granted == {"resourceSubscriptions": ["x:1"]}


# ---- news


async def test_everybody_hears_what_it_asked_for_under_its_own_id(gateway, backend, nursery):
    one = await listen(gateway, nursery, {"toolsListChanged": True, "resourceSubscriptions": ["x:1"]}, id=b'"a"')
    two = await listen(gateway, nursery, {"resourcesListChanged": True}, id=b"0")
    three = await listen(gateway, nursery, {**ALL_LISTS, "resourceSubscriptions": ["x:1", "x:2"]}, id=b"0")
    assert backend.subscribed == {"x:1": 1, "x:2": 1}, "once, however many listen"
    await change(gateway, backend, tools=["new"], resources=["x:1", "x:2"])
    await tell(gateway, backend, "x:1")
    await tell(gateway, backend, "x:2")
    await change(gateway, backend, tools=["new"], resources=["x:2"])
    assert one.news == [changed("tools", "a"), updated("x:1", "a")]
    assert two.news == [changed("resources", 0), changed("resources", 0)]
    assert three.news == [
        *(changed("resources", 0), changed("tools", 0), updated("x:1", 0), updated("x:2", 0), changed("resources", 0))
    ]


async def test_an_update_keeps_what_is_not_the_protocols(gateway, backend, nursery):
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["x:d"]})
    assert listener.granted == {"resourceSubscriptions": []}
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["x:d/1"]})
    meta = {TAG: "theirs", "io.modelcontextprotocol/x": 1, "vendor/a": [1.5], "traceparent": "t"}
    await tell(gateway, backend, "x:d/1/sub", _meta=meta, vendor=None)
    assert listener.ear.heard[1]["params"] == {
        "uri": "x:d/1/sub",
        "vendor": None,
        "_meta": {TAG: 7, "vendor/a": [1.5], "traceparent": "t"},
    }


async def test_what_another_backend_says_about_the_same_uri_concerns_nobody(tmp_path, backend, nursery):
    other = offering("other")
    gateway = make_gateway(tmp_path, backend, other)
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1"]})
    await tell(gateway, other, "x:1")
    assert listener.news == []


async def test_a_backend_with_a_link_for_each_client_tells_the_one_it_is_for(tmp_path, nursery):
    backend = offering(instances="per-session")
    gateway = make_gateway(tmp_path, backend)
    one = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1"]})
    two = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1"]})
    assert backend.subscribed == {"x:1": 2}
    await tell(gateway, backend, "x:1", owner=two.caller.key)
    assert (one.news, two.news) == ([], [updated("x:1")])


async def test_sessions_and_those_that_listen_share_a_subscription(gateway, backend, nursery):
    session, ear = join(gateway.sessions), Ear()
    session.listen(ear)
    await serve(gateway, session, "resources/subscribe", {"uri": "x:1"})
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1"]})
    assert backend.subscribed == {"x:1": 1}
    await tell(gateway, backend, "x:1")
    assert len(ear.heard) == len(listener.news) == 1
    assert "_meta" not in ear.heard[0]["params"]
    await serve(gateway, session, "resources/unsubscribe", {"uri": "x:1"})
    assert backend.subscribed == {"x:1": 1}
    listener.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert backend.subscribed == {"x:1": 0}
    assert len(gateway.subscriptions) == 0


async def test_what_a_backend_says_while_it_is_subscribed_to_is_nobodys(gateway, backend, nursery):
    codes = []

    async def subscribe(call, uri, members):
        call.emit("notifications/progress", b"{}")
        call.part()
        with pytest.raises(RpcError) as caught:
            await call.ask("roots/list", b"{}")
        codes.append(caught.value.code)
        backend.subscribed[uri] = 1

    backend.subscribe = subscribe
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1"]})
    assert listener.granted == {"resourceSubscriptions": ["x:1"]}
    assert codes == [METHOD_NOT_FOUND]


# ---- tasks


@pytest.fixture
def jobs():
    """A backend that makes tasks."""
    return making_tasks("jobs")


def making_tasks(name, **spec):
    backend = offering(name, **spec)
    backend.hello = hello(ServerCapabilities(tools=True, extensions=(tasks.EXTENSION,)), MODERN)
    return backend


def watching(*ids, **notifications):
    return {"taskIds": list(ids), **notifications}


async def watch(gateway, nursery, *ids, **options):
    return await listen(gateway, nursery, watching(*ids), extensions=DECLARED, **options)


async def become(gateway, backend, task, status="working", **members):
    gateway.notices.task_changed(backend, msgspec.json.encode({"taskId": task, "status": status, **members}))
    await trio.testing.wait_all_tasks_blocked()


def states(listener):
    """Task, status and tag of what it heard."""
    heard = [(m["method"], m["params"]) for m in listener.ear.heard[1:]]
    return [(p["taskId"], p["status"], p["_meta"][TAG]) for method, p in heard if method == "notifications/tasks"]


async def test_tasks_are_watched_at_the_backend_that_made_them(tmp_path, jobs, nursery):
    other = making_tasks("other")
    gateway = make_gateway(tmp_path, jobs, other, offering("plain"))
    ids = ["jobs:a", "other:b:c", "jobs:a", "plain:x", "nobody:x", "x", ""]
    listener = await watch(gateway, nursery, *ids)
    assert listener.granted == {"taskIds": ["jobs:a", "other:b:c"]}
    assert (+jobs.watched, +other.watched) == ({"a": 1}, {"b:c": 1})
    await become(gateway, jobs, "a", "completed", result={"content": [1.50]}, ttlMs=None)
    await become(gateway, jobs, "b:c")
    await become(gateway, other, "a")
    await become(gateway, other, "b:c")
    assert listener.ear.heard[1]["params"] == {
        "taskId": "jobs:a",
        "status": "completed",
        "result": {"content": [1.5]},
        "ttlMs": None,
        "_meta": {TAG: 7},
    }
    assert states(listener) == [("jobs:a", "completed", 7), ("other:b:c", "working", 7)]


async def test_several_may_watch_one_task(tmp_path, jobs, nursery):
    gateway = make_gateway(tmp_path, jobs)
    one = await watch(gateway, nursery, "jobs:a", id=b'"one"')
    two = await watch(gateway, nursery, "jobs:a", "jobs:b", id=b"2")
    three = await listen(gateway, nursery, {"toolsListChanged": True}, extensions=DECLARED)
    assert +jobs.watched == {"a": 2, "b": 1}
    await become(gateway, jobs, "a")
    assert (states(one), states(two)) == ([("jobs:a", "working", "one")], [("jobs:a", "working", 2)])
    assert three.news == []
    one.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert +jobs.watched == {"a": 1, "b": 1}
    await become(gateway, jobs, "a", "completed")
    assert states(two)[1:] == [("jobs:a", "completed", 2)]
    assert +jobs.watched == {"a": 1, "b": 1}, "it may still be asked for what it was"
    gateway.close()
    await trio.testing.wait_all_tasks_blocked()
    assert +jobs.watched == {}
    assert two.ended


async def test_its_news_keeps_what_is_not_the_protocols(tmp_path, jobs, nursery):
    gateway = make_gateway(tmp_path, jobs)
    listener = await watch(gateway, nursery, "jobs:a")
    await become(gateway, jobs, "a", _meta={TAG: 3, "vendor/a": [1], "io.modelcontextprotocol/x": 1}, vendor=None)
    assert listener.ear.heard[1]["params"]["_meta"] == {TAG: 7, "vendor/a": [1]}
    assert listener.ear.heard[1]["params"]["vendor"] is None


async def test_a_backend_speaks_of_its_own_tasks_only(tmp_path, jobs, nursery, caplog):
    other = making_tasks("other")
    gateway = make_gateway(tmp_path, jobs, other)
    listener = await watch(gateway, nursery, "jobs:a")
    spelled = b'{"task\\u0049d":"%b","status":"completed"}'
    gateway.notices.task_changed(other, spelled % b"jobs:a")
    gateway.notices.task_changed(jobs, spelled % b"jobs:a")
    for junk in (b"5", b"{}", b'{"taskId":5}', b'{"taskId":null}', b'{"taskId":"\xff"}'):
        gateway.notices.task_changed(jobs, junk)
    await trio.testing.wait_all_tasks_blocked()
    assert listener.ear.heard[1:] == []
    assert sum("bad_notification" in record.message for record in caplog.records) == 5
    gateway.notices.task_changed(jobs, spelled % b"a")
    await trio.testing.wait_all_tasks_blocked()
    assert states(listener) == [("jobs:a", "completed", 7)]


async def test_who_is_slow_hears_what_a_task_is_now(tmp_path, jobs, nursery, autojump_clock):
    gateway = make_gateway(tmp_path, jobs)
    asked = watching("jobs:a", "jobs:b", resourceSubscriptions=["x:1"], toolsListChanged=True)
    jobs.hello = hello(ServerCapabilities(resources_subscribe=True, extensions=(tasks.EXTENSION,)), MODERN)
    listener = await listen(gateway, nursery, asked, extensions=DECLARED)
    assert listener.granted == asked
    listener.ear.queued = QUEUE_MAX + 1
    await become(gateway, jobs, "b")
    await tell(gateway, jobs, "x:1")
    for status in ("working", "input_required", "completed"):
        await become(gateway, jobs, "a", status)
        await change(gateway, jobs, tools=[status], resources=["x:1"])
    listener.ear.queued = 0
    await trio.sleep(LOOK)
    await trio.testing.wait_all_tasks_blocked()
    assert [m["method"] for m in listener.ear.heard[1:]] == [
        "notifications/tools/list_changed",
        "notifications/tasks",
        "notifications/resources/updated",
        "notifications/tasks",
    ]
    assert states(listener) == [("jobs:b", "working", 7), ("jobs:a", "completed", 7)]


async def test_a_task_is_told_of_however_many_updates_wait(tmp_path, jobs, nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr(module, "PENDING_MAX", 3)
    jobs.hello = hello(ServerCapabilities(resources_subscribe=True, extensions=(tasks.EXTENSION,)), MODERN)
    gateway = make_gateway(tmp_path, jobs)
    asked = watching("jobs:a", resourceSubscriptions=["x:d/1"])
    listener = await listen(gateway, nursery, asked, extensions=DECLARED)
    listener.ear.queued = QUEUE_MAX + 1
    for number in range(10):
        await tell(gateway, jobs, f"x:d/1/{number}")
    await become(gateway, jobs, "a")
    listener.ear.queued = 0
    await trio.sleep(LOOK)
    await trio.testing.wait_all_tasks_blocked()
    assert len(listener.ear.heard) == 1 + 3 + 1 + 1
    assert states(listener) == [("jobs:a", "working", 7)]


async def test_news_that_comes_with_the_consent_is_told_after_the_acknowledgement(tmp_path, jobs, nursery):
    gateway = make_gateway(tmp_path, jobs)
    jobs.gate = trio.Event()
    listener = await watch(gateway, nursery, "jobs:a")
    await become(gateway, jobs, "a", "completed")
    assert listener.ear.heard == []
    jobs.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert listener.granted == watching("jobs:a")
    assert states(listener) == [("jobs:a", "completed", 7)]


async def test_a_task_that_its_backend_does_not_tell_of_is_left_out(tmp_path, jobs, nursery):
    gateway = make_gateway(tmp_path, jobs)
    jobs.gate, jobs.error = trio.Event(), RpcError(INVALID_PARAMS, "no such task")
    listener = await watch(gateway, nursery, "jobs:a")
    await become(gateway, jobs, "a")
    jobs.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert listener.granted == watching()
    await become(gateway, jobs, "a")
    assert states(listener) == []
    listener.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert +jobs.watched == {}


async def test_so_is_one_of_a_backend_that_does_not_answer(tmp_path, jobs, nursery, autojump_clock):
    hanging = making_tasks("hanging")
    hanging.gate = trio.Event()
    gateway = make_gateway(tmp_path, jobs, hanging)
    began = trio.current_time()
    listener = await watch(gateway, nursery, "hanging:a", "jobs:a")
    assert listener.ear.heard == []
    await trio.sleep(GRANT_WAIT)
    await trio.testing.wait_all_tasks_blocked()
    assert listener.granted == watching("jobs:a")
    assert trio.current_time() == pytest.approx(began + GRANT_WAIT)
    assert (+hanging.watched, +jobs.watched) == ({}, {"a": 1})


async def test_one_that_leaves_before_the_backend_agreed_leaves_no_watch(tmp_path, jobs, nursery):
    gateway = make_gateway(tmp_path, jobs)
    jobs.gate = trio.Event()
    listener = await watch(gateway, nursery, "jobs:a")
    assert +jobs.watched == {"a": 1}
    listener.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert (+jobs.watched, len(gateway.listens)) == ({}, 0)


@pytest.mark.parametrize("extensions", [None, b'{"vendor.example/thing":{}}'])
async def test_tasks_are_for_who_declared_them(tmp_path, jobs, extensions, nursery):
    gateway = make_gateway(tmp_path, jobs)
    listener = Listener(gateway, watching("jobs:a"), extensions=extensions)
    with pytest.raises(MissingCapability) as caught:
        await listener.run()
    assert (caught.value.code, caught.value.http_status) == (MISSING_CAPABILITY, 400)
    assert b'{"extensions":{"io.modelcontextprotocol/tasks":{}}}' in caught.value.data
    assert (listener.ear.heard, +jobs.watched, len(gateway.listens)) == ([], {}, 0)
    listener = await listen(gateway, nursery, watching(toolsListChanged=True), extensions=extensions)
    assert listener.granted == {"toolsListChanged": True}, "no task is no question of tasks"


async def test_where_nobody_makes_tasks_they_are_no_type_that_is_known(gateway, nursery):
    for extensions in (None, DECLARED):
        listener = await listen(gateway, nursery, watching("b:a", promptsListChanged=True), extensions=extensions)
        assert listener.granted == {"promptsListChanged": True}


# ---- who reads slowly


async def test_the_acknowledgement_waits_for_one_who_is_slow(gateway, nursery, autojump_clock):
    listener = Listener(gateway, {"toolsListChanged": True})
    listener.ear.queued = QUEUE_MAX + 1
    await listener.begin(nursery)
    await trio.sleep(5 * LOOK)
    assert listener.ear.heard == []
    listener.ear.queued = 0
    await trio.sleep(LOOK)
    await trio.testing.wait_all_tasks_blocked()
    assert listener.granted == {"toolsListChanged": True}


async def test_who_is_slow_hears_of_a_thing_once(gateway, backend, nursery, autojump_clock):
    listener = await listen(gateway, nursery, {**ALL_LISTS, "resourceSubscriptions": ["x:1", "x:2"]})
    listener.ear.queued = QUEUE_MAX + 1
    for number in range(5):
        await change(gateway, backend, tools=[f"t{number}"], resources=["x:1", "x:2"])
        await tell(gateway, backend, "x:1", version=number)
    await tell(gateway, backend, "x:2")
    await tell(gateway, backend, "x:1", version=9)
    assert listener.news == []
    listener.ear.queued = QUEUE_MAX
    await trio.sleep(LOOK)
    await trio.testing.wait_all_tasks_blocked()
    # Lists first, then resources, each in the order in which it was first due.
    assert listener.news == [changed("resources"), changed("tools"), updated("x:1"), updated("x:2")]
    (newest,) = [m["params"] for m in listener.ear.heard if m["params"].get("uri") == "x:1"]
    assert newest["version"] == 9


async def test_what_does_not_fit_is_told_of_the_resource_it_is_in(
    gateway, backend, nursery, autojump_clock, monkeypatch
):
    monkeypatch.setattr(module, "PENDING_MAX", 3)
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["x:d/1", "x:1"]})
    listener.ear.queued = QUEUE_MAX + 1
    for number in range(50):
        await tell(gateway, backend, f"x:d/1/{number}", version=number)
    await tell(gateway, backend, "x:d/1/0", version=99)
    await tell(gateway, backend, "x:1")
    listener.ear.queued = 0
    await trio.sleep(LOOK)
    await trio.testing.wait_all_tasks_blocked()
    assert listener.news == [updated(f"x:d/1/{number}") for number in range(3)] + [updated("x:d/1"), updated("x:1")]
    assert listener.ear.heard[1]["params"]["version"] == 99


async def test_a_smaller_queue_of_streams_counts(tmp_path, backend, nursery, autojump_clock):
    gateway = make_gateway(tmp_path, backend, config=Config(limits=Limits(stream_queue=4096)))
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1"]})
    listener.ear.queued = 4097
    await tell(gateway, backend, "x:1")
    assert listener.news == []


# ---- the end


async def test_nothing_is_left_of_one_that_left(gateway, backend, nursery):
    one = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1", "x:2"]})
    two = await listen(gateway, nursery, {"resourceSubscriptions": ["x:2"]})
    one.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert backend.subscribed == {"x:1": 0, "x:2": 1}
    assert backend.dropped == ["x:1"]
    assert backend.forgotten == [one.caller.key]
    assert len(gateway.listens) == 1
    two.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert (len(gateway.listens), len(gateway.subscriptions)) == (0, 0)
    assert not one.ended


async def test_one_that_leaves_before_its_acknowledgement_leaves_nothing_either(gateway, backend, nursery):
    backend.gate = trio.Event()
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1"]})
    listener.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert (len(gateway.listens), len(gateway.subscriptions), backend.subscribed) == (0, 0, {})
    assert listener.ear.heard == []


async def test_a_client_that_cannot_be_told_is_gone(gateway, backend, nursery):
    listener = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1"]})
    listener.ear.open = False
    await tell(gateway, backend, "x:1")
    assert listener.ended
    assert len(gateway.listens) == 0
    listener = Listener(gateway, {"resourceSubscriptions": ["x:1"]})
    listener.ear.open = False
    await listener.run()
    assert backend.subscribed == {"x:1": 0}


async def test_when_mcpd_stops_they_are_told_what_is_due_and_that_this_was_all(gateway, backend, nursery):
    idle = await listen(gateway, nursery, {"toolsListChanged": True}, id=b'"a"')
    busy = await listen(gateway, nursery, {"resourceSubscriptions": ["x:1"]})
    gateway.notices.resource_updated(backend, b'{"uri":"x:1"}', None)
    gateway.close()
    await trio.testing.wait_all_tasks_blocked()
    assert (idle.ended, busy.ended) == (True, True)
    for listener, id in ((idle, "a"), (busy, 7)):
        last = listener.ear.heard[-1]
        assert (last["id"], last["result"]["resultType"]) == (id, "complete")
        assert last["result"]["_meta"][TAG] == id
        assert last["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "mcpd"
    assert [m.get("method") for m in busy.ear.heard] == [
        *("notifications/subscriptions/acknowledged", "notifications/resources/updated", None)
    ]
    assert (len(gateway.listens), backend.subscribed) == (0, {"x:1": 0})
    with pytest.raises(RpcError, match="stopping") as caught:
        await Listener(gateway, {}).run()
    assert caught.value.http_status == 503


# ---- limits


async def test_requests_that_listen_are_bounded(tmp_path, backend, nursery):
    gateway = make_gateway(tmp_path, backend, config=Config(limits=Limits(listens=2)))
    first = await listen(gateway, nursery, {"toolsListChanged": True})
    await listen(gateway, nursery, {})
    more = Listener(gateway, {})
    with pytest.raises(RpcError, match=r"limits\.listens") as caught:
        await more.run()
    assert (caught.value.code, caught.value.http_status, more.ear.heard) == (INTERNAL_ERROR, 503, [])
    first.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert (await listen(gateway, nursery, {})).granted == {}


async def test_so_are_the_resources_of_one(tmp_path, backend):
    gateway = make_gateway(tmp_path, backend, config=Config(limits=Limits(subscriptions=2)))
    with pytest.raises(RpcError, match=r"limits\.subscriptions") as caught:
        await Listener(gateway, {"resourceSubscriptions": ["x:1", "x:2", "x:3"]}).run()
    assert caught.value.code == INVALID_PARAMS
    assert backend.subscribed == {}


async def test_resources_and_tasks_count_together(tmp_path, jobs, nursery):
    gateway = make_gateway(tmp_path, jobs, config=Config(limits=Limits(subscriptions=2)))
    asked = {"taskIds": ["jobs:a", "jobs:b"], "resourceSubscriptions": ["x:1"]}
    with pytest.raises(RpcError, match=r"limits\.subscriptions") as caught:
        await Listener(gateway, asked, extensions=DECLARED).run()
    assert caught.value.code == INVALID_PARAMS
    assert +jobs.watched == {}
    listener = await listen(gateway, nursery, {**asked, "resourceSubscriptions": []}, extensions=DECLARED)
    assert listener.granted == {"taskIds": ["jobs:a", "jobs:b"]}


async def test_news_for_those_that_listen_costs_the_members_one_level(gateway, backend, nursery):
    """What is inside of an update passes as the bytes it came as."""
    ear = RawEar()
    nursery.start_soon(
        gateway.listens.listen,
        modern_caller(),
        b"1",
        jsonrpc.members_of(b'{"notifications":{"resourceSubscriptions":["x:1"]}}'),
        ear,
    )
    await trio.testing.wait_all_tasks_blocked()
    gateway.notices.resource_updated(backend, b'{"uri":"x:1","n":1.0e400}', None)
    await trio.testing.wait_all_tasks_blocked()
    assert ear.sent[1] == (
        b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":'
        b'{"uri":"x:1","n":1.0e400,"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}'
    )


class RawEar:
    queued = 0

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, parts) -> bool:
        self.sent.append(b"".join(parts))
        return True
