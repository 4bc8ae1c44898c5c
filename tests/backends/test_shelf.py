from __future__ import annotations

import pytest
import trio

from mcpd.backends.shelf import Lease, Shelf, State, Ticket
from mcpd.errors import BackendUnavailable, RpcError
from mcpd.protocol.capabilities import EVERYTHING
from tests.backends.parts import calling, linked


def make_shelf(*, waiting=0, opening=0):
    shelf = Shelf(("", EVERYTHING))
    tickets = [Ticket(shelf) for _ in range(waiting)]
    shelf.waiting.update(dict.fromkeys(tickets))
    shelf.opening = opening
    return shelf, tickets


def test_each_lease_has_an_owner_of_its_own():
    shelf, _ = make_shelf()
    one, two = Lease(shelf, 1), Lease(shelf, 2)
    assert (one.owner, two.owner) == ("lease1", "lease2")
    assert (one.state, one.lost, one.clear) == (State.OPENING, False, False)


async def test_a_lease_is_clear_when_nothing_is_left_of_a_call(nursery):
    shelf, _ = make_shelf()
    lease = Lease(shelf, 1)
    asked, released = trio.Event(), trio.Event()

    async def ask(method, params):
        asked.set()
        await released.wait()
        raise RpcError(-1, f"{method} {params}")

    async def question():
        with pytest.raises(RpcError, match="roots/list text"):
            await lease.ask(ask, "roots/list", "text")

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


def test_a_ticket_is_settled_with_one_or_the_other():
    shelf, (one, two) = make_shelf(waiting=2)
    lease, error = Lease(shelf, 1), BackendUnavailable("b", "no")
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


@pytest.mark.parametrize(
    ("waiting", "opening", "idle", "expected"), [(0, 0, 0, False), (2, 2, 0, False), (2, 3, 0, True), (0, 0, 1, True)]
)
def test_a_spare_is_what_nobody_waits_for(waiting, opening, idle, expected):
    shelf, _ = make_shelf(waiting=waiting, opening=opening)
    shelf.idle = [Lease(shelf, number) for number in range(idle)]
    assert shelf.has_spare is expected


def test_a_bare_shelf_has_neither_links_nor_who_waits():
    shelf, (ticket,) = make_shelf(waiting=1)
    assert not shelf.bare
    del shelf.waiting[ticket]
    assert shelf.bare
    shelf.links = 1
    assert not shelf.bare
