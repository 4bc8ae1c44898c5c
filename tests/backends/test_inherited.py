from __future__ import annotations

from mcpd.backends.inherited import Inherited, update_of
from mcpd.backends.instances import Instances
from mcpd.backends.subscribers import Subscribers
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import Client, Heard, MemoryConnector, make_spec

A, B = Client("a").caller, Client("b").caller
MEMBERS = {"uri": b'"x:/1"'}


class Estate:
    """What a server's links are subscribed to, and what was told."""

    def __init__(self) -> None:
        self.common = {}
        self.subscribers = Subscribers()
        connector = MemoryConnector(make_spec(instances="per-session"), Deadlines())
        self.instances = Instances(connector, Heard(), at_failure=lambda: None)
        self.told = []
        self.inherited = Inherited(
            self.common, self.subscribers, self.instances, updated=lambda params, key: self.told.append((params, key))
        )


async def test_a_shared_link_replays_it_and_it_is_announced_once():
    estate = Estate()
    estate.inherited.add(A, "x:/1", MEMBERS, own=False)
    estate.inherited.add(B, "x:/1", MEMBERS, own=False)
    assert estate.common == {"x:/1": MEMBERS}
    estate.inherited.announce()
    estate.inherited.announce()
    assert estate.told == [(b'{"uri":"x:/1"}', None)]


async def test_what_was_given_up_before_is_not_announced():
    estate = Estate()
    estate.inherited.add(A, "x:/1", MEMBERS, own=False)
    del estate.common["x:/1"]
    estate.inherited.announce()
    assert estate.told == []


async def test_a_link_of_its_own_gets_it():
    estate = Estate()
    estate.inherited.add(A, "x:/1", MEMBERS, own=True)
    assert estate.instances.holding(A.key, "x:/1").subscriptions == {"x:/1": MEMBERS}
    assert estate.common == {}


async def test_links_turn_out_to_be_shared():
    estate = Estate()
    for caller in (A, B):
        estate.inherited.add(caller, "x:/1", MEMBERS, own=True)
    estate.inherited.share()
    assert estate.common == {"x:/1": MEMBERS}
    assert len(estate.instances) == 0
    assert not estate.subscribers.remove("x:/1", A.key), "the other one has it still"
    assert estate.subscribers.remove("x:/1", B.key)
    estate.inherited.announce()
    assert estate.told == [(b'{"uri":"x:/1"}', None)]


def test_a_uri_is_a_json_string():
    assert update_of('x:/"') == b'{"uri":"x:/\\""}'
