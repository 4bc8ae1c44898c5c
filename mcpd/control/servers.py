"""The configured servers."""

from __future__ import annotations

import difflib
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mcpd.config.faults import shorten
from mcpd.control import tags
from mcpd.control.refusal import Refusal
from mcpd.control.table import Operation
from mcpd.gateway import views

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations


async def list_servers(operations: Operations, ask: Ask) -> object:
    """Every configured server with its true state."""
    return {"servers": views.servers(operations.gateway)}


async def show_server(operations: Operations, ask: Ask) -> object:
    """One of them. Raises: Refusal."""
    found = views.server(operations.gateway, ask.path["name"])
    if found is None:
        raise no_such_server(operations, ask.path["name"])
    return found


def no_such_server(operations: Operations, name: str) -> Refusal:
    """For a name that is not configured."""
    known = [spec.name for spec in operations.gateway.config.servers]
    near = difflib.get_close_matches(name, known, 1)
    remedy = f"did you mean {near[0]!r}?" if near else "GET /v1/servers lists them"
    return Refusal(HTTPStatus.NOT_FOUND, "no_such_server", f"no server {shorten(name)!r} is configured", remedy)


TABLE: Final = (
    Operation(
        "GET",
        "/v1/servers",
        list_servers,
        "Every configured server with its true state, in the order of the configuration.",
        tag=tags.servers,
        tagged=True,
    ),
    Operation(
        "GET",
        "/v1/servers/{name}",
        show_server,
        "One configured server with its true state.",
        tag=tags.server,
        tagged=True,
    ),
)
