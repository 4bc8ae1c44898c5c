"""What is written down of a server; that another program goes on with it is shown in `test_inheritance`."""

from __future__ import annotations

import msgspec
import pytest

from mcpd.backends.base import Catalogue, Entry
from mcpd.backends.carried import BackendState, LeaseState, LinkState, Owner, capture_blank, capture_link, identity
from mcpd.config.model import Resources, Sandbox, Timeouts
from mcpd.errors import BackendUnavailable
from mcpd.protocol.capabilities import ClientCapability, ServerCapabilities
from mcpd.protocol.handshake import ServerHello
from mcpd.protocol.versions import LATEST_HANDSHAKE
from tests.backends.parts import Client, linked, make_spec

HELLO = ServerHello(LATEST_HANDSHAKE, ServerCapabilities(tools=True), b'{"name":"x"}', "be nice")


def test_the_owner_of_a_link_is_the_same_client_again():
    caller = Client("a", principal="alice", capabilities=ClientCapability.SAMPLING, log_level=3).caller
    again = Owner.of(caller).caller()
    facts = ("key", "principal", "version", "capabilities", "log_level")
    assert [getattr(again, fact) for fact in facts] == [getattr(caller, fact) for fact in facts]


def test_a_state_is_read_as_it_was_written():
    link = LinkState(
        pid=7,
        modern=False,
        hello=HELLO,
        last_id=9,
        subscriptions={"x:/1": b'{"uri":"x:/1"}'},
        partial=b'{"half',
        owner=Owner.of(Client("a").caller),
    )
    leases = (
        LeaseState(link=link, principal="alice", capabilities=5, idle_for=2.5),
        LeaseState(link=LinkState(pid=8, modern=False, hello=None, last_id=0), idle_for=0.5),
    )
    assert [lease.blank for lease in leases] == [False, True]
    listed = Catalogue(tools=(Entry("t", b'{"name":"t"}'),))
    state = BackendState(
        name="b", identity="i", hello=HELLO, catalogue=listed, links=(link,), leases=leases, ready_for=1.5
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=BackendState) == state


def test_a_state_of_an_mcpd_that_left_no_leases_is_read():
    state = BackendState(name="b", identity="i", hello=None, catalogue=Catalogue())
    members = msgspec.to_builtins(state)
    del members["leases"]
    assert msgspec.convert(members, BackendState) == state


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "other"},
        {"args": ("x",)},
        {"env": {"A": "b"}},
        {"cwd": "/"},
        {"instances": "leased"},
        {"user": "nobody"},
        {"group": "nogroup"},
        {"umask": "077"},
        {"nice": 5},
        {"resources": Resources(limit_nofile=64)},
        {"sandbox": Sandbox(inaccessible_paths=("/home",))},
        {"sandbox": Sandbox(no_new_privileges=False)},
    ],
)
def test_of_a_server_that_differs_no_link_goes_on(changes):
    spec = make_spec()
    assert identity(msgspec.structs.replace(spec, **changes)) != identity(spec)


def test_what_does_not_concern_its_process_makes_it_no_other_server():
    spec = make_spec()
    changed = msgspec.structs.replace(spec, timeouts=Timeouts(init=1), prefix="x", description="d")
    assert identity(changed) == identity(spec)


async def test_a_link_that_is_not_open_is_not_captured():
    async with linked(opened=False) as (link, _, _):
        assert capture_link(link) is None
        assert capture_blank(link) is None, "it is none to a child"
    async with linked() as (link, _, _):
        assert capture_link(link) is None, "it is none to a child"
        link.fail(BackendUnavailable("b", "gone"))
        assert capture_link(link) is None
