from __future__ import annotations

import pytest
import trio

from mcpd.backends.backend import ManagedBackend
from mcpd.config.model import Limits
from mcpd.errors import BackendUnavailable
from mcpd.supervisor.states import State
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import Client, Heard, MemoryConnector, calling, make_spec


class Adjustable(MemoryConnector):
    """What it was told."""

    def adjust(self, limits, *, labelled):
        self.told = limits, labelled


async def running(nursery, **members):
    deadlines = Deadlines()
    connector = Adjustable(make_spec(**members), deadlines)
    backend = ManagedBackend(connector.spec, connector, Heard())
    await nursery.start(deadlines.run)
    return backend, connector


async def test_settings_change_under_a_running_server(nursery, autojump_clock):
    backend, connector = await running(nursery)
    nursery.start_soon(backend.run)
    await backend.wait_verdict()
    spec, limits = make_spec(prefix="other_"), Limits(message=5)
    backend.tenure.adjust(spec, limits, labelled=True)
    assert backend.spec is spec
    assert connector.told == (limits, True)
    assert len(connector.attempts) == 1
    assert not backend.tenure.over


async def test_who_waits_for_it_is_told_why_it_ends(nursery, autojump_clock):
    backend, connector = await running(nursery)
    connector.prepare = lambda carrier: carrier.answers.update({"initialize": lambda message: None})
    scope, client = trio.CancelScope(), Client()

    async def run():
        with scope:
            await backend.run()

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    call = client.call()
    waits = calling(nursery, backend.call, call, "tools/call", call.members)
    await trio.testing.wait_all_tasks_blocked()
    assert backend.state is State.STARTING
    assert not waits.done.is_set()
    backend.tenure.stop("it was removed")
    assert backend.tenure.over
    assert backend.state is State.STOPPING
    scope.cancel()
    await waits.done.wait()
    assert isinstance(waits.error, BackendUnavailable)
    assert "it was removed" in str(waits.error)
    with pytest.raises(BackendUnavailable, match="it was removed"):
        await backend.call(call, "tools/call", call.members)


async def test_one_that_is_lost_while_it_is_told_to_stop_is_not_started_again(nursery, autojump_clock):
    backend, connector = await running(nursery)
    nursery.start_soon(backend.run)
    await backend.wait_verdict()
    backend.tenure.stop("it was removed")
    connector.carriers[0].link.fail(BackendUnavailable("b", "gone"))
    await trio.sleep(1000)
    assert len(connector.attempts) == 1
    assert backend.state is State.STOPPING


async def test_one_that_does_not_run_is_stopped_too(nursery, autojump_clock):
    backend, connector = await running(nursery)
    connector.failing = BackendUnavailable("b", "no")
    nursery.start_soon(backend.run)
    await backend.wait_verdict()
    assert backend.state is State.BACKING_OFF
    backend.tenure.stop("it was removed")
    assert backend.state is State.STOPPED
