"""What is changed while mcpd runs, and lasts: servers that are added and removed, switched on and off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.config.faults import shorten
from mcpd.config.overlay import ChangeRefused
from mcpd.control import tags
from mcpd.control.configuration import OUTCOME, SERVERS, TABLES, refused, tables_of
from mcpd.control.table import Operation, flag
from mcpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations
    from mcpd.control.table import Schema

HOW_MAX: Final = 80
"""Characters of the name by which a program introduces itself."""


async def add_servers(operations: Operations, ask: Ask) -> object:
    """Add servers for good. Raises: Refusal."""
    tables = tables_of(ask.body)
    return await made(
        operations.runner.add(tables, str(ask.who), how(ask), replace=ask.flag("replace"), begin=ask.require_unchanged)
    )


async def remove_server(operations: Operations, ask: Ask) -> object:
    """Remove one that was added. Raises: Refusal."""
    runner = operations.runner
    return await made(runner.remove(ask.path["name"], str(ask.who), how(ask), begin=ask.require_unchanged))


async def enable_server(operations: Operations, ask: Ask) -> object:
    """Switch one on. Raises: Refusal."""
    runner = operations.runner
    return await made(runner.enable(ask.path["name"], str(ask.who), how(ask), begin=ask.require_unchanged))


async def disable_server(operations: Operations, ask: Ask) -> object:
    """Switch one off. Raises: Refusal."""
    runner = operations.runner
    return await made(runner.disable(ask.path["name"], str(ask.who), how(ask), begin=ask.require_unchanged))


async def made(change: Awaitable[object]) -> object:
    """What a change gives. Raises: Refusal, with nothing changed."""
    try:
        return await change
    except (ChangeRefused, ConfigError) as error:
        raise refused(error) from None


def how(ask: Ask) -> str:
    """By what program somebody asks, as it says itself."""
    if ask.request is None:
        return "HTTP"
    return shorten(ask.request.head.headers.get(b"user-agent", b"HTTP").decode("latin-1"), HOW_MAX)


SOME: Final[Schema] = {**TABLES, "title": "a map of servers", "minProperties": 1}

ADDED: Final[Schema] = {
    **SERVERS,
    "title": "at least one server, under either 'mcpServers' or 'servers'",
    "properties": {**SERVERS["properties"], "mcpServers": SOME, "servers": SOME},
    "anyOf": [{"required": ["mcpServers"]}, {"required": ["servers"]}],
    "not": {"required": ["mcpServers", "servers"]},
}


TABLE: Final = (
    Operation(
        "POST",
        "/v1/servers",
        add_servers,
        "Add servers that stay after a restart; answered when each is up, or why it is not is known.",
        changes=True,
        query=(flag("replace", "Replace what was added under the same name before."),),
        body=ADDED,
        answer=OUTCOME,
        refusals=(409, 422, 507),
        tag=tags.servers,
    ),
    Operation(
        "DELETE",
        "/v1/servers/{name}",
        remove_server,
        "Remove a server that was added; one that a file defines is removed there.",
        changes=True,
        answer=OUTCOME,
        refusals=(409, 413, 422, 507),
        tag=tags.server,
    ),
    Operation(
        "POST",
        "/v1/servers/{name}/enable",
        enable_server,
        "Switch a server on for good, whatever its definition says.",
        changes=True,
        answer=OUTCOME,
        refusals=(409, 413, 422, 507),
        tag=tags.server,
    ),
    Operation(
        "POST",
        "/v1/servers/{name}/disable",
        disable_server,
        "Switch a server off for good, whatever its definition says.",
        changes=True,
        answer=OUTCOME,
        refusals=(409, 413, 422, 507),
        tag=tags.server,
    ),
)
