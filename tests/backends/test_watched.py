"""Tasks that clients watch, counted."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.opening import Era
from mcpd.backends.watched import Watched
from mcpd.errors import BackendCrashed, RpcError
from tests.backends.parts import Failure, acknowledge, linked

LISTEN = "subscriptions/listen"


def listened(carrier):
    """The tasks of each stream, the first of which has none."""
    return [message["params"]["notifications"].get("taskIds") for message in carrier.named(LISTEN)[1:]]


class Place:
    """A modern link, and what is watched on it."""

    def __init__(self, link, carrier):
        self.link, self.carrier = link, carrier
        self.watched = link.watched = Watched()

    async def add(self, task):
        await self.watched.add(task, self.link)

    async def remove(self, task):
        self.watched.remove(task, self.link)
        await wait_all_tasks_blocked()


@asynccontextmanager
async def opened():
    async with linked(era=Era.MODERN) as (link, carrier, _):
        place = Place(link, carrier)
        await link.replay()
        yield place


async def test_a_task_is_listened_to_while_anybody_watches_it():
    async with opened() as place:
        for task in ("t1", "t1", "t2"):
            await place.add(task)
        assert (list(place.watched), len(place.watched)) == (["t1", "t2"], 2)
        assert "t1" in place.watched
        assert listened(place.carrier) == [["t1"], ["t1", "t2"]]
        await place.remove("t1")
        assert len(listened(place.carrier)) == 2
        await place.remove("t1")
        assert listened(place.carrier)[2:] == [["t2"]]
        await place.remove("t2")
        assert listened(place.carrier)[3:] == [None]
        assert len(place.watched) == 0


async def test_all_that_end_at_once_end_by_one_stream():
    async with opened() as place:
        for task in ("t1", "t2", "t3"):
            await place.add(task)
        for task in ("t1", "t2", "t3"):
            place.watched.remove(task, place.link)
        await wait_all_tasks_blocked()
        assert listened(place.carrier)[3:] == [None]


async def test_one_that_is_refused_is_not_watched():
    async with opened() as place:
        await place.add("t1")
        place.carrier.answers[LISTEN] = Failure(-32603, "too many")
        with pytest.raises(RpcError, match="too many"):
            await place.add("t2")
        await place.add("t1")
        await wait_all_tasks_blocked()
        assert list(place.watched) == ["t1"]
        assert listened(place.carrier) == [["t1"], ["t1", "t2"]]


async def test_one_that_is_not_acknowledged_leaves_the_filter():
    async with opened() as place:
        await place.add("t1")

        def listen(message):
            honoured = message["params"]["notifications"]
            known = [task for task in honoured["taskIds"] if task == "t1"]
            acknowledge(place.carrier, message, {**honoured, "taskIds": known})

        place.carrier.answers[LISTEN] = listen
        for _ in range(2):
            with pytest.raises(RpcError, match="does not tell of the task t2"):
                await place.add("t2")
            await wait_all_tasks_blocked()
        assert list(place.watched) == ["t1"]
        assert listened(place.carrier)[-1] == ["t1"]


async def test_who_leaves_before_the_backend_agreed_leaves_nothing(nursery):
    async with opened() as place:
        place.carrier.answers[LISTEN] = lambda message: None
        with trio.CancelScope() as scope:
            nursery.start_soon(leave, place.carrier, scope)
            await place.add("t1")
        await wait_all_tasks_blocked()
        assert len(place.watched) == 0
        assert listened(place.carrier) == [["t1"]]
        assert len(place.carrier.named("notifications/cancelled")) == 1


async def leave(carrier, scope):
    await carrier.wait_sent(LISTEN, 2)
    scope.cancel()


async def test_the_count_goes_on_without_a_link():
    async with opened() as place:
        await place.add("t1")
        place.link.fail(BackendCrashed("b", "gone"))
        assert list(place.watched) == ["t1"]
        with pytest.raises(RpcError):
            await place.add("t2")
        assert list(place.watched) == ["t1"]
        place.watched.remove("t1", None)
        assert len(place.watched) == 0
