"""What tasks have become while nothing told of them."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.doubts import Doubts
from mcpd.backends.opening import Era
from mcpd.config.model import Timeouts
from mcpd.errors import BackendCrashed
from tests.backends.parts import ENVELOPE, Failure, linked

GET = "tasks/get"


class Told:
    """Doubts about the tasks of a modern backend, and what they told."""

    def __init__(self, link, carrier):
        self.carrier = carrier
        self.tasks = []
        self.doubts = Doubts(link, lambda params: self.tasks.append(json.loads(bytes(params))))

    @property
    def asked(self):
        return [message["params"]["taskId"] for message in self.carrier.named(GET)]


def task(message, status="completed"):
    """The answer to a `tasks/get`."""
    own = {"resultType": "complete", "_meta": {ENVELOPE + "serverInfo": {"name": "x"}}}
    return {"taskId": message["params"]["taskId"], "status": status, "ttlMs": 5, **own}


def became(id, status="completed"):
    return {"taskId": id, "status": status, "ttlMs": 5}


def modern(**members):
    return linked(era=Era.MODERN, **members)


async def test_each_is_asked_for_once_and_told_of_as_news_is():
    async with modern() as (link, carrier, _):
        told = Told(link, carrier)
        carrier.answers[GET] = task
        told.doubts.add(("t1", "t2"))
        told.doubts.add(("t2", "t3"))
        await wait_all_tasks_blocked()
        assert told.asked == ["t1", "t2", "t3"]
        assert told.tasks == [became("t1"), became("t2"), became("t3")]
        declared = carrier.named(GET)[0]["params"]["_meta"][ENVELOPE + "clientCapabilities"]
        assert "io.modelcontextprotocol/tasks" in declared["extensions"]
        told.doubts.add(())
        await wait_all_tasks_blocked()
        assert len(told.asked) == 3
        told.doubts.add(("t1",))
        await wait_all_tasks_blocked()
        assert told.asked[3:] == ["t1"]


async def test_one_after_the_other():
    async with modern() as (link, carrier, _):
        told = Told(link, carrier)
        carrier.answers[GET] = lambda message: None
        told.doubts.add(("t1",))
        told.doubts.add(("t2",))
        await wait_all_tasks_blocked()
        told.doubts.add(("t3",))
        await wait_all_tasks_blocked()
        assert told.asked == ["t1"]
        for number in range(3):
            message = carrier.named(GET)[number]
            carrier.answer_to(message, task(message))
            await wait_all_tasks_blocked()
        assert told.asked == ["t1", "t2", "t3"]


async def test_what_told_of_itself_is_not_told_of_again():
    async with modern() as (link, carrier, _):
        told = Told(link, carrier)
        carrier.answers[GET] = lambda message: None
        told.doubts.add(("t1", "t2", "t3"))
        await wait_all_tasks_blocked()
        for id in ("t1", "t2", "unknown"):
            told.doubts.clear(id)
        carrier.answers[GET] = task
        (message,) = carrier.named(GET)
        carrier.answer_to(message, task(message, "working"))
        await wait_all_tasks_blocked()
        assert told.asked == ["t1", "t3"]
        assert told.tasks == [became("t3")]


async def test_an_answer_from_before_a_later_doubt_counts_for_nothing():
    async with modern() as (link, carrier, _):
        told = Told(link, carrier)
        carrier.answers[GET] = lambda message: None
        told.doubts.add(("t1",))
        await wait_all_tasks_blocked()
        told.doubts.add(("t1",))
        carrier.answers[GET] = task
        (message,) = carrier.named(GET)
        carrier.answer_to(message, task(message, "working"))
        await wait_all_tasks_blocked()
        assert told.asked == ["t1", "t1"]
        assert told.tasks == [became("t1")]


@pytest.mark.parametrize("answer", [Failure(-32602, "Task not found"), lambda message: None])
async def test_one_of_which_the_backend_says_nothing(answer, autojump_clock):
    async with modern(timeouts=Timeouts(list=3)) as (link, carrier, _):
        told = Told(link, carrier)

        def serve(message):
            if message["params"]["taskId"] != "t1":
                return task(message)
            if isinstance(answer, Failure):
                raise answer
            return answer(message)

        carrier.answers[GET] = serve
        told.doubts.add(("t1", "t2"))
        await trio.sleep(4)
        assert told.tasks == [became("t2")]


async def test_the_end_of_the_link_ends_it():
    async with modern() as (link, carrier, _):
        told = Told(link, carrier)
        carrier.answers[GET] = lambda message: None
        told.doubts.add(("t1", "t2"))
        await wait_all_tasks_blocked()
        link.fail(BackendCrashed("b", "gone"))
        await wait_all_tasks_blocked()
        told.doubts.add(("t3",))
        await wait_all_tasks_blocked()
        assert told.asked == ["t1"]
        assert told.tasks == []
