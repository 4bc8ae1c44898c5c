from __future__ import annotations

import trio

from mcpd.roster import DRAIN, Roster


class Runner:
    """A backend as the roster knows one: it runs until it is cancelled, and has calls."""

    held = False

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.calls = 0
        self.done = trio.Event()
        self.tenure = self
        self.why = ""
        self.closed = False
        self.ran: list[str] = []

    async def close(self) -> None:
        self.closed = True

    def stop(self, why: str) -> None:
        self.why = why

    def describe(self):
        return {"calls_in_flight": self.calls}

    async def drain(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            if self.calls:
                await self.done.wait()
            return True
        return False

    async def run(self) -> None:
        self.ran.append("begun")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            self.ran.append("ended")


async def test_each_runs_until_it_is_retired_and_the_others_go_on(nursery, autojump_clock):
    roster, one, two = Roster(), Runner("one"), Runner("two")
    await nursery.start(roster.run)
    roster.start([one, two])
    await trio.testing.wait_all_tasks_blocked()
    roster.retire([one], "because")
    assert roster.draining == [one]
    await trio.testing.wait_all_tasks_blocked()
    assert (one.why, one.ran) == ("because", ["begun"]), "it is being stopped"
    assert roster.draining == [one]
    await trio.sleep(1.1)
    assert (one.ran, two.ran, roster.draining) == (["begun", "ended"], ["begun"], [])
    assert (one.closed, two.closed) == (True, False)


async def test_calls_are_waited_for(nursery, autojump_clock):
    roster, one = Roster(), Runner()
    await nursery.start(roster.run)
    roster.start([one])
    one.calls = 1
    roster.retire([one], "because")
    await trio.sleep(DRAIN - 1)
    assert one.why == ""
    one.done.set()
    await trio.testing.wait_all_tasks_blocked()
    assert one.why == "because"


async def test_calls_are_not_waited_for_without_end(nursery, autojump_clock):
    roster, one = Roster(), Runner()
    await nursery.start(roster.run)
    roster.start([one])
    one.calls = 1
    roster.retire([one], "because")
    await trio.sleep(DRAIN + 0.1)
    assert one.why == "because"
    await trio.sleep(1.1)
    assert one.ran == ["begun", "ended"]


async def test_all_end_with_the_roster(autojump_clock):
    roster, one, two = Roster(), Runner(), Runner()
    async with trio.open_nursery() as nursery:
        await nursery.start(roster.run)
        roster.start([one, two])
        two.calls = 1
        roster.retire([two], "because")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert one.ran == two.ran == ["begun", "ended"]
