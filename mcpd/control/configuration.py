"""The configuration that is in effect, and how it changes."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mcpd.config.diff import Plan
from mcpd.config.overlay import ChangeRefused
from mcpd.config.shown import shown
from mcpd.control.refusal import Refusal, invalid_configuration, listed
from mcpd.control.table import Operation, flag
from mcpd.errors import ConfigError

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations
    from mcpd.control.table import Schema


async def reload(operations: Operations, ask: Ask) -> object:
    """Read the configuration anew and do what differs; returns when it is done."""
    try:
        return await operations.runner.reload(dry_run=ask.flag("dry_run"), begin=ask.require_unchanged)
    except ConfigError as error:
        raise invalid_configuration(error) from None


async def show_configuration(operations: Operations, ask: Ask) -> object:
    """What is in effect, without secrets, and where it is from."""
    return shown(operations.gateway.config)


async def compare_configuration(operations: Operations, ask: Ask) -> object:
    """What the files and the overlay say, against what runs."""
    try:
        return {"errors": [], **await operations.runner.compare()}
    except ConfigError as error:
        return {"errors": listed(error)}


async def check_configuration(operations: Operations, ask: Ask) -> object:
    """Look for faults, in what there is or in what would be added; do nothing. Raises: Refusal."""
    tables = tables_of(ask.body or {})
    try:
        if tables:
            return await operations.runner.try_out(tables)
        return await operations.runner.reload(dry_run=True, begin=ask.require_unchanged)
    except (ChangeRefused, ConfigError) as error:
        raise refused(error) from None


TABLES: Final[Schema] = {"type": "object", "additionalProperties": {"type": "object"}}

SERVERS: Final[Schema] = {
    "type": "object",
    "title": "servers under 'mcpServers' or 'servers', which mean the same",
    "description": "Servers in the form of the configuration file: see mcpd.yaml(5).",
    "additionalProperties": False,
    "properties": {"mcpServers": TABLES, "servers": TABLES, "$schema": {"type": "string"}},
    "anyOf": [{"not": {"required": ["mcpServers"]}}, {"not": {"required": ["servers"]}}],
}

STATUSES: Final = {
    "exists": HTTPStatus.CONFLICT,
    "in_file": HTTPStatus.CONFLICT,
    "no_overlay": HTTPStatus.CONFLICT,
    "changed_elsewhere": HTTPStatus.CONFLICT,
    "no_such_server": HTTPStatus.NOT_FOUND,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "not_written": HTTPStatus.INSUFFICIENT_STORAGE,
}
"""Of a change that is refused, by its code."""


def refused(error: ChangeRefused | ConfigError) -> Refusal:
    """As it is answered."""
    if isinstance(error, ChangeRefused):
        return Refusal(STATUSES[error.code], error.code, error.reason, error.remedy)
    return invalid_configuration(error)


def tables_of(body: Any) -> dict[str, Any]:  # noqa: ANN401 - it fits SERVERS
    """The servers in a body."""
    tables: dict[str, Any] = body.get("mcpServers", body.get("servers", {}))
    return tables


_PLAN: Final[Schema] = msgspec.json.schema(Plan)

OUTCOME: Final[Schema] = {
    "type": "object",
    "description": "What was done, or would be.",
    "required": ["dry_run", "plan", "servers", "draining", "seconds"],
    "properties": {
        "dry_run": {"type": "boolean"},
        "plan": {"$ref": _PLAN["$ref"]},
        "names": {
            "type": "array",
            "description": "The servers that were asked for, where it was not all of them.",
            "items": {"type": "string"},
        },
        "servers": {
            "type": "object",
            "description": "State, and error if there is one, of each server that was started or asked for.",
            "additionalProperties": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "draining": {
            "type": "array",
            "description": "Servers that lost their place and still have calls.",
            "items": {"type": "string"},
        },
        "seconds": {"type": "number"},
    },
    "$defs": _PLAN["$defs"],
}


EFFECTIVE: Final[Schema] = {
    "type": "object",
    "description": "What is in effect; times in seconds, sizes in bytes, and *** for what may be secret.",
    "required": ["sources", "settings", "servers", "origins", "conflicts", "problems"],
    "properties": {
        "sources": {"type": "array", "items": {"type": "string"}},
        "settings": {"type": "object"},
        "servers": TABLES,
        "origins": TABLES,
        "conflicts": {"type": "array", "items": {"type": "object"}},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
}

DIFFERENCE: Final[Schema] = {
    "type": "object",
    "description": "Either faults in `errors`, or what differs in the other members.",
    "required": ["errors"],
    "properties": {
        "errors": {"type": "array", "items": {"type": "object"}},
        "plan": {"$ref": _PLAN["$ref"]},
        "added": {"type": "array", "items": {"type": "object"}},
        "marked": {"type": "array", "items": {"type": "object"}},
        "conflicts": {"type": "array", "items": {"type": "object"}},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
    "$defs": _PLAN["$defs"],
}


TABLE: Final = (
    Operation(
        "GET",
        "/v1/config",
        show_configuration,
        "The configuration in effect without secrets, and which file or operator each server is from.",
        answer=EFFECTIVE,
        tagged=True,
    ),
    Operation(
        "GET",
        "/v1/config/diff",
        compare_configuration,
        "What files and changes say against what runs, and which changes have no effect.",
        answer=DIFFERENCE,
    ),
    Operation(
        "POST",
        "/v1/config/check",
        check_configuration,
        "Look for faults in the files, or in servers that would be added, and say what would be done.",
        # Nothing is changed, but mcpd's own environment and files are looked into for who asks.
        changes=True,
        body=SERVERS,
        body_needed=False,
        answer=OUTCOME,
        refusals=(409, 422),
    ),
    Operation(
        "POST",
        "/v1/reload",
        reload,
        "Read the configuration anew and do what differs; answered when it is done.",
        changes=True,
        query=(flag("dry_run", "Only say what would be done."),),
        answer=OUTCOME,
        refusals=(422,),
    ),
)
