from __future__ import annotations

from mcpd.backends.instance import Instance
from mcpd.errors import BackendCrashed
from mcpd.types import SessionKey
from tests.backends.parts import Client, linked

KEY = SessionKey("1")


async def test_it_is_lost_when_its_link_is_or_when_there_is_none(autojump_clock):
    instance = Instance(KEY, Client("1").caller, None)
    assert (instance.lost, instance.in_flight, instance.last_used) == (False, 0, 0.0)
    instance.opened.set()
    assert instance.lost, "it could not be opened"
    async with linked() as (link, _, _):
        instance.link = link
        assert not instance.lost
        link.last_used = 7.0
        assert instance.last_used == 7.0
        link.fail(BackendCrashed("b", "gone"))
        assert instance.lost


async def test_what_replaces_it_goes_on_with_what_clients_want():
    former = Instance(KEY, Client("1").caller, None)
    former.sessions.add(KEY)
    former.subscriptions["x:/1"] = {}
    former.subscribers.add("x:/1", KEY)
    former.level = "error"
    again = Instance(KEY, former.caller, former)
    assert (again.sessions, again.subscriptions, "x:/1" in again.subscribers) == ({KEY}, {"x:/1": {}}, True)
    assert again.level is None, "that was set on another link"
    assert not again.lost
