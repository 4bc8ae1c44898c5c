"""A file → a checked Config, or everything that is wrong with the file.

Text is read into a tree (`document`), `${…}` replaced (`substitution`), the form checked (`shape`), and
each section built; one with a fault in it is left out and the others are still looked at, so that one run
tells all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcpd.config.document import Document, parse
from mcpd.config.faults import ConfigErrors, Faults
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
from mcpd.config.servers import as_table, build_server, check_server, secrets_of
from mcpd.config.shape import Shape, load_schema
from mcpd.config.substitution import Substitution
from mcpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path as FilePath

    from mcpd.config.document import Value
    from mcpd.config.faults import Path
    from mcpd.config.servers import Table

MAX_FILE = 4 * 1024 * 1024
"""Bytes of a configuration file: some ten thousand servers."""

_SECTIONS = {
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


def load(path: FilePath, *, environ: Mapping[str, str], credentials_directory: FilePath | None = None) -> Config:
    """Read and check a file. YAML, or JSON where the name ends in `.json`.

    Raises: ConfigErrors, with one entry for each fault.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path"
        problem = ConfigError(f"cannot be read: {why}", file=name, remedy="--config FILE names another one")
        raise ConfigErrors([problem]) from error
    if len(data) > MAX_FILE:
        raise ConfigErrors([ConfigError(f"longer than {MAX_FILE} bytes", file=name)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = ConfigError("not UTF-8 text", file=name, line=line, remedy="save it as UTF-8")
        raise ConfigErrors([problem]) from error
    return loads(text, name=name, environ=environ, credentials_directory=credentials_directory)


def loads(text: str, *, name: str, environ: Mapping[str, str], credentials_directory: FilePath | None = None) -> Config:
    """Check a text as `load` checks a file; `name` is for messages, and tells the format.

    Raises: ConfigErrors, with one entry for each fault.
    """
    if not _is_text(text):
        raise ConfigErrors([ConfigError("not UTF-8 text", file=name)])
    document = parse(text, name)
    return build(document, name=name, environ=environ, credentials_directory=credentials_directory)


def build(
    document: Document,
    *,
    name: str,
    environ: Mapping[str, str],
    credentials_directory: FilePath | None = None,
) -> Config:
    """Check a tree that was read already.

    Raises: ConfigErrors, with one entry for each fault.
    """
    faults = Faults(name, document.lines)
    raw: Value = {} if document.value is None else document.value
    substitution = Substitution(environ, credentials_directory, faults)
    value = substitution.apply(raw)
    _check_characters(value, (), faults)
    shape = Shape(load_schema())
    shape.check(value, raw, faults)
    top = as_table(value)
    if top.get("servers") is not None and top.get("mcpServers") is not None:
        faults.add(("servers",), "'servers' says the same thing as 'mcpServers'", "put all of them into one")
    parts = {key: _section(shape, key, top, faults) for key in _SECTIONS}
    key = "mcpServers" if top.get("mcpServers") is not None else "servers"
    servers = _servers(shape, key, as_table(top.get(key)), faults)
    faults.raise_any()
    secrets = set(substitution.secrets).union(*(secrets_of(spec, environ) for spec in servers))
    return Config(
        servers=servers,
        extensions=tuple(cast("list[str]", top.get("extensions") or [])),
        instructions=cast("str | None", top.get("instructions")),
        source=name,
        secrets=Secrets.of(secrets),
        **{section: kind(**parts[section]) for section, kind in _SECTIONS.items()},
    )


def _section(shape: Shape, key: str, top: Table, faults: Faults) -> dict[str, Any]:
    if top.get(key) is None or faults.within((key,)):
        return {}
    schema = shape.schema["properties"][key]
    return cast("dict[str, Any]", shape.convert(schema, top[key], (key,), faults))


def _servers(shape: Shape, key: str, tables: Table, faults: Faults) -> tuple[ServerSpec, ...]:
    specs: list[ServerSpec] = []
    for name, value in tables.items():
        path: Path = (key, name)
        table = as_table(value)
        if isinstance(value, dict):
            check_server(table, path, faults)
        if not faults.within(path):
            fields = shape.convert({"$ref": "#/$defs/server"}, value, path, faults)
            specs.append(build_server(name, fields, path, faults))
    return tuple(specs)


def _check_characters(value: Value, path: Path, faults: Faults) -> None:
    """No text may hold what neither a program's arguments nor UTF-8 can carry."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if "\0" in key or not _is_text(key):
                faults.add((*path, key), "the key has an impossible character in it")
            _check_characters(inner, (*path, key), faults)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_characters(item, (*path, index), faults)
    elif isinstance(value, str):
        if "\0" in value:
            faults.add(path, "the text has a NUL character in it")
        elif not _is_text(value):
            faults.add(path, "the text is not valid Unicode")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
