"""What the tests of misbehaving backends share: configurations of servers, and a look at the process
table."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.fixtures.peer import fixture_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fixtures.peer import HttpPeer, Running

JSON = dict[str, Any]

MINI = str(Path(__file__).with_name("mini_server.py"))

QUICK_STOP = {"eof": 0.3, "term": 0.3, "kill": 5}
"""Seconds; the defaults are made for servers that have something to save."""


def new_token() -> str:
    """A word that no other process has on its command line."""
    return f"mini-{uuid.uuid4().hex}"


def mini(mode: str = "", *, token: str = "mini", **members: Any) -> JSON:
    """A server of `mini_server`."""
    arguments = ["-ISs", MINI, token, *([mode] if mode else [])]
    return {"command": sys.executable, "args": arguments, "stop": QUICK_STOP, **members}


def fixture(name: str, *arguments: str, **members: Any) -> JSON:
    """A fixture server on stdio."""
    command, *rest = fixture_command(name, *arguments)
    return {"command": command, "args": rest, "stop": QUICK_STOP, **members}


def processes_with(token: str) -> list[int]:
    """Processes that have this word on their command line; zombies have none."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                words = (directory / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended meanwhile
            if token.encode() in words:
                found.append(int(directory.name))
    return found


async def wait_until(condition: Callable[[], bool], limit: float = 30.0) -> None:
    """Look until it is so; only for what tells us nothing: processes of others, and states behind HTTP."""
    with trio.fail_after(limit):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def server_state(peer: HttpPeer, daemon: Running, name: str) -> JSON:
    """What /servers says about one server."""
    reply = await peer.raw("GET", url=daemon.base + "/servers")
    return next(each for each in reply.json()["servers"] if each["name"] == name)


async def wait_state(peer: HttpPeer, daemon: Running, name: str, state: str, limit: float = 30.0) -> JSON:
    """Wait until a server is in that state."""
    with trio.fail_after(limit):
        while True:
            about = await server_state(peer, daemon, name)
            if about["state"] == state:
                return about
            await trio.sleep(0.02)
