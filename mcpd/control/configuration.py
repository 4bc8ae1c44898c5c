"""The configuration that is in effect, and how it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.control.refusal import invalid_configuration
from mcpd.control.table import Operation, flag
from mcpd.errors import ConfigError

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations


async def reload(operations: Operations, ask: Ask) -> object:
    """Read the configuration anew and do what differs; returns when it is done."""
    try:
        return await operations.runner.reload(dry_run=ask.flag("dry_run"), begin=ask.require_unchanged)
    except ConfigError as error:
        raise invalid_configuration(error) from None


TABLE: Final = (
    Operation(
        "POST",
        "/v1/reload",
        reload,
        "Read the configuration anew and do what differs; answered when it is done.",
        changes=True,
        query=(flag("dry_run", "Only say what would be done."),),
    ),
)
