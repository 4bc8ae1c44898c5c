"""What was changed while mcpd ran: servers that were added, and others switched on or off. Values and text, no I/O.

    {"format": 1,
     "servers": {NAME: {"at": …, "by": …, "how": …, "table": {…}}},
     "marks": {NAME: {"at": …, "by": …, "how": …, "enabled": false}}}

Rules.
1. A table is kept as it was given: what `${…}` in it stands for is looked up whenever it is read, and never written.
2. What a file defines is the file's. It can be switched off here, but neither replaced nor removed.
3. Text of another format is refused as a whole: to guess what a newer mcpd meant would lose it at the next change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from mcpd.config.document import parse
from mcpd.config.faults import ConfigErrors, Faults
from mcpd.config.origins import Provenance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpd.config.document import Document
    from mcpd.config.faults import Path
    from mcpd.config.origins import Origin
    from mcpd.config.servers import Table

FORMAT: Final = 1

MAX_OVERLAY: Final = 4 * 1024 * 1024
"""Bytes, as of a configuration file: some ten thousand servers."""

REMEDY: Final = "mend it, or move it away: the servers that were added while mcpd ran are in it"


class ChangeRefused(Exception):
    """A change that is not made. `code` is for programs: `control.configuration` has all of them."""

    def __init__(self, code: str, reason: str, remedy: str) -> None:
        self.code = code
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{reason} ({remedy})")


@dataclass(frozen=True, slots=True)
class Entry:
    """A server that was added. `lines` are those of its table in the overlay's file, none before it was written."""

    table: Table
    added: Provenance
    lines: Mapping[Path, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """A server that was switched on or off."""

    enabled: bool
    marked: Provenance


@dataclass(frozen=True, slots=True)
class Overlay:
    """All of it. It is replaced, never edited."""

    servers: Mapping[str, Entry] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)

    def with_servers(
        self, tables: Mapping[str, Table], added: Provenance, defined: Mapping[str, Origin], *, replace: bool
    ) -> Overlay:
        """The same with servers added, in their order behind the others. `defined` is what files define.

        Raises: ChangeRefused.
        """
        for name in tables:
            if name in defined:
                raise ChangeRefused(
                    "in_file", f"{defined[name].place} defines '{name}'", "change it there, then mcpctl reload"
                )
            if name in self.servers and not replace:
                raise ChangeRefused(
                    "exists",
                    f"'{name}' is there already, added {self.servers[name].added}",
                    "say --replace (?replace=1), or take another name",
                )
        entries = {name: Entry(table, added) for name, table in tables.items()}
        # Whether it is enabled is what its table says now.
        marks = {name: mark for name, mark in self.marks.items() if name not in tables}
        return Overlay({**self.servers, **entries}, marks)

    def without_server(self, name: str, defined: Mapping[str, Origin]) -> Overlay:
        """The same without a server that was added. Raises: ChangeRefused."""
        if name not in self.servers:
            if name in defined:
                raise ChangeRefused(
                    "in_file",
                    f"{defined[name].place} defines '{name}'",
                    f"remove it there, then mcpctl reload; or switch it off: mcpctl disable {name}",
                )
            raise _unknown(name)
        marks = {other: mark for other, mark in self.marks.items() if other != name or name in defined}
        return Overlay({other: entry for other, entry in self.servers.items() if other != name}, marks)

    def with_mark(self, name: str, mark: Mark, defined: Mapping[str, Origin]) -> Overlay:
        """The same with a server switched on or off. One that its definition has so already needs no mark: what the
        definition says later is to count.

        Raises: ChangeRefused.
        """
        if name not in self.servers and name not in defined:
            raise _unknown(name)
        by_itself = defined[name].enabled_there if name in defined else enabled_by(self.servers[name].table)
        marks = {other: each for other, each in self.marks.items() if other != name}
        if mark.enabled is not by_itself:
            marks[name] = mark
        return Overlay(self.servers, marks)


def enabled_by(table: Table) -> bool:
    """Whether a table, which need not be a valid one, has its server enabled."""
    return table.get("enabled") is not False and table.get("disabled") is not True


def _unknown(name: str) -> ChangeRefused:
    return ChangeRefused("no_such_server", f"there is no server '{name[:80]}'", "mcpctl servers lists them")


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    at: str
    by: str
    how: str
    table: dict[str, msgspec.Raw]


class _Mark(msgspec.Struct, forbid_unknown_fields=True):
    at: str
    by: str
    how: str
    enabled: bool


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    servers: dict[str, _Entry] = {}
    marks: dict[str, _Mark] = {}


def decode(data: bytes, file: str) -> Overlay:
    """What the overlay's file says; its name, which ends in `.json`, is for messages. Raises: ConfigErrors."""
    if len(data) > MAX_OVERLAY:
        _refuse(file, f"longer than {MAX_OVERLAY} bytes")
    try:
        text = data.decode("utf-8")
        document = parse(text, file)
        form = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        _refuse(file, f"not an overlay of mcpd: {error}")
    if form.format != FORMAT:
        _refuse(file, f"of format {form.format}, this mcpd knows {FORMAT}")
    tables = _tables(document)
    return Overlay(
        {name: Entry(tables[name], _provenance(each), _lines(document, name)) for name, each in form.servers.items()},
        {name: Mark(each.enabled, _provenance(each)) for name, each in form.marks.items()},
    )


def _refuse(file: str, reason: str) -> NoReturn:
    faults = Faults(file)
    faults.add((), reason, REMEDY)
    faults.raise_any()
    raise AssertionError("a fault was added and not raised")


def _provenance(of: _Entry | _Mark) -> Provenance:
    return Provenance(at=of.at, by=of.by, how=of.how)


def _tables(document: Document) -> dict[str, Table]:
    assert isinstance(document.value, dict)
    servers = document.value.get("servers", {})
    assert isinstance(servers, dict)
    found = {name: entry["table"] for name, entry in servers.items() if isinstance(entry, dict)}
    return {name: table for name, table in found.items() if isinstance(table, dict)}


def _lines(document: Document, name: str) -> dict[Path, int]:
    start: Path = ("servers", name, "table")
    lines = {path[3:]: line for path, line in document.lines.items() if path[:3] == start}
    return {**lines, (): document.lines[start[:2]]}


def encode(overlay: Overlay) -> bytes:
    """The text of the file. Raises: ChangeRefused, for what would not be read again as it is."""
    servers = {
        name: {**msgspec.to_builtins(entry.added), "table": entry.table} for name, entry in overlay.servers.items()
    }
    marks = {
        name: {**msgspec.to_builtins(mark.marked), "enabled": mark.enabled} for name, mark in overlay.marks.items()
    }
    whole = {"format": FORMAT, "servers": servers, "marks": marks}
    try:
        data = json.dumps(whole, indent=1, allow_nan=False).encode("ascii") + b"\n"
        again = decode(data, "overlay.json")
    except (ValueError, RecursionError, ConfigErrors) as error:
        raise ChangeRefused("not_written", f"it cannot be written down: {error}", "leave out what is odd") from None
    if {name: entry.table for name, entry in again.servers.items()} != {
        name: entry.table for name, entry in overlay.servers.items()
    }:
        raise ChangeRefused("not_written", "it would not be read as it was given", "leave out what is odd")
    return data
