"""What `make run` prints: where mcpd listens, and what to put into a client to reach it."""

from __future__ import annotations

import json
import sys


def welcome(url: str) -> str:
    """The text for somebody who has just started mcpd for the first time. `url`: http://HOST:PORT."""
    endpoint = f"{url}/mcp"
    desktop = {
        "mcpServers": {"mcpd": {"command": sys.executable, "args": ["-m", "mcpd", "--demo", "--transport", "stdio"]}}
    }
    vscode = {"servers": {"mcpd": {"type": "http", "url": endpoint}}}
    return f"""
mcpd is running, with three demo servers behind it: calculator, notes and clock.

  Streamable HTTP   {endpoint}
  HTTP+SSE          {url}/sse
  WebSocket         ws{url.removeprefix("http")}/ws
  what is behind    {url}/servers   {url}/tools   {url}/health

Claude Desktop (claude_desktop_config.json starts its servers itself, so this is mcpd on stdio):
{_indented(desktop)}

VS Code (.vscode/mcp.json):
{_indented(vscode)}

Inspector:
  npx @modelcontextprotocol/inspector --cli {endpoint} --transport http --method tools/list

Ctrl-C ends mcpd and its servers.
"""


def _indented(value: object) -> str:
    return "\n".join("  " + line for line in json.dumps(value, indent=2).splitlines())
