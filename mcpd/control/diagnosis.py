"""What only mcpd itself can say of where it runs, for whoever looks for what is the matter: `mcpctl doctor`."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mcpd.control.table import Operation

if TYPE_CHECKING:
    from pathlib import Path

    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations
    from mcpd.control.table import Schema

STARTERS: Final = ("npx", "node", "uvx", "docker")
"""Programs that most servers are started with."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while mcpd runs."""

    listen: tuple[str, ...] = ()
    """Where clients connect, as URLs without a path."""
    state_dir: Path | None = None
    cgroup: str = ""
    """The cgroup that mcpd may divide up, empty if there is none."""
    cgroup_missing: str = ""
    """Why there is none."""


async def diagnosis(operations: Operations, ask: Ask) -> object:
    """Looks are cheap, and files are looked at only by name."""
    facts, gateway = operations.facts, operations.gateway
    commands = dict.fromkeys(spec.command for spec in gateway.config.servers if spec.command and spec.enabled)
    return {
        "time": time.time(),
        "uid": os.geteuid(),
        "path": os.environ.get("PATH", ""),
        "programs": {name: shutil.which(name) for name in (*STARTERS, *commands)},
        "listen": list(facts.listen),
        "state_directory": _directory(facts.state_dir),
        "cgroup": facts.cgroup,
        "cgroup_missing": facts.cgroup_missing,
        "names": list(gateway.catalog.notes),
    }


def _directory(path: Path | None) -> dict[str, object] | None:
    if path is None:
        return None
    try:
        room = os.statvfs(path)
    except OSError as error:
        return {"path": str(path), "error": (error.strerror or str(error)).lower()}
    return {
        "path": str(path),
        "free": room.f_bavail * room.f_frsize,
        "size": room.f_blocks * room.f_frsize,
        "free_files": room.f_favail,
        "writable": os.access(path, os.W_OK),
    }


DIAGNOSIS: Final[Schema] = {
    "type": "object",
    "required": ["time", "uid", "path", "programs", "listen", "state_directory", "cgroup", "cgroup_missing", "names"],
    "properties": {
        "time": {"type": "number", "description": "Seconds since 1970, now."},
        "uid": {"type": "integer", "description": "The user that mcpd runs as."},
        "path": {"type": "string", "description": "Where mcpd looks for programs."},
        "programs": {
            "type": "object",
            "description": "Where mcpd finds the commands of its servers, and what many are started with.",
            "additionalProperties": {"type": ["string", "null"]},
        },
        "listen": {"type": "array", "items": {"type": "string"}, "description": "Where clients connect."},
        "state_directory": {
            "type": ["object", "null"],
            "required": ["path"],
            "properties": {
                "path": {"type": "string"},
                "error": {"type": "string"},
                "free": {"type": "integer", "description": "Bytes."},
                "size": {"type": "integer", "description": "Bytes."},
                "free_files": {"type": "integer"},
                "writable": {"type": "boolean"},
            },
        },
        "cgroup": {"type": "string", "description": "What mcpd puts its servers into."},
        "cgroup_missing": {"type": "string", "description": "Why there is none."},
        "names": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Names that clients see altered, and those that collide.",
        },
    },
}

TABLE: Final = (
    Operation(
        "GET",
        "/v1/diagnosis",
        diagnosis,
        "What only mcpd can say of where it runs: programs, room, cgroup, names that collide.",
        answer=DIAGNOSIS,
    ),
)
