"""A Python MCP server on stdio with one tool, for measuring starts. A stand-alone program.

python server.py [--delay SECONDS | --hang]       what it does when `initialize` arrives
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

TOOL = {"name": "hello", "description": "Answers hello", "inputSchema": {"type": "object"}}
HANG_SECONDS = 3600.0  # an end even if nobody ever kills it


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        if "--hang" in sys.argv:
            time.sleep(HANG_SECONDS)
        if "--delay" in sys.argv:
            time.sleep(float(sys.argv[sys.argv.index("--delay") + 1]))
        info = {"name": "bench-server", "version": "1"}
        version = params.get("protocolVersion", "2025-11-25")
        return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}}
    if method == "tools/list":
        return {"result": {"tools": [TOOL]}}
    if method == "tools/call":
        return {"result": {"content": [{"type": "text", "text": "hello"}]}}
    if method == "ping":
        return {"result": {}}
    return {"error": {"code": -32601, "message": "Method not found"}}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        reply = {
            "jsonrpc": "2.0",
            "id": message["id"],
            **answer(message["method"], message.get("params") or {}),
        }
        print(json.dumps(reply), flush=True)
