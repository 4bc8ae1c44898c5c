"""What must be known of a backend's tools to call them: which run as tasks, and which arguments go into headers too.

Source: 2025-11-25 "Tasks" (`execution.taskSupport`); 2026-07-28 "Streamable HTTP" (`x-mcp-header`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.errors import ProtocolError
from mcpd.protocol import jsonrpc
from mcpd.protocol.mirror import Parameters

if TYPE_CHECKING:
    from mcpd.backends.base import Entry

log = logging.getLogger("mcpd.backends")


class ToolFacts(msgspec.Struct, frozen=True):
    """Keyed by a tool's name as JSON text. A snapshot: replaced with the list of tools."""

    as_tasks: frozenset[bytes] = frozenset()
    """Tools that can be called as tasks only (2025-11-25)."""
    parameters: dict[bytes, Parameters] = {}
    """Arguments that are mirrored in headers, where there are any (2026-07-28, HTTP)."""


NO_FACTS: Final = ToolFacts()

_MARKS: Final = (b"x-mcp-header", b"taskSupport", b"\\u00")
"""One of these is in the text of every tool that is worth a closer look; the last one is how a name can be hidden."""


def facts_of(tools: tuple[Entry, ...]) -> ToolFacts:
    """The facts of a list of tools, whose annotations are valid (see `valid`)."""
    as_tasks: list[bytes] = []
    parameters: dict[bytes, Parameters] = {}
    for entry in tools:
        if not _marked(entry):
            continue
        name = msgspec.json.encode(entry.key)
        if _requires_task(entry):
            as_tasks.append(name)
        try:
            found = Parameters.read(jsonrpc.members_of(entry.raw).get("inputSchema"))
        except ValueError:
            continue
        if found:
            parameters[name] = found
    return ToolFacts(frozenset(as_tasks), parameters)


def valid(tools: tuple[Entry, ...], backend: str) -> tuple[Entry, ...]:
    """The tools that may be called over HTTP: those whose `x-mcp-header` annotations break a rule are left out.

    Source: 2026-07-28 "Streamable HTTP": clients reject such tools and say why.
    """
    kept: list[Entry] = []
    for entry in tools:
        if _marked(entry):
            try:
                Parameters.read(jsonrpc.members_of(entry.raw).get("inputSchema"))
            except ValueError as error:
                log.warning("backend=%s event=tool_dropped tool=%r reason=%s", backend, entry.key[:80], error)
                continue
        kept.append(entry)
    return tuple(kept)


def _marked(entry: Entry) -> bool:
    return any(mark in entry.raw for mark in _MARKS)


def _requires_task(entry: Entry) -> bool:
    try:
        execution = jsonrpc.members_of(entry.raw).get("execution")
        return execution is not None and bytes(jsonrpc.members_of(execution).get("taskSupport", b"")) == b'"required"'
    except ProtocolError:
        return False
