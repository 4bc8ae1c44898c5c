"""hungry.py TOKEN: an MCP server that takes all it can get. The standard library alone. TOKEN marks its processes."""

# ruff: noqa: TID251 - it knows no supervisor
from __future__ import annotations

import json
import os
import subprocess
import sys
import time

TOOLS = ("eat", "let_eat", "fork", "breed", "spin", "pid")


def main() -> None:
    if sys.argv[2:] == ["eat"]:
        eat()
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" not in message:
            continue
        match message.get("method"):
            case "initialize":
                version = message["params"]["protocolVersion"]
                info = {"name": "hungry", "version": "1"}
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
            case "tools/list":
                result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
            case "tools/call":
                text = globals()[message["params"]["name"]](**message["params"].get("arguments", {}))
                result = {"content": [{"type": "text", "text": json.dumps(text)}]}
            case _:
                say({"id": message["id"], "error": {"code": -32601, "message": "no such method"}})
                continue
        say({"id": message["id"], "result": result})


def pid() -> int:
    return os.getpid()


def eat() -> None:
    """More memory than there is."""
    eaten = []
    while True:
        eaten.append(b"x" * (1 << 20))


def let_eat() -> int:
    """Has a worker do that."""
    return subprocess.run([sys.executable, "-ISs", __file__, sys.argv[1], "eat"], check=False).returncode


def fork() -> list[object]:
    """Processes that sleep, until there can be no more: how many, and why."""
    count = 0
    while True:
        try:
            child = os.fork()
        except OSError as error:
            return [count, os.strerror(error.errno or 0)]
        if child == 0:
            time.sleep(600)
            os._exit(0)
        count += 1


def breed() -> str:
    """Processes without end, each gone at once, in a session and with a parent that tell nothing."""
    if os.fork() == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
    return "they are at it"


def spin(seconds: float) -> float:
    """Works for that long; the share of a processor that it got."""
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        pass
    return (time.process_time() - used) / (time.monotonic() - began)


def say(message: dict[str, object]) -> None:
    os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


main()
