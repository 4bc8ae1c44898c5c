from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, RpcError
from mcpd.gateway.subscriptions import SUB_RESOURCES_MAX, Subscriptions, covering
from mcpd.protocol.capabilities import ServerCapabilities
from tests.gateway.fakes import FakeBackend, hello, join, make_sessions, subscribe_call


async def add(subscriptions, session, uri, backend, **meta):
    call = subscribe_call(session, uri, **meta)
    await subscriptions.add(session, call, uri, backend, call.members)


@pytest.fixture
def subscriptions():
    return Subscriptions(3)


async def test_a_shared_backend_is_subscribed_by_the_first_and_unsubscribed_by_the_last(tmp_path, subscriptions):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    one, two = join(sessions), join(sessions)
    for session in (one, two, one):
        await add(subscriptions, session, "x:1", backend)
    assert backend.subscribed == {"x:1": 1}
    assert subscriptions.holders(backend, "x:1") == {one.caller.key, two.caller.key}
    await subscriptions.remove(one, "x:1")
    await subscriptions.remove(one, "x:1")
    assert backend.unsubscribed == []
    await subscriptions.remove(two, "x:1")
    assert backend.unsubscribed == [(two.caller.key, "x:1")]
    assert len(subscriptions) == 0
    assert one.subscriptions == two.subscriptions == {}
    await add(subscriptions, two, "x:1", backend)
    assert backend.subscribed == {"x:1": 1}


async def test_a_backend_per_session_is_subscribed_by_each(tmp_path, subscriptions):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b", instances="per-session")
    one, two = join(sessions), join(sessions)
    await add(subscriptions, one, "x:1", backend)
    await add(subscriptions, two, "x:1", backend)
    assert backend.subscribed == {"x:1": 2}
    await subscriptions.remove(one, "x:1")
    await subscriptions.remove(two, "x:1")
    assert [key for key, _uri in backend.unsubscribed] == [one.caller.key, two.caller.key]
    assert len(subscriptions) == 0


async def test_the_last_one_to_leave_orphans_a_topic(tmp_path, subscriptions):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    one, two = join(sessions), join(sessions)
    await add(subscriptions, one, "x:1", backend)
    await add(subscriptions, one, "x:2", backend)
    await add(subscriptions, two, "x:2", backend)
    assert subscriptions.last_of(one) == [(backend, "x:1")]
    assert subscriptions.last_of(one) == []
    assert subscriptions.last_of(two) == [(backend, "x:2")]
    assert len(subscriptions) == 0


async def test_subscriptions_of_a_session_are_bounded_also_while_under_way(tmp_path, subscriptions, nursery):
    session, backend = join(make_sessions(tmp_path)), FakeBackend("b")
    backend.gate = trio.Event()
    for number in range(3):
        nursery.start_soon(add, subscriptions, session, f"x:{number}", backend)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(RpcError, match=r"limits\.subscriptions") as caught:
        await add(subscriptions, session, "x:9", backend)
    assert caught.value.code == INTERNAL_ERROR
    backend.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    await add(subscriptions, session, "x:0", backend)
    await subscriptions.remove(session, "x:0")
    await add(subscriptions, session, "x:9", backend)


async def test_a_failed_subscription_leaves_nothing(tmp_path, subscriptions):
    session, backend = join(make_sessions(tmp_path)), FakeBackend("b")
    backend.error = RpcError(-32002, "no such resource")
    for _ in range(9):
        with pytest.raises(RpcError, match="no such"):
            await add(subscriptions, session, "x:1", backend)
    assert session.subscriptions == {}
    assert len(subscriptions) == 0


async def test_a_cancelled_subscription_leaves_nothing(tmp_path, subscriptions, autojump_clock):
    session, backend = join(make_sessions(tmp_path)), FakeBackend("b")
    backend.gate = trio.Event()
    with trio.move_on_after(1):
        await add(subscriptions, session, "x:1", backend)
    assert session.subscriptions == {}
    assert len(subscriptions) == 0


async def test_a_backend_without_subscriptions_refuses(tmp_path, subscriptions):
    session, backend = join(make_sessions(tmp_path)), FakeBackend("b")
    backend.hello = hello(ServerCapabilities(resources=True))
    with pytest.raises(RpcError, match="backend 'b' does not support") as caught:
        await add(subscriptions, session, "x:1", backend)
    assert caught.value.code == INVALID_PARAMS


async def test_clients_that_subscribe_at_once_subscribe_the_backend_once(tmp_path, subscriptions, nursery):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    one, two, three = join(sessions), join(sessions), join(sessions)
    backend.gate = trio.Event()
    for session in (one, two, three):
        nursery.start_soon(add, subscriptions, session, "x:1", backend)
    await trio.testing.wait_all_tasks_blocked()
    backend.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert backend.subscribed == {"x:1": 1}
    assert len(subscriptions.holders(backend, "x:1")) == 3


async def test_if_the_first_of_many_fails_the_next_tries(tmp_path, subscriptions, autojump_clock, nursery):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    backend.gate = trio.Event()
    one, two = join(sessions), join(sessions)
    with trio.move_on_after(1):
        async with trio.open_nursery() as inner:
            inner.start_soon(add, subscriptions, one, "x:1", backend)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(add, subscriptions, two, "x:1", backend)
    backend.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert subscriptions.holders(backend, "x:1") == {two.caller.key}
    assert one.subscriptions == {}


async def test_a_last_unsubscribe_and_a_first_subscribe_do_not_overtake_each_other(tmp_path, subscriptions, nursery):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    one, two = join(sessions), join(sessions)
    await add(subscriptions, one, "x:1", backend)
    backend.gate = trio.Event()
    nursery.start_soon(subscriptions.remove, one, "x:1")
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(add, subscriptions, two, "x:1", backend)
    await trio.testing.wait_all_tasks_blocked()
    assert len(backend.subscribe_members) == 1
    backend.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert backend.subscribed == {"x:1": 1}
    assert subscriptions.holders(backend, "x:1") == {two.caller.key}


async def test_a_session_that_ended_meanwhile_holds_nothing(tmp_path, subscriptions, nursery):
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    session = join(sessions)
    backend.gate = trio.Event()
    nursery.start_soon(add, subscriptions, session, "x:1", backend)
    await trio.testing.wait_all_tasks_blocked()
    sessions.end(session)
    assert subscriptions.last_of(session) == []
    backend.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(subscriptions) == 0
    assert backend.dropped == ["x:1"]
    assert backend.subscribed == {"x:1": 0}


async def test_a_uri_that_moved_to_another_backend_is_unsubscribed_there(tmp_path, subscriptions):
    sessions, old, new = make_sessions(tmp_path), FakeBackend("old"), FakeBackend("new")
    one, two = join(sessions), join(sessions)
    await add(subscriptions, one, "x:1", old)
    await add(subscriptions, two, "x:1", new)
    assert (old.subscribed, new.subscribed) == ({"x:1": 1}, {"x:1": 1})
    await add(subscriptions, one, "x:1", new)
    assert (old.subscribed, new.subscribed) == ({"x:1": 0}, {"x:1": 1})
    assert len(subscriptions.holders(new, "x:1")) == 2
    assert subscriptions.holders(old, "x:1") == set()


async def test_a_clients_progress_token_is_not_kept_with_a_subscription(tmp_path, subscriptions):
    """It is sent again when the backend lost its session; by then the token is another call's id."""
    sessions, backend = make_sessions(tmp_path), FakeBackend("b")
    await add(subscriptions, join(sessions), "x:1", backend, progressToken=3, vendor=1)
    await add(subscriptions, join(sessions), "x:2", backend, vendor=1)
    assert backend.subscribe_members == [
        {"uri": "x:1", "_meta": {"vendor": 1}},
        {"uri": "x:2", "_meta": {"vendor": 1}},
    ]


def is_covered(subscribed: str, updated: str) -> bool:
    """The definition that `covering` turns round."""
    if subscribed == updated:
        return True
    rest = updated[len(subscribed) :]
    return updated.startswith(subscribed) and (subscribed.endswith("/") or rest[0] in "/?#")


@given(st.text("a/?#", max_size=8), st.integers(0, 8))
def test_an_update_covers_the_uri_and_what_it_is_part_of(updated, cut):
    found = list(covering(updated))
    assert updated in found
    assert all(is_covered(uri, updated) for uri in found)
    subscribed = updated[:cut]
    assert (subscribed in found) == is_covered(subscribed, updated)


def test_updates_of_sub_resources():
    assert "file:///a" in covering("file:///a/b.txt")
    assert "file:///a/" in covering("file:///a/b.txt")
    assert "x:1" in covering("x:1#part")
    assert "file:///a" not in covering("file:///ab")
    assert "file:///a/b" not in covering("file:///a")
    assert list(covering("/" * (SUB_RESOURCES_MAX + 1))) == ["/" * (SUB_RESOURCES_MAX + 1)]
