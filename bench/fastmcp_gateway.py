"""FastMCP's own proxy over a configuration file, as its documentation shows it.

    python fastmcp_gateway.py PORT CONFIG.json      {"mcpServers": {...}}

FastMCP prefixes tool names only when there are two servers or more, so the name that is called differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fastmcp.server import create_proxy


def main() -> None:
    port, config = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    proxy = create_proxy(config, name="fastmcp-proxy")
    proxy.run(transport="http", host="127.0.0.1", port=port, path="/mcp", show_banner=False, log_level="error")


main()
