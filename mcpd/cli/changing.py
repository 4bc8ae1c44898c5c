"""What the verbs share that change which servers there are: what became of those that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mcpd.cli.table import printable

if TYPE_CHECKING:
    from mcpd.control.client import Body

UP: Final = frozenset({"ready", "disabled", "asleep"})
"""States in which there is nothing to be done."""


def place(name: str, work: str = "") -> str:
    """The path of a server, or of something to be done with it."""
    return f"/v1/servers/{quote(name, safe='')}" + (f"/{work}" if work else "")


def reached(answer: Body) -> list[str]:
    """The state of each server that was asked for and is still there; what is the matter, and what to do about it."""
    lines = []
    for name in answer["names"]:
        about = answer["servers"].get(name)
        if about is None:
            continue
        error = f": {printable(about['error'])}" if "error" in about else ""
        lines.append(f"{name} is {about['state']}{error}")
        if about["state"] not in UP:
            lines.append(_remedy(name, about["state"]))
    return lines


def _remedy(name: str, state: str) -> str:
    if state in ("starting", "connecting", "loading"):
        return f"It is not up yet, and goes on trying: mcpctl show {name}"
    return f"It stays configured and is tried again. See mcpctl logs {name}; mend it, then mcpctl start {name}."
