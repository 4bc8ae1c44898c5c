"""A control socket with a gateway of fakes behind it."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import TYPE_CHECKING

import trio

from mcpd.config.model import Config
from mcpd.control.ask import Ask, Who
from mcpd.control.listener import open_control
from mcpd.control.operations import Operations
from mcpd.control.permission import Permission
from mcpd.control.server import LIMITS, Control, serve_control
from mcpd.wire.deadlines import Deadlines
from tests.gateway.fakes import FakeBackend, catalogue, make_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mcpd.wire.http_limits import HttpLimits
    from mcpd.wire.http_server import Handler


KEY = b"a key"


class Runner:
    """Reloads as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.changes: list[tuple] = []
        self.turn = trio.Lock()
        self.answer: object = {"plan": {}}
        self.error: Exception | None = None

    async def reload(self, *, dry_run: bool, begin=None) -> object:
        await self.turn.acquire()
        self.turn.release()
        if begin is not None:
            begin()
        self.asked.append(dry_run)
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return self.answer

    async def add(self, tables, who: str, how: str, *, replace: bool, begin) -> object:
        return await self._changed("add", tables, who, how, replace, begin=begin)

    async def remove(self, name: str, who: str, how: str, *, begin) -> object:
        return await self._changed("remove", name, who, how, begin=begin)

    async def enable(self, name: str, who: str, how: str, *, begin) -> object:
        return await self._changed("enable", name, who, how, begin=begin)

    async def disable(self, name: str, who: str, how: str, *, begin) -> object:
        return await self._changed("disable", name, who, how, begin=begin)

    async def try_out(self, tables) -> object:
        return await self._changed("try_out", tables)

    async def compare(self) -> dict[str, object]:
        return await self._changed("compare")

    async def _changed(self, *asked, begin=None):
        if begin is not None:
            begin()
        self.changes.append(asked)
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return self.answer

    def describe(self) -> dict[str, object]:
        return {"last_reload": None, "needs_restart": (), "draining": [], "conflicts": [], "problems": []}


class Switch:
    """Stops and starts as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.error: Exception | None = None

    def __getattr__(self, verb: str):
        async def work(name: str) -> None:
            await trio.lowlevel.checkpoint()
            self.asked.append((verb, name))
            if self.error is not None:
                raise self.error
            return {"name": name, "ok": True, "seconds": 0.5, "state": "ready", "server": None, "stderr": []}

        return work


def ask(**fields) -> Ask:
    """What somebody asks, as the desk would have read it."""
    return Ask(fields.pop("who", Who()), **fields)


def operations(directory: Path) -> Operations:
    """Two servers, one of which is disabled."""
    backend = FakeBackend("b", catalogue(tools=["x"]))
    gateway = make_gateway(directory, backend, config=Config(servers=(backend.spec,), source="/etc/x.yaml"))
    return Operations(gateway, Runner(), Switch(), upgrade=trio.sleep_forever, key=KEY)


@asynccontextmanager
async def controlled(
    directory: Path,
    *,
    permission: Permission | None = None,
    mcp: Handler | None = None,
    limits: HttpLimits = LIMITS,
) -> AsyncIterator[tuple[Path, Operations]]:
    """The path of a socket that is served, and what is behind it."""
    ops = operations(directory)
    control = open_control(directory / "control.sock", None)
    deadlines = Deadlines()
    with closing(control):
        async with trio.open_nursery() as nursery:
            await nursery.start(deadlines.run)
            handler = Control(ops, permission or Permission(os.geteuid(), None), mcp)
            await nursery.start(partial(serve_control, control.socket, handler, deadlines, limits=limits))
            yield control.path, ops
            nursery.cancel_scope.cancel()
