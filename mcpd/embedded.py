"""The configuration for when there is none: the demo servers that come with mcpd, without network or installation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import mcpd
from mcpd.config.load import loads

if TYPE_CHECKING:
    from mcpd.config.model import Config

DEMOS = ("calculator", "notes", "clock")


def demo_config() -> Config:
    """Three small servers, started with the Python that runs mcpd, from where this mcpd was imported."""
    home = str(Path(mcpd.__file__).parent.parent)
    servers = {
        name: {"command": sys.executable, "args": ["-m", f"mcpd.demo.{name}"], "env": {"PYTHONPATH": home}}
        for name in DEMOS
    }
    return loads(msgspec.json.encode({"mcpServers": servers}).decode(), name="embedded-default.json", environ={})
