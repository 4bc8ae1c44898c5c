"""The configuration that is in effect, and how it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.config.diff import Plan
from mcpd.control.refusal import invalid_configuration
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


_PLAN: Final[Schema] = msgspec.json.schema(Plan)

OUTCOME: Final[Schema] = {
    "type": "object",
    "description": "What was done, or would be.",
    "required": ["dry_run", "plan", "servers", "draining", "seconds"],
    "properties": {
        "dry_run": {"type": "boolean"},
        "plan": {"$ref": _PLAN["$ref"]},
        "servers": {
            "type": "object",
            "description": "State, and error if there is one, of each server that was started.",
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


TABLE: Final = (
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
