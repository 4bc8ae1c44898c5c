"""successor.py STATE_DIR [FD]: a program that starts children, replaces itself by exec, and takes them over.

Without FD it is the first program; with it the second, to which FD holds what the first one captured. The second one
says as JSON what it found.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import trio

from mcpd.supervisor.adoption import SupervisorState
from mcpd.supervisor.process import ChildSpec, StopLadder
from mcpd.supervisor.supervisor import Supervisor
from mcpd.supervisor.tree import scan
from tests.supervisor.processes import HOSTILE, wait_until

MODES = {
    "echo": (),
    "grandchildren": (),
    "wrapper": (),
    "stuck": ("ignore_eof",),
    "doomed": ("ignore_eof",),
    "unwanted": ("echo",),
}
"""Names of the children and, where another, their mode."""


def spec(name: str) -> ChildSpec:
    argv = (sys.executable, "-ISs", HOSTILE, *(MODES[name] or (name,)))
    return ChildSpec(name, argv, {"PATH": os.environ["PATH"]}, stop=StopLadder(eof=0.2, term=5, kill=10))


async def first(state_dir: str) -> None:
    supervisor = Supervisor(Path(state_dir))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        children = {name: await supervisor.spawn(spec(name)) for name in MODES}
        for child in children.values():
            assert (await child.stdout.receive_some()).startswith(b"ready")
        # More than any pipe holds, so that some of it is still ours to write.
        children["stuck"].stdin.write(b"x" * (3 << 20))
        assert children["stuck"].stdin.queued
        children["echo"].stdin.write(b"said to the first\n")
        state = supervisor.capture()
        os.kill(children["doomed"].pid, signal.SIGKILL)
        fd = os.memfd_create("state", 0)
        os.write(fd, msgspec.msgpack.encode(state))
        for each in state.descriptors():
            os.set_inheritable(each, True)
        os.execv(sys.executable, [sys.executable, "-m", "tests.supervisor.successor", state_dir, str(fd)])


async def second(state_dir: str, fd: int) -> None:
    state = msgspec.msgpack.decode(os.pread(fd, 1 << 24, 0), type=SupervisorState)
    os.close(fd)
    for each in state.descriptors():
        os.set_inheritable(each, False)
    supervisor = Supervisor(Path(state_dir))
    supervisor.inherit(state, {child.pid for child in state.children if child.name != "unwanted"})
    found: dict[str, Any] = {"pids": {child.name: child.pid for child in state.children}}
    async with trio.open_nursery() as nursery:
        swept = await nursery.start(supervisor.run)
        found["swept"] = len(swept.killed)
        children = {
            name: supervisor.adopt(pid, spec(name)) for name, pid in found["pids"].items() if name != "unwanted"
        }
        recorded = {record.pid for record in supervisor.registry.records}
        found["recorded"] = recorded >= {child.pid for child in children.values()}
        echo = children["echo"]
        heard = b""
        while heard.count(b"\n") < 1:
            heard += await echo.stdout.receive_some()
        echo.stdin.write(b"said to the second\n")
        while heard.count(b"\n") < 2:
            heard += await echo.stdout.receive_some()
        found["heard"] = heard.decode()
        found["queued"] = children["stuck"].stdin.queued > 0
        found["doomed"] = (await children["doomed"].wait()).signal
        fresh = await supervisor.spawn(spec("echo"))
        found["fresh"] = fresh.tree.marker in {child.marker for child in state.children}
        ending = {"doomed", "unwanted"}
        await wait_until(lambda: not any(child.name in ending for child in supervisor.children()))
        nursery.cancel_scope.cancel()
    prefix = supervisor.registry.marker_prefix
    found["left"] = [info.pid for info in scan().values() if info.marker.startswith(prefix)]
    found["children"] = [info.pid for info in scan().values() if info.ppid == os.getpid()]
    print(json.dumps(found))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        trio.run(first, sys.argv[1])
    else:
        trio.run(second, sys.argv[1], int(sys.argv[2]))
