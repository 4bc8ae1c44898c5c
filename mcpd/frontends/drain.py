"""The end of the fronts when mcpd is stopped: what was begun is brought to its end, and nobody loses a call.

Theory of operation. From the signal on, new connections wait in the kernel for whoever serves the sockets next, and
each answer says that it is the last of its connection. Calls in flight end as they would. When there are none left, and
no client was answered so lately that its next request may be on the way, streams are ended, so that their clients come
back elsewhere, and idle connections are closed. A call that is still there after the grace is given up.

Rules.
1. It takes as long as what it waits for, and no longer than the grace and two times FAREWELL.
2. While a client owes the answer to a question of a call in flight, connections are accepted: it may need one for that.
3. A call that is parked has nobody who waits. It is waited for as long as a program takes to answer, not a person; what
   its client sends after that, the next mcpd refuses with the reason.
4. Streams that only tell news are nobody's call: they end last, so that nothing is missed before.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.gateway.gateway import Gateway
    from mcpd.supervisor.pipes import PipeWriter
    from mcpd.wire.http_server import HttpServer

log = logging.getLogger("mcpd.frontends")

LOOK: Final = 0.02
"""Seconds between looks at what is left. It is looked for nowhere else, so that calls cost nothing for it."""

ANSWER_WAIT: Final = 5.0
"""Seconds after a question in which a parked call is waited for: programs answer in less, people take longer."""

FAREWELL: Final = 1.0
"""Seconds for last words, once for what listens and once for all connections. A client that does not read them, or does
not take leave of its WebSocket, gets none."""


async def drain_http(server: HttpServer, gateway: Gateway, grace: float) -> None:
    """Bring everything over HTTP to its end. What is left when this returns is to be cancelled."""
    begun = trio.current_time()
    server.drain()

    def pending() -> bool:
        questions = any(session.questions for session in gateway.sessions)
        parked = gateway.inputs.awaited(trio.current_time() - ANSWER_WAIT)
        server.accept_on(questions or parked)
        return parked or _in_flight(gateway) > 0 or server.unsettled() > 0

    await _while(pending, grace)
    left = _in_flight(gateway)
    server.accept_on(False)
    gateway.close()
    await _while(lambda: bool(len(gateway.listens) or gateway.inputs.parked), FAREWELL)
    server.leave()
    await _while(lambda: server.statistics().connections > 0, FAREWELL)
    log.info("event=drained seconds=%.1f calls_given_up=%d", trio.current_time() - begun, left)


async def drain_stdio(gateway: Gateway, writer: PipeWriter, left: trio.Event, grace: float) -> None:
    """Answer what is in flight on stdio; a client that has `left`, closing its end, does not wait for that."""
    await _while(lambda: not left.is_set() and _in_flight(gateway) > 0, grace)
    gateway.close()
    await _while(lambda: bool(len(gateway.listens) or gateway.inputs.parked), FAREWELL)
    await _while(lambda: writer.queued > 0 and not writer.closed, FAREWELL)


def _in_flight(gateway: Gateway) -> int:
    """Calls that somebody waits for."""
    return gateway.in_flight - gateway.inputs.parked


async def _while(condition: Callable[[], bool], limit: float) -> None:
    with trio.move_on_after(limit):
        while condition():  # noqa: ASYNC110 - what ends it happens in many places, none of which pays for this
            await trio.sleep(LOOK)
