from __future__ import annotations

import msgspec
import pytest
import trio

from mcpd.backends.carried import LinkState
from mcpd.backends.shelf import Lease, Shelf, Shelves, State, Ticket, key_for
from mcpd.errors import BackendUnavailable, RpcError
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from tests.backends.parts import Client, calling, linked
from tests.backends.test_carried import HELLO


def make_shelf(*, waiting=0, opening=0):
    shelf = Shelf(("", EVERYTHING))
    tickets = [Ticket(shelf) for _ in range(waiting)]
    shelf.waiting.update(dict.fromkeys(tickets))
    shelf.opening = opening
    return shelf, tickets


def test_that_roots_change_makes_no_difference():
    roots = ClientCapability.ROOTS
    caller = Client(capabilities=roots).caller
    assert key_for(caller) == ("", roots)
    assert key_for(Client(capabilities=roots | ClientCapability.ROOTS_LIST_CHANGED).caller) == key_for(caller)
    assert key_for(msgspec.structs.replace(caller, principal="other")) == ("other", roots)


async def test_each_lease_has_an_owner_of_its_own():
    one, two = Lease(1), Lease(2, ahead=True)
    assert (one.owner, two.owner) == ("lease1", "lease2")
    assert (one.ahead, two.ahead) == (False, True)
    assert (one.state, one.placed, one.lost, one.clear) == (State.BLANK, False, False, False)


async def test_it_is_blank_until_it_is_placed():
    shelf, _ = make_shelf()
    lease = Lease(1)
    assert not lease.wish.known.is_set()
    lease.place(shelf)
    assert (lease.placed, lease.shelf, lease.state) == (True, shelf, State.OPENING)
    assert (lease.wish.known.is_set(), lease.wish.capabilities) == (True, EVERYTHING)
    assert (shelf.links, shelf.opening, shelf.idle) == (1, 1, [])


async def test_what_goes_on_keeps_its_place_among_the_idle_ones(autojump_clock):
    shelf, _ = make_shelf()
    leases = [Lease(number) for number in range(3)]
    now = trio.current_time()
    for lease, idle_for in zip(leases, (10, 30, 20), strict=True):
        lease.place(shelf)
        lease.idle_since = now - idle_for
        async with linked(opened=False) as (link, _, _):
            link.resume(LinkState(pid=1, modern=False, hello=HELLO, last_id=1, level="debug"))
            lease.go_on(link)
            assert link.level == "debug"
    assert shelf.idle == [leases[1], leases[2], leases[0]]
    assert [now - lease.idle_since for lease in shelf.idle] == [30, 20, 10]


async def test_a_shelf_is_there_as_long_as_it_serves_for_something(autojump_clock):
    shelves = Shelves()
    one, two = (shelves.of((principal, EVERYTHING)) for principal in "ab")
    assert shelves.of(("a", EVERYTHING)) is one
    assert (len(shelves), shelves.opening, shelves.longest_idle) == (2, False, None)
    leases = {Lease(1): two, Lease(2): one, Lease(3): two}
    for lease, shelf in leases.items():
        lease.place(shelf)
    assert shelves.opening
    for lease in leases:
        await trio.sleep(1)
        lease.become(State.IDLE)
    first, second, third = leases
    assert (shelves.opening, shelves.longest_idle) == (False, first)
    first.become(State.ENDED)
    assert shelves.longest_idle is second
    shelves.prune(two)
    assert len(shelves) == 2, "something is on it"
    third.become(State.ENDED)
    shelves.prune(two)
    assert len(shelves) == 1
    assert shelves.of(("b", EVERYTHING)) is not two


async def test_a_shelf_knows_what_its_links_do(autojump_clock):
    shelf, _ = make_shelf()
    one, two = Lease(1), Lease(2)
    for lease in (one, two):
        lease.place(shelf)
    for lease in (one, two):
        await trio.sleep(1)
        lease.become(State.IDLE)
    assert (shelf.links, shelf.opening, shelf.idle) == (2, 0, [one, two])
    assert two.idle_since == one.idle_since + 1 == trio.current_time()
    one.become(State.BUSY)
    assert (shelf.links, shelf.opening, shelf.idle) == (2, 0, [two])
    one.become(State.IDLE)
    assert shelf.idle == [two, one], "the one that was used last is at the end"
    two.become(State.ENDING)
    assert (shelf.links, shelf.opening, shelf.idle) == (2, 0, [one])
    two.become(State.ENDED)
    one.become(State.ENDED)
    assert (shelf.links, shelf.opening, shelf.idle) == (0, 0, [])


async def test_one_that_was_never_placed_ends_without_a_shelf():
    lease = Lease(1)
    lease.become(State.ENDING)
    lease.become(State.ENDED)
    assert lease.state is State.ENDED


async def test_a_lease_is_clear_when_nothing_is_left_of_a_call(nursery):
    lease = Lease(1)
    asked, released = trio.Event(), trio.Event()

    async def ask(method, params):
        asked.set()
        await released.wait()
        raise RpcError(-1, f"{method} {params}")

    async def question():
        with pytest.raises(RpcError, match="elicitation/create text"):
            await lease.ask(ask, "elicitation/create", "text")

    async with linked() as (link, carrier, _heard):
        lease.link = link
        assert lease.clear
        nursery.start_soon(question)
        await asked.wait()
        assert not lease.clear
        released.set()
        await trio.testing.wait_all_tasks_blocked()
        assert lease.clear
        carrier.answers["ping"] = lambda message: None
        calling(nursery, link.request, "ping", {}, 60.0)
        await carrier.wait_sent("ping")
        assert not lease.clear
        link.fail(BackendUnavailable("b", "gone"))
        assert lease.lost


async def test_a_ticket_is_settled_with_one_or_the_other():
    _shelf, (one, two) = make_shelf(waiting=2)
    lease, error = Lease(1), BackendUnavailable("b", "no")
    one.settle(lease)
    two.settle(error)
    assert (one.lease, one.error, one.settled.is_set()) == (lease, None, True)
    assert (two.lease, two.error, two.settled.is_set()) == (None, error, True)


def test_what_is_opened_is_for_who_waits_longest():
    shelf, tickets = make_shelf(waiting=3, opening=2)
    assert shelf.first is tickets[0]
    assert [shelf.expects(ticket) for ticket in tickets] == [True, True, False]
    del shelf.waiting[tickets[0]]
    assert shelf.first is tickets[1]
    assert [shelf.expects(ticket) for ticket in tickets[1:]] == [True, True]
    assert make_shelf()[0].first is None


def test_a_bare_shelf_has_neither_links_nor_who_waits():
    shelf, (ticket,) = make_shelf(waiting=1)
    assert not shelf.bare
    del shelf.waiting[ticket]
    assert shelf.bare
    shelf.links = 1
    assert not shelf.bare


async def test_a_lease_whose_backend_knows_the_roots_of_a_client_is_for_nobody_else():
    lease = Lease(1)

    async def ask(method, params):
        return b'{"roots":[]}'

    async with linked() as (link, _carrier, _heard):
        lease.link = link
        await lease.ask(ask, "sampling/createMessage", "{}")
        assert lease.clear
        await lease.ask(ask, "roots/list", "{}")
        assert not lease.clear
