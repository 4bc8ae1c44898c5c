"""The configurations for when there is no file: the demo servers that come with mcpd, or one server elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

import mcpd

DEMOS = ("calculator", "notes", "clock")


def demo() -> tuple[str, str]:
    """Three small servers, started with the Python that runs mcpd, from where this mcpd was imported: the name and the
    text of a file that there is none of."""
    home = str(Path(mcpd.__file__).parent.parent)
    servers = {
        name: {"command": sys.executable, "args": ["-m", f"mcpd.demo.{name}"], "env": {"PYTHONPATH": home}}
        for name in DEMOS
    }
    return "embedded-default.json", msgspec.json.encode({"mcpServers": servers}).decode()


def elsewhere(url: str) -> tuple[str, str]:
    """One server, under the names that it has itself, in the same form."""
    return "--connect", msgspec.json.encode({"mcpServers": {"mcpd": {"url": url, "prefix": ""}}}).decode()
