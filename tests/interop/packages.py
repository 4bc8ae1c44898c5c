"""What is installed for the runs, in exact versions: real servers, and the SDKs of real clients."""

from __future__ import annotations

from tests.fixtures.peer import ROOT
from tests.packages import NodePackages, PythonPackages

HOME = ROOT / ".cache" / "interop"

NODE_SERVERS = NodePackages(
    HOME / "node-servers",
    (
        "@modelcontextprotocol/server-everything@2026.8.31",
        "@modelcontextprotocol/server-filesystem@2026.8.31",
        "@modelcontextprotocol/server-memory@2026.8.31",
        "@modelcontextprotocol/server-sequential-thinking@2026.8.31",
        "@playwright/mcp@0.0.83",
    ),
)
PYTHON_SERVERS = PythonPackages(
    HOME / "python-servers",
    ("mcp-server-time==2026.10.19", "mcp-server-git==2026.10.19", "mcp-server-fetch==2026.10.24"),
)
SQLITE_SERVER = PythonPackages(HOME / "sqlite-server", ("mcp-server-sqlite==2025.4.25", "mcp<2"))
"""Written for SDK 1; with SDK 2 it ends at once."""
PYTHON_SDK_1 = PythonPackages(HOME / "python-sdk-1", ("mcp==1.27.1",))
PYTHON_SDK_2 = PythonPackages(HOME / "python-sdk-2", ("mcp==2.3.0",))
TYPESCRIPT_SDK_1 = NodePackages(HOME / "typescript-sdk-1", ("@modelcontextprotocol/sdk@1.32.2",))
TYPESCRIPT_SDK_2 = NodePackages(HOME / "typescript-sdk-2", ("@modelcontextprotocol/client@2.4.0",))
INSPECTOR = NodePackages(HOME / "inspector", ("@modelcontextprotocol/inspector-cli@0.15.0",))
"""The last one that runs on Node 20; later ones ask for 22.19."""

CLAUDE_CODE = NodePackages(HOME / "claude-code", ("@anthropic-ai/claude-code@2.1.197",))
CODEX = NodePackages(HOME / "codex", ("@openai/codex@0.171.0",))
"""Programs of hundreds of megabytes; only what they do with their files is of interest here."""

SERVERS = (NODE_SERVERS, PYTHON_SERVERS, SQLITE_SERVER)
