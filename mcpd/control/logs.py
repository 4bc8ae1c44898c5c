"""What servers said on stderr, and when they began and ended."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mcpd.control.events import AFTER, cursor_of, names
from mcpd.control.refusal import Refusal
from mcpd.control.stream import Source, cleared, follow
from mcpd.control.table import Operation, flag, number, text
from mcpd.supervisor.logs import LINES_MAX

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations
    from mcpd.control.table import Schema
    from mcpd.supervisor.logs import Line

LINES: Final = 100
"""Lines that are shown where nobody says how many: a few screens."""


async def read_logs(operations: Operations, ask: Ask) -> object:
    """The last lines of some servers, or of all; with `follow`, and what they say from then on."""
    gateway = operations.gateway
    logs = gateway.logs
    servers = names(ask, "server")
    configured = [spec.name for spec in gateway.config.servers]
    if unknown := servers.difference(configured):
        known = ", ".join(configured) or "none"
        raise Refusal(HTTPStatus.NOT_FOUND, "not_found", f"there is no server {min(unknown)!r}", f"there are: {known}")
    cursor = cursor_of(ask)
    tail = logs.tail(servers, 0 if cursor else ask.number("lines", LINES))
    if not ask.flag("follow"):
        if cursor:
            tail = logs.read(cursor, servers)
        lines = [line.describe() for line in tail.lines]
        return {"lines": cleared(lines, gateway.secrets.redact), "cursor": tail.cursor}
    last = tail.lines

    def shown(lines: list[Line]) -> list[tuple[str, dict[str, object]]]:
        return [("line", {**line.describe(), "cursor": f"{logs.run}.{line.number}"}) for line in lines]

    def read(cursor: str) -> tuple[list[tuple[str, dict[str, object]]], str]:
        nonlocal last
        first, last = last, []
        if first:
            return shown(first), cursor
        reading = logs.read(cursor, servers)
        return shown(reading.lines), reading.cursor

    assert ask.request is not None
    return await follow(ask.request, gateway, Source(read, logs.wait_more), cursor or tail.cursor)


LINE: Final[Schema] = {
    "type": "object",
    "required": ["at", "server", "kind", "pid", "text"],
    "properties": {
        "at": {"type": "number", "description": "Seconds since 1970."},
        "server": {"type": ["string", "null"]},
        "kind": {"enum": ["line", "note", "gap"], "description": "What the server wrote, or what mcpd says of it."},
        "pid": {"type": ["integer", "null"]},
        "text": {"type": "string"},
    },
}

TABLE: Final = (
    Operation(
        "GET",
        "/v1/logs",
        read_logs,
        "The last lines that servers wrote to stderr, the oldest first, with marks for starts, ends and gaps.",
        query=(
            text("server", "Only these servers, separated by commas."),
            number("lines", f"How many lines; {LINES} if not said.", most=LINES_MAX),
            flag("follow", "Answer with an event stream that goes on with what comes."),
            AFTER,
        ),
        answer={
            "type": "object",
            "required": ["lines", "cursor"],
            "properties": {"lines": {"type": "array", "items": LINE}, "cursor": {"type": "string"}},
        },
        stream="text/event-stream",
        refusals=(HTTPStatus.NOT_FOUND,),
    ),
)
