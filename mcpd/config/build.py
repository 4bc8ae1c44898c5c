"""Trees → one checked Config, or everything that is wrong with them.

The main file's tree has all sections, a drop-in's only servers, the overlay (`overlay`) what was added while mcpd ran.
In each of them `${…}` is replaced (`substitution`), the form checked (`shape`), and each section built; one with a
fault in it is left out and the others are still looked at, so that one run tells all.

Rules.
1. A server is defined once: a name that two files have is a fault of the second one, which names both places.
2. Files win over the overlay. An entry whose name a file defines has no effect, which is told and is no fault: whoever
   wrote the file may not have known of the entry.
3. Servers are in the order of the main file, then of the drop-ins by their names, then of the overlay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from mcpd.config.document import Document
from mcpd.config.faults import MAX_FAULTS, ConfigErrors, Faults
from mcpd.config.model import (
    Audit,
    Caching,
    Config,
    Control,
    Limits,
    Listen,
    Log,
    Naming,
    Secrets,
    ServerSpec,
    Shutdown,
    Streams,
)
from mcpd.config.origins import Conflict, Origin
from mcpd.config.overlay import enabled_by
from mcpd.config.servers import as_table, build_server, check_server, secrets_of
from mcpd.config.shape import Shape, load_schema
from mcpd.config.substitution import Substitution

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path as FilePath

    from mcpd.config.document import Value
    from mcpd.config.faults import Path
    from mcpd.config.overlay import Entry, Overlay
    from mcpd.config.servers import Table

_SECTIONS: Final = {
    "listen": Listen,
    "naming": Naming,
    "limits": Limits,
    "streams": Streams,
    "shutdown": Shutdown,
    "caching": Caching,
    "control": Control,
    "log": Log,
    "audit": Audit,
}

_SERVERS_ONLY: Final = ("mcpServers", "servers", "$schema")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read. Its name is for messages."""

    name: str
    document: Document

    @property
    def key(self) -> str:
        """Under which of the two names its servers are."""
        return "mcpServers" if as_table(self.document.value).get("mcpServers") is not None else "servers"

    @property
    def tables(self) -> Table:
        """Its servers, as they were written."""
        return as_table(as_table(self.document.value).get(self.key))


@dataclass(slots=True)
class _Part:
    """What a source says."""

    faults: Faults
    top: Table = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    specs: list[ServerSpec] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)


def definitions(sources: Iterable[Source]) -> dict[str, Origin]:
    """Where files define servers; of a name that is there twice, the first place."""
    found: dict[str, Origin] = {}
    for source in sources:
        for name, table in source.tables.items():
            line = source.document.lines.get((source.key, name))
            there = enabled_by(as_table(table))
            found.setdefault(name, Origin(file=source.name, line=line, enabled_there=there))
    return found


def build(
    main: Source,
    drop_ins: Sequence[Source] = (),
    overlay: Overlay | None = None,
    *,
    overlay_file: str = "",
    environ: Mapping[str, str],
    credentials_directory: FilePath | None = None,
    lenient: bool = False,
) -> Config:
    """Check what was read. `lenient`: an entry of the overlay that has a fault is left out, and told of in `problems`.

    Raises: ConfigErrors, with one entry for each fault.
    """
    reader = _Reader(environ, credentials_directory)
    first = reader.read(main)
    parts = [first, *(reader.read(each, servers_only=True) for each in drop_ins)]
    _refuse_twice((main, *drop_ins), parts)
    errors = [error for part in parts for error in part.faults.found]
    specs = [spec for part in parts for spec in part.specs]
    secrets: set[str] = set().union(*(part.secrets for part in parts))
    origins = definitions((main, *drop_ins))
    conflicts: list[Conflict] = []
    problems: list[str] = []
    for name, entry in overlay.servers.items() if overlay is not None else ():
        if name in origins:
            at = origins[name]
            conflicts.append(Conflict(name=name, file=at.file, line=at.line, added=entry.added))
            continue
        part = reader.read(_of_overlay(name, entry, overlay_file), servers_only=True)
        if found := part.faults.found:
            if lenient:
                problems += (f"{name} is left out: {error}; or mcpctl remove-server {name}" for error in found)
            else:
                errors += found
            continue
        there = enabled_by(entry.table)
        origins[name] = Origin(file=overlay_file, line=entry.lines.get(()), added=entry.added, enabled_there=there)
        specs += part.specs
        secrets |= part.secrets
    if errors:
        raise ConfigErrors(errors[:MAX_FAULTS])
    marks = overlay.marks if overlay is not None else {}
    for index, spec in enumerate(specs):
        if (mark := marks.get(spec.name)) is not None:
            specs[index] = msgspec.structs.replace(spec, enabled=mark.enabled)
            at = origins[spec.name]
            origins[spec.name] = msgspec.structs.replace(at, enabled=mark.enabled, marked=mark.marked)
    top = first.top
    return Config(
        servers=tuple(specs),
        extensions=tuple(cast("list[str]", top.get("extensions") or [])),
        instructions=cast("str | None", top.get("instructions")),
        watch=cast("bool | None", top.get("watch")) or False,
        source=main.name,
        drop_ins=tuple(each.name for each in drop_ins),
        origins=origins,
        conflicts=tuple(conflicts),
        problems=tuple(problems),
        secrets=Secrets.of(secrets.union(*(secrets_of(spec, environ) for spec in specs))),
        **{section: kind(**first.sections[section]) for section, kind in _SECTIONS.items()},
    )


def _refuse_twice(sources: Sequence[Source], parts: Sequence[_Part]) -> None:
    seen: dict[str, Origin] = {}
    for source, part in zip(sources, parts, strict=True):
        for name in source.tables:
            if (first := seen.get(name)) is not None:
                part.faults.add(
                    (source.key, name), "the server is there twice", f"first in {first.place}; drop one of them"
                )
        seen = {**definitions([source]), **seen}


def _of_overlay(name: str, entry: Entry, file: str) -> Source:
    """An entry of the overlay as if it were a file. One that was not written yet has no place."""
    lines: dict[Path, int] = {("mcpServers", name, *path): line for path, line in entry.lines.items()}
    return Source(file if lines else "", Document({"mcpServers": {name: entry.table}}, lines))


class _Reader:
    """Checks one source after the other."""

    def __init__(self, environ: Mapping[str, str], credentials_directory: FilePath | None) -> None:
        self._environ = environ
        self._credentials = credentials_directory
        self._shape = Shape(load_schema())

    def read(self, source: Source, *, servers_only: bool = False) -> _Part:
        """What a source says, and what is wrong with it."""
        part = _Part(Faults(source.name, source.document.lines))
        faults = part.faults
        raw: Value = {} if source.document.value is None else source.document.value
        if servers_only:
            for key in as_table(raw).keys() - _SERVERS_ONLY:
                faults.add((key,), "a file of servers has nothing but 'mcpServers'", "it belongs into the main file")
        substitution = Substitution(self._environ, self._credentials, faults)
        value = substitution.apply(raw)
        _check_characters(value, (), faults)
        self._shape.check(value, raw, faults)
        part.top = top = as_table(value)
        if top.get("servers") is not None and top.get("mcpServers") is not None:
            faults.add(("servers",), "'servers' says the same thing as 'mcpServers'", "put all of them into one")
        if not servers_only:
            part.sections = {key: self._section(key, top, faults) for key in _SECTIONS}
        part.specs = self._servers(source.key, as_table(top.get(source.key)), faults)
        part.secrets = substitution.secrets
        return part

    def _section(self, key: str, top: Table, faults: Faults) -> dict[str, Any]:
        if top.get(key) is None or faults.within((key,)):
            return {}
        schema = self._shape.schema["properties"][key]
        return cast("dict[str, Any]", self._shape.convert(schema, top[key], (key,), faults))

    def _servers(self, key: str, tables: Table, faults: Faults) -> list[ServerSpec]:
        specs: list[ServerSpec] = []
        for name, value in tables.items():
            path: Path = (key, name)
            table = as_table(value)
            if isinstance(value, dict):
                check_server(table, path, faults)
            if not faults.within(path):
                fields = self._shape.convert({"$ref": "#/$defs/server"}, value, path, faults)
                specs.append(build_server(name, fields, path, faults))
        return specs


def _check_characters(value: Value, path: Path, faults: Faults) -> None:
    """No text may hold what neither a program's arguments nor UTF-8 can carry."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if "\0" in key or not is_text(key):
                faults.add((*path, key), "the key has an impossible character in it")
            _check_characters(inner, (*path, key), faults)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_characters(item, (*path, index), faults)
    elif isinstance(value, str):
        if "\0" in value:
            faults.add(path, "the text has a NUL character in it")
        elif not is_text(value):
            faults.add(path, "the text is not valid Unicode")


def is_text(text: str) -> bool:
    """Whether it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
