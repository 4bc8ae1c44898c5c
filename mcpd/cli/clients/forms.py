"""Which servers a client's file names, whatever its form: each entry as it stands there, with where that is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpd.cli.clients import jsonc, toml

if TYPE_CHECKING:
    from collections.abc import Iterator

Table = dict[str, Any]

FILE_MAX: Final = 64 * 1024 * 1024
"""Bytes. Claude Code keeps its history in the same file."""

ANY: Final = "other"
"""The form of a file that is no known client's: mcpd's own, or one that many understand."""


class Unreadable(Exception):
    """A file that cannot be read, or is not what it should be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One server as a client has it."""

    name: str
    table: Table
    form: str
    """Whose rules its texts follow: a client, or ANY."""
    file: Path
    project: Path | None = None
    """The folder that it counts for, where it does not count everywhere."""
    inputs: tuple[Table, ...] = ()
    """What the client asks a person for."""

    @property
    def place(self) -> str:
        """For people."""
        inside = self.project is not None and self.project not in self.file.parents
        return f"{self.file}, project {self.project}" if inside else str(self.file)


def entries(file: Path, client: str | None = None) -> list[Entry]:
    """What a file names. Without `client` the file itself tells whose it is. Raises: Unreadable, FileNotFoundError."""
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_MAX + 1)
        if len(content) > FILE_MAX:
            raise Unreadable(f"{file} is larger than {FILE_MAX >> 20} MiB")
        text = content.decode("utf-8")
        found = toml.read(text) if file.suffix == ".toml" else jsonc.read(text)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise Unreadable(f"{file} is not well-formed: {error}") from None
    if found is None:
        return []
    if not isinstance(found, dict):
        raise Unreadable(f"{file} is no object")
    form = client or form_of(file, found)
    return [Entry(name, table, form, file, project, inputs) for name, table, project, inputs in _tables(file, found)]


def form_of(file: Path, content: Table) -> str:
    """Whose file this is, by its name and what is in it."""
    if file.suffix == ".toml":
        return "codex"
    if file.name == "claude_desktop_config.json":
        return "claude-desktop"
    if file.name in (".claude.json", ".mcp.json") or "projects" in content:
        return "claude-code"
    if ".cursor" in file.parts:
        return "cursor"
    if "mcpServers" not in content and ("servers" in content or "mcp" in content):
        return "vscode"
    return ANY


def _tables(file: Path, content: Table) -> Iterator[tuple[str, Table, Path | None, tuple[Table, ...]]]:
    """Name, table, project and inputs of each."""
    folder = _project(file)
    nested = content.get("mcp")
    settings = nested if isinstance(nested, dict) else {}
    for place in (content, settings):
        given = place.get("inputs")
        inputs = tuple(each for each in given if isinstance(each, dict)) if isinstance(given, list) else ()
        for key in ("mcpServers", "mcp_servers", "servers"):
            yield from ((name, table, folder, inputs) for name, table in _maps(place.get(key)))
    for path, project in _maps(content.get("projects")):
        yield from ((name, table, Path(path), ()) for name, table in _maps(project.get("mcpServers")))


def _project(file: Path) -> Path | None:
    """The folder that a project's own file is for."""
    if file.name == ".mcp.json":
        return file.parent
    if file.parent.name == ".vscode":
        return file.parent.parent
    # A home directory has these folders too, and is no project.
    folder = file.parent.parent
    return folder if file.parent.name in (".cursor", ".codex") and folder == Path.cwd() != Path.home() else None


def _maps(value: object) -> Iterator[tuple[str, Table]]:
    if isinstance(value, dict):
        yield from ((str(name), each) for name, each in value.items() if isinstance(each, dict))
