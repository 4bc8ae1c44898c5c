"""The configured servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.control.table import Operation
from mcpd.gateway import views

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations


async def list_servers(operations: Operations, ask: Ask) -> object:
    """Every configured server with its true state."""
    return {"servers": views.servers(operations.gateway)}


TABLE: Final = (
    Operation(
        "GET",
        "/v1/servers",
        list_servers,
        "Every configured server with its true state, in the order of the configuration.",
    ),
)
