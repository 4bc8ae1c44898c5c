"""Who holds which place, with backends that only say when they are ready; with real ones: tests/e2e."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio

from mcpd.backends.base import Catalogue
from mcpd.backends.carried import BackendState
from mcpd.roster import DRAIN
from mcpd.switch import LADDER, VERDICT_WAIT, Switch
from tests.test_reload import A, B, Mcpd, Runner


class Held(Runner):
    """It knows whether it is to run."""

    def __init__(self, spec, takes=0.0):
        super().__init__(spec, takes)
        self.drains = trio.Event()
        self.drains.set()

    @property
    def idle(self):
        return not self.runs

    def hold(self):
        self.held = True

    def await_start(self):
        pass

    def begin(self):
        pass

    def capture(self):
        return BackendState(name=self.name, identity="", hello=None, catalogue=Catalogue())

    def inherit(self, state):
        assert (state.links, state.leases, state.held) == ((), (), False)

    async def drain(self, seconds):
        await self.drains.wait()
        return True


async def running(directory, nursery) -> Mcpd:
    """Two servers that run, and their switch."""
    it = Mcpd(directory, A, B)
    it._build = lambda connector: held(it, connector)
    it.roster.backends = tuple(map(it._build, (SimpleNamespace(spec=A), SimpleNamespace(spec=B))))
    it.gateway.use(it.roster.backends)
    it.reloader._build = it._build
    it.switch = Switch(it.reloader, it.roster, it.gateway, prepare=it._prepare, build=it._build, supervisor=None)
    await it.run(nursery)
    return it


def held(it: Mcpd, connector) -> Held:
    backend = Held(connector.spec, it.takes)
    backend.news = it.gateway.notices
    return backend


async def test_who_stops_has_its_place_taken_at_once_and_ends_later(tmp_path, nursery, autojump_clock):
    mcpd = await running(tmp_path, nursery)
    old, other = mcpd.backend("a"), mcpd.backend("b")
    old.drains = trio.Event()
    nursery.start_soon(mcpd.switch.stop, "a")
    await trio.testing.wait_all_tasks_blocked()
    new = mcpd.backend("a")
    assert (new is old, new.held, new.runs, old.runs) == (False, True, False, True)
    assert mcpd.gateway.backends == (new, other)
    old.drains.set()
    await trio.testing.wait_all_tasks_blocked()
    assert (old.runs, other.runs, mcpd.roster.draining) == (False, True, [])
    await mcpd.switch.stop("a")
    assert mcpd.backend("a") is new, "it is stopped already"


async def test_the_next_one_starts_when_the_former_has_ended(tmp_path, nursery, autojump_clock):
    mcpd = await running(tmp_path, nursery)
    old = mcpd.backend("a")
    old.drains = trio.Event()
    nursery.start_soon(mcpd.switch.restart, "a")
    await trio.testing.wait_all_tasks_blocked()
    new = mcpd.backend("a")
    assert (old.runs, new.runs) == (True, False)
    old.drains.set()
    await trio.testing.wait_all_tasks_blocked()
    assert (old.runs, new.runs) == (False, True)
    await mcpd.switch.start("a")
    assert mcpd.backend("a") is new, "it runs already"
    await mcpd.switch.stop("a")
    await mcpd.switch.start("a")
    assert mcpd.backend("a").runs


async def test_what_was_removed_meanwhile_is_not_started(tmp_path, nursery, autojump_clock):
    mcpd = await running(tmp_path, nursery)
    old = mcpd.backend("a")
    old.drains = trio.Event()
    nursery.start_soon(mcpd.switch.restart, "a")
    await trio.testing.wait_all_tasks_blocked()
    new = mcpd.backend("a")
    mcpd.want(B)
    await mcpd.reloader.reload()
    old.drains.set()
    await trio.testing.wait_all_tasks_blocked()
    assert (new.runs, new.closed, mcpd.roster.draining) == (False, True, [])
    with pytest.raises(KeyError):
        await mcpd.switch.start("a")


async def test_it_takes_a_bounded_time(tmp_path, nursery, autojump_clock, caplog):
    mcpd = await running(tmp_path, nursery)
    mcpd.backend("a").drains = trio.Event()
    mcpd.takes = float("inf")
    began = trio.current_time()
    await mcpd.switch.restart("a")
    assert trio.current_time() - began == pytest.approx(DRAIN + LADDER + VERDICT_WAIT)
    assert "event=stop_late" in caplog.text
    assert mcpd.backend("a").runs
