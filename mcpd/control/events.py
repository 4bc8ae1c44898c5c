"""What happens while mcpd runs, followed as an event stream."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mcpd.control.refusal import Refusal
from mcpd.control.stream import Source, follow
from mcpd.control.table import Operation, text
from mcpd.events import GAP, KINDS, BadCursor, split_cursor

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations


async def follow_events(operations: Operations, ask: Ask) -> object:
    """Answer with what happens from now on, or after a cursor."""
    gateway = operations.gateway
    events = gateway.events
    kinds = names(ask, "kind")
    if unknown := kinds - KINDS.keys():
        known = ", ".join(sorted(KINDS))
        raise Refusal(HTTPStatus.BAD_REQUEST, "bad_request", f"no event is of the kind {min(unknown)!r}", f"of {known}")
    servers = names(ask, "server")

    def read(cursor: str) -> tuple[list[tuple[str, dict[str, object]]], str]:
        reading = events.read(cursor, kinds)
        found: list[tuple[str, dict[str, object]]] = []
        if reading.gap:
            found.append((GAP, {"kind": GAP, "reason": reading.gap, "cursor": f"{events.run}.0"}))
        for event in reading.events:
            about = event.describe()
            if not servers or about.get("server") in servers:
                found.append((event.kind, {**about, "cursor": f"{events.run}.{event.number}"}))
        return found, reading.cursor

    assert ask.request is not None
    return await follow(ask.request, gateway, Source(read, events.wait_more), cursor_of(ask) or events.cursor)


def cursor_of(ask: Ask) -> str:
    """Where a reader wants to go on: as `after` says, else as its last event did; empty when it does not say.

    Raises: Refusal."""
    said = ask.request.head.headers.get(b"last-event-id", b"") if ask.request is not None else b""
    cursor = ask.query.get("after") or said.decode("latin-1")
    if cursor:
        try:
            split_cursor(cursor)
        except BadCursor as bad:
            raise Refusal(HTTPStatus.BAD_REQUEST, "bad_cursor", f"{cursor[:40]!r} is no cursor", str(bad)) from None
    return cursor


def names(ask: Ask, parameter: str) -> frozenset[str]:
    """Those of a query, separated by commas."""
    return frozenset(filter(None, ask.query.get(parameter, "").split(",")))


AFTER: Final = text(
    "after",
    "Go on after this cursor, which is the id of an event; 0 for all that is kept.",
    most=64,
    pattern="^(0|[0-9A-Za-z]{1,32}[.][0-9]{1,18})?$",
)

TABLE: Final = (
    Operation(
        "GET",
        "/v1/events",
        follow_events,
        "What happens from now on, or after a cursor, as an event stream that does not end.",
        query=(
            AFTER,
            text("kind", "Only events of these kinds, separated by commas."),
            text("server", "Only events of these servers, separated by commas."),
        ),
        stream="text/event-stream",
    ),
)
