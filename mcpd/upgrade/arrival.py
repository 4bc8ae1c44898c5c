"""The new program takes its place: first it is what the old one was, then it goes on, in the right order.

Rules.
1. Streams to clients are open again before a server can say anything, and servers are there before a request begins.
2. What the new configuration does not have, or has differently, is not gone on with: its children are stopped.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import trio

from mcpd import __version__
from mcpd.supervisor.states import State as BackendState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcpd.backends.backend import ManagedBackend
    from mcpd.gateway.gateway import Gateway
    from mcpd.roster import Roster
    from mcpd.supervisor.supervisor import Supervisor
    from mcpd.upgrade.state import State
    from mcpd.wire.http_server import HttpServer

log = logging.getLogger("mcpd")

TURNS: Final = 10
"""Of the scheduler, until a request that was received already is at its handler: three, and as many again to spare."""

STARTING: Final = 1.0
"""Seconds for backends to begin with their first attempt; it takes a few turns of the scheduler."""


def accept(left: State, supervisor: Supervisor, backends: Sequence[ManagedBackend], gateway: Gateway) -> None:
    """Be what the program before was, as far as nothing has to run for that."""
    states = {state.name: state for state in left.backends}
    heirs = [backend for backend in backends if backend.name in states]
    supervisor.inherit(left.supervisor, {pid for heir in heirs for pid in heir.inherit(states[heir.name])})
    if left.events is not None:
        gateway.events.inherit(left.events)
    if left.logs is not None:
        gateway.logs.inherit(left.logs, gateway.secrets.redact)
    gateway.gate.close()


async def go_on(
    left: State,
    server: HttpServer,
    roster: Roster,
    gateway: Gateway,
) -> None:
    """Go on with connections, start the backends, and let requests begin (rule 1)."""
    server.take_up(left.connections)
    for _ in range(TURNS):
        await trio.lowlevel.checkpoint()
    roster.start(roster.backends)
    with trio.move_on_after(STARTING):
        waited = [backend for backend in roster.backends if not (backend.asleep or backend.tenure.held)]
        while any(backend.state is BackendState.STOPPED for backend in waited):
            await trio.lowlevel.checkpoint()  # until then a call would not wait for it
    gateway.gate.open()
    gateway.events.emit("mcpd", what="upgraded", version=__version__, **{"from": left.version})
    log.info(
        "event=upgraded from=%s to=%s away=%.3f children=%d connections=%d",
        left.version,
        __version__,
        time.monotonic() - left.left_at,
        len(left.supervisor.children),
        len(left.connections),
    )
