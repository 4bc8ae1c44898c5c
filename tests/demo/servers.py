"""What the tests of the demo servers share: starting one, and checks that hold for all."""

from __future__ import annotations

import re
import sys
from typing import Any

from tests.fixtures.peer import JSON, StdioPeer

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Members of a tool by the first version that has them.
TOOL_MEMBERS = {
    "name": "2024-11-05",
    "description": "2024-11-05",
    "inputSchema": "2024-11-05",
    "annotations": "2025-03-26",
    "title": "2025-06-18",
    "outputSchema": "2025-06-18",
}


def demo(name: str) -> StdioPeer:
    return StdioPeer([sys.executable, "-m", f"mcpd.demo.{name}"])


def check_tools(tools: list[JSON], version: str) -> None:
    """Every tool is well described and has only what the version knows."""
    assert len({tool["name"] for tool in tools}) == len(tools)
    for tool in tools:
        assert TOOL_NAME.fullmatch(tool["name"])
        assert tool["description"].endswith(".")
        assert set(tool) <= {member for member, since in TOOL_MEMBERS.items() if since <= version}
        assert tool["inputSchema"]["type"] == "object"
        assert set(tool["inputSchema"]["required"]) <= set(tool["inputSchema"]["properties"])
        assert all(described["description"] for described in tool["inputSchema"]["properties"].values())
        if version >= "2025-06-18":
            assert tool["title"]


def check_named(entries: list[JSON], key: str, version: str) -> None:
    """Prompts, resources and templates: named, described, and with a title only where versions have it."""
    for entry in entries:
        assert entry[key]
        assert entry["name"]
        assert entry["description"]
        assert ("title" in entry) == (version >= "2025-06-18")


def first_text(result: JSON) -> Any:
    assert result["content"][0]["type"] == "text"
    return result["content"][0]["text"]
