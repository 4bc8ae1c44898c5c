from __future__ import annotations

import msgspec
import trio

from mcpd.backends.backend import ManagedBackend
from mcpd.config.model import Config, Limits
from mcpd.gateway.gateway import Gateway
from mcpd.gateway.sessions import Sessions
from mcpd.gateway.vault import Vault
from mcpd.roster import Roster
from mcpd.supervisor.states import State as BackendPhase
from mcpd.supervisor.supervisor import Supervisor
from mcpd.upgrade import arrival
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import Heard, MemoryConnector, make_spec
from tests.backends.test_inheritance import left as backend_left
from tests.backends.test_inheritance import link_state
from tests.wire.http_peer import TEXT, serving


async def test_requests_begin_when_servers_are_there_and_streams_before(make_state, tmp_path, nursery):
    deadlines = Deadlines()
    connector = MemoryConnector(make_spec(), deadlines)
    backend = ManagedBackend(connector.spec, connector, Heard())
    limits = Limits()
    vault = Vault(tmp_path / "other", now=0, session_age=limits.session_age)
    gateway = Gateway(Config(), sessions=Sessions(vault, limits, clock=lambda: 0.0, first_serial=1))
    supervisor = Supervisor(None)
    state = make_state()
    [child] = state.supervisor.children
    state = msgspec.structs.replace(state, backends=(backend_left(link_state(pid=child.pid)),), connections=())
    arrival.accept(state, supervisor, [backend], gateway)
    assert gateway.gate.closed
    assert supervisor._unwanted == []
    phases: list[BackendPhase] = []

    async def note() -> None:
        await gateway.gate.wait()
        phases.append(backend.state)

    async def handle(request) -> None:
        request.answer(200, TEXT)

    roster = Roster()
    roster.backends = (backend,)
    nursery.start_soon(note)
    await nursery.start(deadlines.run)
    await nursery.start(roster.run)
    async with serving(handle) as at:
        await arrival.go_on(state, at.server, roster, gateway)
        with trio.fail_after(10):
            await backend.wait_verdict()
    assert not gateway.gate.closed
    assert phases[0] is not BackendPhase.STOPPED
    assert connector.carriers[0].methods() == []


async def test_children_of_a_server_that_is_configured_no_more_are_not_wanted(make_state, tmp_path):
    limits = Limits()
    vault = Vault(tmp_path / "other", now=0, session_age=limits.session_age)
    gateway = Gateway(Config(), sessions=Sessions(vault, limits, clock=lambda: 0.0, first_serial=1))
    supervisor = Supervisor(None)
    arrival.accept(make_state(), supervisor, [], gateway)
    assert supervisor._unwanted == [2]
