"""How busy mcpd and each server is, for who looks again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from mcpd.control.table import Operation
from mcpd.gateway import views
from mcpd.gateway.load import WINDOW, Load, load
from mcpd.supervisor.usage import Usage

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations

KEYS: Final = ("name", "state", "asleep", "calls_in_flight", "restarts")
"""What is told of a server besides."""


async def show_load(operations: Operations, ask: Ask) -> object:
    """Calls and processes of every server."""
    gateway = operations.gateway
    loads, usage = load(gateway.events), await gateway.usage()
    servers = []
    for about in views.servers(gateway):
        name = str(about["name"])
        own, used = loads.get(name, Load()), usage.get(name, Usage())
        known: dict[str, object] = {key: about[key] for key in KEYS if key in about}
        servers.append({**known, "calls": own, "usage": used})
    return {
        "time": time.time(),
        "window": WINDOW,
        "sessions": len(gateway.sessions),
        "calls_in_flight": gateway.in_flight,
        "servers": servers,
    }


TABLE: Final = (
    Operation(
        "GET",
        "/v1/load",
        show_load,
        "How busy every server is: calls a second and how long they take, memory and processor time.",
        answer={
            "type": "object",
            "required": ["time", "window", "sessions", "calls_in_flight", "servers"],
            "properties": {
                "servers": {"type": "array", "items": {"type": "object", "required": ["name", "calls", "usage"]}}
            },
        },
    ),
)
