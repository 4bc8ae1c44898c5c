from __future__ import annotations

import msgspec
import pytest
import trio

from mcpd.config.model import Config, Streams, Timeouts
from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from mcpd.protocol.capabilities import NOTHING, ClientCapability, ServerCapabilities
from mcpd.protocol.handshake import ClientHello, Event
from mcpd.protocol.versions import LATEST_HANDSHAKE, MODERN, Version
from tests.gateway.fakes import (
    Ear,
    FakeBackend,
    catalogue,
    hello,
    join,
    make_gateway,
    modern_caller,
    response_to,
    serve,
)

TOOLS = "notifications/tools/list_changed"
PROMPTS = "notifications/prompts/list_changed"
RESOURCES = "notifications/resources/list_changed"
DELAY = 0.05


async def start(nursery, tmp_path, *backends):
    config = Config(streams=Streams(list_changed_delay=DELAY))
    gateway = make_gateway(tmp_path, *backends, config=config)
    await nursery.start(gateway.run)
    await trio.testing.wait_all_tasks_blocked()
    return gateway


def listener(gateway, **facts):
    session, ear = join(gateway.sessions, **facts), Ear()
    session.listen(ear)
    return session, ear


# ---- lists


async def test_a_thousand_changes_are_one_notification(tmp_path, nursery, autojump_clock):
    backend = FakeBackend("b", catalogue(tools=["t"]))
    gateway = await start(nursery, tmp_path, backend)
    _session, ear = listener(gateway)
    for number in range(1000):
        backend.catalogue = catalogue(tools=[f"t{number}"])
        gateway.notices.catalogue_changed(backend, ("tools",))
    await trio.sleep(10)
    assert ear.methods() == [TOOLS]
    assert list(gateway.catalog.tools.routes) == ["b_t999"]


async def test_a_thousand_changes_over_a_while_are_two_at_most_for_a_delay(tmp_path, nursery, autojump_clock):
    backend = FakeBackend("b", catalogue(tools=["t"]))
    gateway = await start(nursery, tmp_path, backend)
    _session, ear = listener(gateway)
    for number in range(1000):
        backend.catalogue = catalogue(tools=[f"t{number}"])
        gateway.notices.catalogue_changed(backend, ("tools",))
        await trio.sleep(DELAY * 1.9 / 1000)
    await trio.sleep(10)
    assert len(ear.heard) <= 2
    assert "b_t999" in gateway.catalog.tools.routes


async def test_only_a_real_difference_is_told(tmp_path, nursery, autojump_clock):
    backend = FakeBackend("b", catalogue(tools=["t"]))
    gateway = await start(nursery, tmp_path, backend)
    _session, ear = listener(gateway)
    for _ in range(1000):
        gateway.notices.catalogue_changed(backend, ("tools",))
        await trio.sleep(DELAY / 10)
    backend.catalogue = catalogue(tools=["other"])
    gateway.notices.catalogue_changed(backend, ("tools",))
    backend.catalogue = catalogue(tools=["t"])
    gateway.notices.catalogue_changed(backend, ("tools",))
    await trio.sleep(10)
    assert ear.heard == []


async def test_each_kind_is_told_by_itself(tmp_path, nursery, autojump_clock):
    backend = FakeBackend("b")
    gateway = await start(nursery, tmp_path, backend)
    _session, ear = listener(gateway)
    for listed, expected in (
        (catalogue(prompts=["p"]), [PROMPTS]),
        (catalogue(prompts=["p"], resources=["x:1"]), [RESOURCES]),
        (catalogue(prompts=["p"], resources=["x:1"], resourceTemplates=["x:{y}"]), [RESOURCES]),
        (catalogue(tools=["t"]), [PROMPTS, RESOURCES, TOOLS]),
    ):
        backend.catalogue = listed
        gateway.notices.catalogue_changed(backend, ("tools",))
        await trio.sleep(1)
        assert ear.methods() == expected
        ear.heard.clear()


async def test_a_resource_that_a_hidden_backend_lists_too_is_no_difference(tmp_path, nursery, autojump_clock):
    first, second = FakeBackend("a", catalogue(resources=["x:1"])), FakeBackend("b")
    gateway = await start(nursery, tmp_path, first, second)
    _session, ear = listener(gateway)
    second.catalogue = catalogue(resources=["x:1"])
    gateway.notices.catalogue_changed(second, ("resources",))
    await trio.sleep(1)
    assert ear.heard == []


async def test_who_lists_gets_the_newest_at_once_and_no_stale_list_is_served(tmp_path, nursery, autojump_clock):
    backend = FakeBackend("b", catalogue(tools=["old"]))
    gateway = await start(nursery, tmp_path, backend)
    session, ear = listener(gateway)
    backend.catalogue = catalogue(tools=["new"])
    gateway.notices.catalogue_changed(backend, ("tools",))
    assert (await serve(gateway, session, "tools/list"))["tools"] == [{"name": "b_new"}]
    await trio.sleep(1)
    assert ear.methods() == [TOOLS]


async def test_a_client_that_shakes_hands_hears_nothing_yet(tmp_path, nursery, autojump_clock):
    backend = FakeBackend("b")
    gateway = await start(nursery, tmp_path, backend)
    session, ear = gateway.sessions.connect(""), Ear()
    session.listen(ear)
    for step in range(2):
        backend.catalogue = catalogue(tools=[f"t{step}"])
        gateway.notices.catalogue_changed(backend, ("tools",))
        gateway.notices.unrelated(backend, "notifications/message", b'{"level":"error","data":1}', None)
        await trio.sleep(1)
        assert ear.heard == []
        if step == 0:
            gateway.sessions.agree(session, ClientHello(LATEST_HANDSHAKE, NOTHING, ""))
    assert len((await serve(gateway, _ready(session), "tools/list"))["tools"]) == 1
    backend.catalogue = catalogue()
    gateway.notices.catalogue_changed(backend, ("tools",))
    await trio.sleep(1)
    assert ear.methods() == [TOOLS]


def _ready(session):
    session.handshake(Event.REQUEST)
    return session


async def test_who_has_no_stream_hears_it_later_and_once(tmp_path, nursery, autojump_clock):
    backend = FakeBackend("b")
    gateway = await start(nursery, tmp_path, backend)
    session = join(gateway.sessions)
    for number in range(5):
        backend.catalogue = catalogue(tools=[f"t{number}"])
        gateway.notices.catalogue_changed(backend, ("tools",))
        await trio.sleep(1)
    ear = Ear()
    session.listen(ear)
    assert ear.methods() == [TOOLS]


async def test_a_verdict_wakes_who_waits_for_one(tmp_path, nursery):
    gateway = await start(nursery, tmp_path, FakeBackend("b"))
    with trio.fail_after(20):
        async with trio.open_nursery() as waiting:
            waiting.start_soon(gateway.notices.wait_news)
            await trio.testing.wait_all_tasks_blocked()
            gateway.notices.verdict(gateway.backends[0])


# ---- updates of resources


def updated(uri: object) -> bytes:
    return msgspec.json.encode({"uri": uri, "vendor": 1})


async def test_updates_reach_subscribers_only(tmp_path, nursery):
    backend = FakeBackend("b", catalogue(resources=["x:1", "x:2"]))
    gateway = await start(nursery, tmp_path, backend)
    (one, ear_one), (two, ear_two), (_none, ear_none) = (listener(gateway) for _ in range(3))
    await serve(gateway, one, "resources/subscribe", {"uri": "x:1"})
    await serve(gateway, two, "resources/subscribe", {"uri": "x:1"})
    await serve(gateway, two, "resources/subscribe", {"uri": "x:2"})
    gateway.notices.resource_updated(backend, updated("x:1"), None)
    gateway.notices.resource_updated(backend, updated("x:2/part"), None)
    gateway.notices.resource_updated(backend, updated("x:3"), None)
    assert [m["params"] for m in ear_one.heard] == [{"uri": "x:1", "vendor": 1}]
    assert [m["params"]["uri"] for m in ear_two.heard] == ["x:1", "x:2/part"]
    assert ear_none.heard == []
    await serve(gateway, one, "resources/unsubscribe", {"uri": "x:1"})
    gateway.notices.resource_updated(backend, updated("x:1"), None)
    assert len(ear_one.heard) == 1


async def test_what_another_backend_says_about_a_uri_concerns_nobody(tmp_path, nursery):
    backend, other = FakeBackend("b", catalogue(resources=["x:1"])), FakeBackend("o")
    gateway = await start(nursery, tmp_path, backend, other)
    session, ear = listener(gateway)
    await serve(gateway, session, "resources/subscribe", {"uri": "x:1"})
    gateway.notices.resource_updated(other, updated("x:1"), None)
    assert ear.heard == []


async def test_a_sessions_own_link_speaks_to_that_session_and_what_it_subscribed(tmp_path, nursery):
    backend = FakeBackend("b", catalogue(resources=["x:1", "x:2"]), instances="per-session")
    gateway = await start(nursery, tmp_path, backend)
    (one, ear_one), (two, ear_two) = listener(gateway), listener(gateway)
    for session in (one, two):
        await serve(gateway, session, "resources/subscribe", {"uri": "x:1"})
    gateway.notices.resource_updated(backend, updated("x:1"), one.caller.key)
    gateway.notices.resource_updated(backend, updated("x:2"), one.caller.key)
    assert [m["params"]["uri"] for m in ear_one.heard] == ["x:1"]
    assert ear_two.heard == []
    gateway.sessions.end(one)
    gateway.notices.resource_updated(backend, updated("x:1"), one.caller.key)
    assert ear_two.heard == []


@pytest.mark.parametrize(
    "params", [b"5", b"{}", b'{"uri":5}', b'{"uri":"\xff"}', b'{"\xff":1}', b'{"uri":"\\ud800"}', b'{"uri":']
)
async def test_a_malformed_update_harms_nobody(tmp_path, nursery, params):
    backend = FakeBackend("b", catalogue(resources=["x:1"]))
    gateway = await start(nursery, tmp_path, backend)
    session, ear = listener(gateway)
    await serve(gateway, session, "resources/subscribe", {"uri": "x:1"})
    gateway.notices.resource_updated(backend, params, None)
    assert ear.heard == []


# ---- tasks


async def test_what_a_task_has_become_is_for_those_who_watch_it(tmp_path, nursery):
    backend = FakeBackend("b")
    backend.hello = hello(ServerCapabilities(extensions=("io.modelcontextprotocol/tasks",)), MODERN)
    gateway = await start(nursery, tmp_path, backend)
    _session, session_ear = listener(gateway)
    watching, other = Ear(), Ear()
    for ear, asked in ((watching, b'{"taskIds":["b:a"]}'), (other, b'{"taskIds":["b:b"],"toolsListChanged":true}')):
        caller = modern_caller(extensions=b'{"io.modelcontextprotocol/tasks":{}}')
        members = {"notifications": msgspec.Raw(asked)}
        nursery.start_soon(gateway.listens.listen, caller, b"1", members, ear)
    await trio.testing.wait_all_tasks_blocked()
    gateway.notices.task_changed(backend, b'{"taskId":"a","status":"completed"}')
    await trio.testing.wait_all_tasks_blocked()
    assert [message["params"].get("taskId") for message in watching.heard] == [None, "b:a"]
    assert (len(other.heard), session_ear.heard) == (1, [])


# ---- what belongs to no call


def line(level: str) -> bytes:
    return msgspec.json.encode({"level": level, "data": "x"})


async def test_a_log_line_goes_to_the_owner_or_the_only_client(tmp_path, nursery):
    backend = FakeBackend("b")
    gateway = await start(nursery, tmp_path, backend)
    one, ear_one = listener(gateway)
    gateway.notices.unrelated(backend, "notifications/message", line("info"), None)
    assert len(ear_one.heard) == 1
    _two, ear_two = listener(gateway)
    gateway.notices.unrelated(backend, "notifications/message", line("info"), None)
    gateway.notices.unrelated(backend, "notifications/message", line("info"), one.caller.key)
    assert len(ear_one.heard) == 2
    assert ear_two.heard == []
    gateway.sessions.end(one)
    gateway.notices.unrelated(backend, "notifications/message", line("info"), one.caller.key)
    assert ear_two.heard == []


async def test_a_log_line_below_the_clients_level_is_dropped(tmp_path, nursery):
    backend = FakeBackend("b")
    gateway = await start(nursery, tmp_path, backend)
    session, ear = listener(gateway)
    await serve(gateway, session, "logging/setLevel", {"level": "warning"})
    for level in ("debug", "notice", "warning", "emergency", "odd"):
        gateway.notices.unrelated(backend, "notifications/message", line(level), None)
    for junk in (b"5", b'{"\xff":1}'):
        gateway.notices.unrelated(backend, "notifications/message", junk, None)
    assert [m["params"]["level"] for m in ear.heard] == ["warning", "emergency", "odd"]
    gateway.notices.unrelated(backend, "notifications/elicitation/complete", b"{}", None)
    assert len(ear.heard) == 4


async def test_a_question_outside_any_call_goes_to_the_owner_or_the_only_client(tmp_path, nursery):
    backend = FakeBackend("b")
    gateway = await start(nursery, tmp_path, backend)
    session, ear = listener(gateway)
    for owner in (None, session.caller.key):
        nursery.start_soon(response_to, session, ear, b'{"roots":[]}')
        answer = await gateway.notices.ask_owner(backend, owner, "roots/list", b"{}")
        assert bytes(answer) == b'{"roots":[]}'


async def refusal(gateway, backend, owner, method, params=b"{}") -> RpcError:
    with pytest.raises(RpcError) as caught:
        await gateway.notices.ask_owner(backend, owner, method, params)
    return caught.value


async def test_nobody_is_asked_who_cannot_be_or_may_not_be_meant(tmp_path, nursery):
    backend = FakeBackend("b")
    gateway = await start(nursery, tmp_path, backend)
    assert (await refusal(gateway, backend, None, "roots/list")).code == METHOD_NOT_FOUND
    session = join(gateway.sessions, capabilities=ClientCapability.ELICITATION_FORM)
    assert (await refusal(gateway, backend, None, "roots/list")).code == METHOD_NOT_FOUND
    assert (await refusal(gateway, backend, None, "odd/method")).code == METHOD_NOT_FOUND
    error = await refusal(gateway, backend, None, "elicitation/create", b'{"mode":"url"}')
    assert (error.code, "url mode" in error.message) == (INVALID_PARAMS, True)
    error = await refusal(gateway, backend, None, "elicitation/create")
    assert (error.code, "no open stream" in error.message) == (INTERNAL_ERROR, True)
    session.listen(Ear(open=False))
    assert "no open stream" in (await refusal(gateway, backend, None, "elicitation/create")).message
    join(gateway.sessions)
    assert (await refusal(gateway, backend, None, "elicitation/create")).code == METHOD_NOT_FOUND
    assert (await refusal(gateway, backend, "gone", "elicitation/create")).code == METHOD_NOT_FOUND


async def test_a_question_that_an_old_client_cannot_be_asked(tmp_path, nursery):
    backend = FakeBackend("b")
    gateway = await start(nursery, tmp_path, backend)
    # It declares what its version does not have yet.
    able = ClientCapability.SAMPLING | ClientCapability.SAMPLING_TOOLS
    listener(gateway, version=Version.V2025_06_18, capabilities=able)
    error = await refusal(gateway, backend, None, "sampling/createMessage", b'{"messages":[],"tools":[]}')
    assert error.code == METHOD_NOT_FOUND


async def test_a_client_that_does_not_answer_is_not_waited_for_for_ever(tmp_path, nursery, autojump_clock):
    backend = FakeBackend("b", timeouts=Timeouts(ask=7.0))
    gateway = await start(nursery, tmp_path, backend)
    _session, ear = listener(gateway)
    error = await refusal(gateway, backend, None, "roots/list")
    assert "did not answer roots/list in 7 s" in error.message
    assert trio.current_time() == 7.0
    assert ear.methods() == ["roots/list", "notifications/cancelled"]
