"""mcpd itself: what it is doing, and its change into other code."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import trio

from mcpd import __version__
from mcpd.control.table import Operation
from mcpd.systemd.status import describe

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations
    from mcpd.control.table import Schema


async def status(operations: Operations, ask: Ask) -> object:
    """What mcpd is doing, in words and numbers."""
    gateway = operations.gateway
    states = [(each.name, "asleep" if each.asleep else each.state.value) for each in gateway.backends]
    return {
        "version": __version__,
        "pid": os.getpid(),
        "time": time.time(),
        "started": operations.started,
        "uptime": round(trio.current_time() - operations.began, 3),
        "status": describe(states),
        "states": dict(Counter(state for _, state in states)),
        "sessions": len(gateway.sessions),
        "calls_in_flight": gateway.in_flight,
        "configuration": gateway.config.source,
        "listen": list(operations.facts.listen),
        **operations.runner.describe(),
    }


async def upgrade(operations: Operations, ask: Ask) -> object:
    """Become the code that is installed now. What answers then is another program, which does not know of this
    request: the connection ends."""
    return await operations.upgrade()


STATUS: Final[Schema] = {
    "type": "object",
    "required": [
        *("version", "pid", "time", "started", "uptime", "status", "states", "sessions", "calls_in_flight"),
        *("configuration", "listen", "last_reload", "needs_restart", "draining"),
    ],
    "properties": {
        "version": {"type": "string"},
        "pid": {"type": "integer"},
        "time": {"type": "number", "description": "Seconds since 1970, now."},
        "started": {"type": "number", "description": "Seconds since 1970."},
        "uptime": {"type": "number", "description": "Seconds."},
        "status": {"type": "string", "description": "The states of all servers in words."},
        "states": {"type": "object", "additionalProperties": {"type": "integer"}},
        "sessions": {"type": "integer"},
        "calls_in_flight": {"type": "integer"},
        "configuration": {"type": "string", "description": "The file."},
        "listen": {"type": "array", "items": {"type": "string"}, "description": "Where clients connect: URLs."},
        "last_reload": {
            "type": ["object", "null"],
            "required": ["at", "ok", "errors"],
            "properties": {
                "at": {"type": "number"},
                "ok": {"type": "boolean"},
                "errors": {"type": "array", "items": {"type": "string"}},
            },
        },
        "needs_restart": {"type": "array", "items": {"type": "string"}},
        "draining": {"type": "array", "items": {"type": "string"}},
    },
}

TABLE: Final = (
    Operation("GET", "/v1/status", status, "What mcpd is doing, in words and numbers.", answer=STATUS),
    Operation(
        "POST",
        "/v1/upgrade",
        upgrade,
        "Become the code that is installed now, without a client noticing; the connection ends when it is done.",
        changes=True,
        status=None,
        refusals=(409,),
    ),
)
