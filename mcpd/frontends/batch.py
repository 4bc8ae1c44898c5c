"""A batch of requests (2025-03-26 only): run side by side, everything about them on one event stream.

Source: "Batching" of 2025-03-26. Streams of batches are not resumable; the version that has batches rarely
uses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from mcpd.frontends.conversation import RequestTask

if TYPE_CHECKING:
    from mcpd.frontends.streams import EventOutlet
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Buffer, Message


async def run_batch(
    gateway: Gateway,
    session: Session,
    outlet: EventOutlet,
    requests: list[Message],
    errors: list[tuple[Buffer, ...]],
    calls_max: int,
) -> None:
    """Answer all requests in the order in which they are done, after the errors of what was none, and end
    the stream.
    """
    try:
        for parts in errors:
            outlet.send(parts)
        async with trio.open_nursery() as nursery:
            for message in requests:
                await RequestTask(gateway, session, message, outlet, calls_max).start(nursery)
    finally:
        outlet.end()
