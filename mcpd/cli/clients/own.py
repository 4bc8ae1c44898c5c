"""mcpd's own entry in a client's configuration: what it is, and how it is known again."""

from __future__ import annotations

import os
import shutil
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcpd.cli.clients.forms import Entry, Table

NAME: Final = "mcpd"
PATHS: Final = ("/mcp", "/sse", "/ws")
"""Where mcpd serves clients."""

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})

HOMES: Final = {
    "claude-desktop": ("mcpServers", NAME),
    "claude-code": ("mcpServers", NAME),
    "vscode": ("servers", NAME),
    "cursor": ("mcpServers", NAME),
    "codex": ("mcp_servers", NAME),
}
"""Where the entry belongs in each client's file."""


def by_url(client: str, url: str) -> Table:
    """The entry of a client that connects to mcpd's port."""
    return {"type": "http", "url": url} if client in ("claude-code", "vscode") else {"url": url}


def by_program(client: str, configuration: str) -> Table:
    """The entry of a client that starts an mcpd of its own."""
    return _starting(client, "--transport", "stdio", *(["--config", configuration] if configuration else []))


def by_bridge(client: str, url: str) -> Table:
    """The entry of a client that starts its servers itself, and is to have the running mcpd."""
    return _starting(client, "--connect", url)


def _starting(client: str, *options: str) -> Table:
    program = shutil.which("mcpd")
    command = [program] if program is not None else [sys.executable, "-m", "mcpd"]
    args = [*command[1:], *options]
    table: Table = {"command": command[0], "args": args}
    return {"type": "stdio", **table} if client in ("claude-code", "vscode") else table


def is_own(entry: Entry, listen: Sequence[str]) -> bool:
    """Whether an entry leads to mcpd: importing it would have mcpd call itself. `listen`: its addresses, as URLs."""
    url, command = entry.table.get("url"), entry.table.get("command")
    if isinstance(url, str):
        return any(_leads_to(url, each) for each in listen)
    if not isinstance(command, str):
        return False
    args = [str(each) for each in entry.table.get("args") or ()]
    words = [os.path.basename(command), *args]
    if any(_leads_to(word, each) for word in args for each in listen):
        return True  # through a program that makes a remote server one on stdio
    return words[0] == NAME or any(pair == ("-m", NAME) for pair in pairwise(words))


def _leads_to(url: str, address: str) -> bool:
    try:
        one, other = urlsplit(url), urlsplit(address)
        same = (one.port or 80) == (other.port or 80)
    except ValueError:
        return False
    hosts = {one.hostname, other.hostname}
    return same and one.path.rstrip("/") in PATHS and (len(hosts) == 1 or hosts <= LOOPBACK)
