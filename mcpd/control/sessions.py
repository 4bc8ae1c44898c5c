"""The clients that mcpd has sessions with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.control.table import Operation
from mcpd.gateway import views

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations
    from mcpd.control.table import Schema


async def list_sessions(operations: Operations, ask: Ask) -> object:
    """Every session in memory, the one used last first, and how many clients without one listen for news."""
    return views.sessions(operations.gateway, operations.key)


_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}

TABLE: Final = (
    Operation(
        "GET",
        "/v1/sessions",
        list_sessions,
        "The sessions of clients, the one that was used last first.",
        answer={
            "type": "object",
            "required": ["sessions", "listening"],
            "properties": {
                "listening": {**_COUNT, "description": "Clients without a session that listen for news."},
                "sessions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["tag", "client", "principal", "protocol_version", "connection", "idle", "calls"],
                        "properties": {
                            "tag": {"type": "string", "description": "Tells sessions apart; of no use to a client."},
                            "client": {"type": "string", "description": "What it says that it is, unverified."},
                            "principal": {"type": "string"},
                            "protocol_version": {"type": "string"},
                            "connection": {"enum": ["http", "channel"]},
                            "age": {"type": "number", "description": "Seconds."},
                            "idle": {"type": "number", "description": "Seconds since it was last used."},
                            "calls": {**_COUNT, "description": "In flight."},
                            "questions": {**_COUNT, "description": "That its client has not answered yet."},
                            "subscriptions": _COUNT,
                            "listens": {"type": "boolean", "description": "Whether it has a stream open for news."},
                        },
                    },
                },
            },
        },
    ),
)
