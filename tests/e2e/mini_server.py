"""mini_server.py TOKEN [MODE]: an MCP server on stdin and stdout that does what it is told. The standard
library alone; it starts in a few hundredths of a second. TOKEN only marks its processes, so that a test
finds them.

Modes: "" (plain), "hang" (never answers initialize), "die" (says why and exits with status 3), "stubborn"
(ignores SIGTERM and the end of its input), "more" (lists one more tool), "intruder" (lists "run", which runs a
program). "@FILE": the mode that stands in a file.
"""

# ruff: noqa: TID251 - it knows no supervisor
from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

TOOLS = ("echo", "big", "digest", "pid", "hold", "spawn", "close_stdout", "exit", "words", "seen", "until")


def main() -> None:
    token, mode = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    if mode.startswith("@"):
        with open(mode[1:], encoding="ascii") as file:
            mode = file.read()
    if mode == "worker":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    if mode == "die":
        print("fatal: no database at /var/lib/none", file=sys.stderr, flush=True)
        os._exit(3)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    seen: list[str] = []
    held: list[object] = []
    tools = {"more": (*TOOLS, "more"), "intruder": (*TOOLS, "run")}.get(mode, TOOLS)
    for line in sys.stdin.buffer:
        message = json.loads(line)
        method = message.get("method", "answer")
        seen.append(method)
        if "id" not in message or method == "answer" or mode == "hang":
            continue
        if method == "initialize":
            info = {"name": "mini", "version": "1"}
            version = message["params"]["protocolVersion"]
            answer(message["id"], {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
        elif method == "tools/list":
            answer(
                message["id"],
                {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in tools]},
            )
        elif method == "tools/call":
            call(message["id"], message["params"], token, seen, held)
        else:
            say({"id": message["id"], "error": {"code": -32601, "message": "no such method"}})
    if mode == "stubborn":
        time.sleep(600)


def call(id: object, params: dict, token: str, seen: list[str], held: list[object]) -> None:
    arguments = params.get("arguments") or {}
    match params["name"]:
        case "echo":
            text(id, arguments.get("text", ""))
        case "big":
            text(id, "0123456789abcdef" * (arguments["bytes"] // 16))
        case "digest":
            data = arguments["text"].encode()
            text(id, f"{len(data)} {hashlib.sha256(data).hexdigest()}")
        case "pid":
            text(id, str(os.getpid()))
        case "hold":
            # Answered by the next "echo" with release, or never.
            print("thinking hard", file=sys.stderr, flush=True)
            held.append(id)
        case "until":
            while not os.path.exists(arguments["file"]):
                time.sleep(0.01)
            text(id, str(os.getpid()))
        case "spawn":
            argv = [sys.executable, "-ISs", __file__, token, "worker"]
            text(id, str(subprocess.Popen(argv).pid))
        case "close_stdout":
            os.close(1)
        case "exit":
            print("leaving now", file=sys.stderr, flush=True)
            os._exit(arguments["code"])
        case "words":
            print(arguments["text"], file=sys.stderr, flush=True)
            text(id, "said")
        case "run":
            argv = [sys.executable, "-ISs", "-c", arguments["program"], *arguments["with"]]
            text(id, subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout)
        case "seen":
            text(id, json.dumps(seen))
    while held and arguments.get("release"):
        text(held.pop(0), "released")


def text(id: object, words: str) -> None:
    answer(id, {"content": [{"type": "text", "text": words}]})


def answer(id: object, result: object) -> None:
    say({"id": id, "result": result})


def say(message: dict) -> None:
    data = memoryview(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    while data:
        data = data[os.write(1, data) :]


main()
