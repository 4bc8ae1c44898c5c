"""A home directory with the files of all five clients, as people have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cr3t-value-of-a-token"
"""In every file, where people put theirs."""

CLAUDE_DESKTOP = """\
{
  "globalShortcut": "Alt+Space",
  "mcpServers": {
    "filesystem": {
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/alice/My Documents", "/data/${not-a-variable}"]
    },
    "GitHub Tools": {
      "command": "docker",
      "args": ["run", "-i", "--rm", "-e", "GITHUB_PERSONAL_ACCESS_TOKEN", "ghcr.io/github/github-mcp-server"],
      "env": {"GITHUB_PERSONAL_ACCESS_TOKEN": "s3cr3t-value-of-a-token"}
    },
    "through": {
      "command": "npx",
      "args": ["mcp-remote", "https://mcp.example.com/sse", "--header", "Authorization: Bearer s3cr3t-value-of-a-token"]
    },
    "money": {"command": "cost", "args": ["$5", "$$"], "env": {"PORT": 8080}, "disabled": true}
  },
  "preferences": {"menuBarEnabled": false}
}
"""

CLAUDE_CODE = """\
{
  "numStartups": 412,
  "tipsHistory": {"new-user-warmup": 1},
  "mcpServers": {
    "sentry": {"type": "http", "url": "https://mcp.sentry.example/mcp", "oauth": {"clientId": "x"}},
    "asana": {"type": "sse", "url": "https://mcp.asana.example/sse", "headers": {"X-Key": "${ASANA_KEY:-none}"}},
    "vault": {"type": "http", "url": "https://vault.example/mcp", "headersHelper": "/opt/bin/headers.sh"},
    "db": {"type": "stdio", "command": "uvx", "args": ["mcp-db"], "env": {"DB_URL": "${DB_URL}"}, "timeout": 120000}
  },
  "projects": {
    "/home/alice/shop": {
      "allowedTools": [],
      "mcpServers": {
        "shop-api": {"type": "stdio", "command": "./tools/mcp", "args": [], "env": {"K": "s3cr3t-value-of-a-token"}},
        "db": {"type": "stdio", "command": "other-db", "args": []}
      },
      "hasTrustDialogAccepted": true
    },
    "/home/alice/empty": {"mcpServers": {}}
  }
}
"""

PROJECT = """\
{"mcpServers": {"docs": {"command": "node", "args": ["${CLAUDE_PROJECT_DIR}/docs.js"]}}}
"""

VSCODE = """\
{
    // What I am asked for
    "inputs": [
        {"type": "promptString", "id": "gh-token", "description": "GitHub token", "password": true},
    ],
    "servers": {
        "github": {
            "type": "http",
            "url": "https://api.githubcopilot.example/mcp/",
            "headers": {"Authorization": "Bearer ${input:gh-token}"},
        },
        "playwright": {"command": "npx", "args": ["-y", "@playwright/mcp@latest"], "gallery": true, "version": "0.0.1"},
        "mem": {"type": "stdio", "command": "${userHome}/bin/mem", "envFile": "${userHome}/mem.env", "dev": {}},
        /* only with a folder open */
        "local": {"type": "stdio", "command": "${workspaceFolder}/run"},
        "perplexity": {"type": "stdio", "command": "npx", "args": ["px"], "env": {"KEY": "${env:PX_KEY}"}},
    }
}
"""

VSCODE_SETTINGS = """\
{
    "editor.fontSize": 13, // larger
    "mcp": {
        "servers": {"old": {"type": "sse", "url": "http://127.0.0.1:9100/sse"}},
    },
}
"""

MEM_ENV = """\
# for the memory server
export MEM_FILE="/home/alice/mem.json"
MEM_TOKEN=s3cr3t-value-of-a-token # do not tell
MEM_PRICE='$5 and ${more}'
"""

CURSOR = """\
{
  "mcpServers": {
    "linear": {"url": "https://mcp.linear.example/mcp", "headers": {"Authorization": "Bearer ${env:LINEAR_KEY}"}},
    "pg": {
      "command": "npx",
      "args": ["-y", "server-postgres", "--password=s3cr3t-value-of-a-token", "--api-key", "s3cr3t-value-of-a-token"]
    },
    "q": {"url": "https://mcp.q.example/mcp?key=s3cr3t-value-of-a-token"},
    "sso": {"url": "https://mcp.sso.example/mcp", "auth": {"CLIENT_ID": "abc"}}
  }
}
"""

CODEX = """\
model = "gpt-5"
approval_policy = "on-request" # ask me

[mcp_servers.context7]
command = "npx"
args = ["-y", "@upstash/context7-mcp"]
env_vars = ["LOCAL_TOKEN", { name = "OTHER", source = "local" }]
startup_timeout_sec = 20
tool_timeout_sec = 45.5

[mcp_servers.context7.env]
API_KEY = "s3cr3t-value-of-a-token"

[mcp_servers.figma]
url = "https://mcp.figma.example/mcp"
bearer_token_env_var = "FIGMA_TOKEN"
http_headers = { "X-Region" = "us-east-1" }
env_http_headers = { "X-Team" = "FIGMA_TEAM" }
enabled_tools = ["get"]

[mcp_servers.off]
command = "x"
enabled = false

[tools]
web_search = true
"""


def furnish(home: Path, project: Path) -> None:
    """Put everything where it belongs."""
    for path, text in {
        home / ".config" / "Claude" / "claude_desktop_config.json": CLAUDE_DESKTOP,
        home / ".claude.json": CLAUDE_CODE,
        home / ".config" / "Code" / "User" / "mcp.json": VSCODE,
        home / ".config" / "Code" / "User" / "settings.json": VSCODE_SETTINGS,
        home / "mem.env": MEM_ENV,
        home / ".cursor" / "mcp.json": CURSOR,
        home / ".codex" / "config.toml": CODEX,
        project / ".mcp.json": PROJECT,
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
