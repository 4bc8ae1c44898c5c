"""Where each server of a configuration comes from: a file and its line, or somebody who added it while mcpd ran."""

from __future__ import annotations

import msgspec


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Who changed something while mcpd ran, when, and by what."""

    at: str
    """ISO 8601, in UTC, to the second."""
    by: str
    """Such as `uid=1000 (alice) pid=4711`."""
    how: str
    """The program that asked, such as `mcpctl/0.1.0`."""

    def __str__(self) -> str:
        return f"{self.at} by {self.by} with {self.how}"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Of one server."""

    file: str
    line: int | None = None
    added: Provenance | None = None
    """Where it is in the overlay: who put it there."""
    enabled_there: bool = True
    """Whether its definition has it enabled."""
    enabled: bool | None = None
    """What was said while mcpd ran, by `marked`; None: what its definition says counts."""
    marked: Provenance | None = None

    @property
    def place(self) -> str:
        """`FILE:LINE`."""
        return self.file + (f":{self.line}" if self.line is not None else "")


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """A server of the overlay that has no effect, because a file defines one of that name."""

    name: str
    file: str
    line: int | None
    """Where the one in effect is."""
    added: Provenance
    """Who added the other one."""

    def __str__(self) -> str:
        where = self.file + (f":{self.line}" if self.line is not None else "")
        return (
            f"{self.name}: {where} defines it, so what was added at {self.added.at} has no effect "
            f"(mcpctl remove-server {self.name} drops that)"
        )
