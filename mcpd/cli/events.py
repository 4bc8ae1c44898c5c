"""`mcpctl events`: what happens, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcpd.cli import statuses
from mcpd.cli.following import as_line, clock, follow
from mcpd.cli.table import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from mcpd.control.client import Client

SUMMARY: Final = "follow what happens: states, restarts, lists, sessions, calls"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("--kind", action="append", default=[], metavar="KIND", help="only events of this kind")
    parser.add_argument("--server", action="append", default=[], metavar="NAME", help="only events of this server")
    parser.add_argument("--after", metavar="CURSOR", help="begin after this cursor; 0: with all that is kept")
    parser.add_argument("--count", type=int, metavar="N", help="end after N events")


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    query = {"kind": ",".join(options.kind), "server": ",".join(options.server), "after": options.after or ""}
    left = options.count
    if left is not None and left <= 0:
        return statuses.OK
    for event in follow(client, "/v1/events", query):
        print(as_line(event) if options.json else shown(event.data), flush=True)
        if left is not None:
            left -= 1
            if left <= 0:
                break
    return statuses.OK


def shown(event: dict[str, Any]) -> str:
    """An event for people."""
    kind = str(event.get("kind", "?"))
    text = printable(WORDS.get(kind, _fields)(event))
    server = f"{event['server']}: " if event.get("server") else ""
    return f"{clock(event.get('at'))} {kind:12} {printable(server)}{text}"


def _fields(event: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in event.items() if key not in ("at", "kind", "server", "cursor"))


def _restart(event: dict[str, Any]) -> str:
    again = event.get("retry_in")
    return f"{event.get('reason')}; " + (f"tried again in {again:g} s" if again is not None else "not tried again")


def _call(event: dict[str, Any]) -> str:
    what = event.get("tool") or event.get("prompt") or event.get("resource")
    why = "".join(f" {event[key]}" for key in ("code", "why") if event.get(key))
    return f"{what} {event.get('outcome')}{why}, {event.get('ms')} ms, by {event.get('client') or 'a client'}"


def _reload(event: dict[str, Any]) -> str:
    if not event.get("ok"):
        return "failed: " + "; ".join(event.get("errors", ()))
    words = ("added", "changed", "adjusted", "removed", "settings")
    parts = [f"{word} {', '.join(event[word])}" for word in words if event.get(word)]
    return "; ".join(parts) or "nothing differs"


def _operation(event: dict[str, Any]) -> str:
    refused = f", refused: {event['refused']}" if event.get("refused") else ""
    return f"{event.get('method')} {event.get('path')} by {event.get('by')}{refused}"


WORDS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "state": lambda event: f"{event.get('from')} → {event.get('to')}",
    "restart": _restart,
    "call": _call,
    "list_changed": lambda event: ", ".join(event.get("lists", ())),
    "session": lambda event: f"{event.get('what')}, {event.get('client') or 'a client'} ({event.get('protocol')})",
    "reload": _reload,
    "operation": _operation,
    "gap": lambda event: f"-- {event.get('reason')} --",
}
"""How an event of each kind is put; of others, every field."""
