"""Operators and what they can have done, put together: the control socket's requests meet the daemon's parts here.

MCP clients are served on that socket too, by the front that serves them over HTTP. Each user is a principal there.
"""

from __future__ import annotations

import os
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from mcpd.config.options import credentials_directory
from mcpd.control.desk import JSON
from mcpd.control.listener import find_control
from mcpd.control.operations import Operations
from mcpd.control.permission import Permission, group_id
from mcpd.control.refusal import Refusal, explain
from mcpd.control.server import MCP, Control, serve_control
from mcpd.frontends.endpoint import Endpoint
from mcpd.frontends.http import LOCAL, StreamableHttp
from mcpd.fronts import forget_first
from mcpd.supervisor.descent import descends
from mcpd.upgrade.check import UpgradeRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import ExitStack
    from pathlib import Path

    import trio

    from mcpd.control.diagnosis import Facts
    from mcpd.control.listener import ControlSocket
    from mcpd.control.metrics import Scrape
    from mcpd.gateway.gateway import Gateway
    from mcpd.reload import Reloader
    from mcpd.supervisor.registry import Registry
    from mcpd.switch import Switch
    from mcpd.systemd.passed import Passed
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_server import Handler, HttpServer, Request


def open_for_operators(passed: Passed, wanted: tuple[Path, bool] | None, stack: ExitStack) -> ControlSocket | None:
    """Where operators are served, if they are; closed with the stack. Raises: ConfigError."""
    sock = find_control(passed, wanted, group_id())
    if sock is not None:
        stack.callback(sock.close)
    return sock


def operations_of(
    gateway: Gateway,
    reloader: Reloader,
    switch: Switch,
    upgrade: Callable[[], Awaitable[object]],
    key: bytes,
    facts: Facts,
    scrape: Scrape,
) -> Operations:
    """What operators can have done, wherever they ask."""

    async def upgrade_or_refuse() -> object:
        try:
            return await upgrade()
        except UpgradeRefused as refused:
            remedy = "the running program goes on as it was"
            raise Refusal(HTTPStatus.CONFLICT, "upgrade_refused", f"no upgrade: {refused}", remedy) from None

    return Operations(gateway, reloader, switch, upgrade=upgrade_or_refuse, key=key, facts=facts, scrape=scrape)


async def serve_operators(
    sock: ControlSocket,
    operations: Operations,
    reloader: Reloader,
    deadlines: Deadlines,
    patience: Deadlines,
    registry: Registry,
    *,
    task_status: trio.TaskStatus[HttpServer],
) -> None:
    """Serve operators until cancelled."""
    mcp = serve_mcp(operations.gateway, reloader, patience)
    control = Control(operations, Permission(os.geteuid(), group_id()), mcp)
    control.configure(reloader.config)
    reloader.settings.append(control.configure)
    below = partial(descends, is_daemon=registry.knows)
    await serve_control(sock.socket, control, deadlines, descends=below, task_status=task_status)


def kept_from(state: Path) -> list[Path]:
    """Directories that a confined server does not read, because it would become an operator by them."""
    return [each for each in (state, credentials_directory(os.environ)) if each is not None]


def serve_mcp(gateway: Gateway, reloader: Reloader, patience: Deadlines) -> Handler:
    """What serves MCP clients that were let in."""
    front = StreamableHttp(gateway, reloader.config, patience, principal=user_of)
    reloader.settings.append(front.configure)
    forget_first(gateway.sessions, front.forget)
    return Endpoint(None, {MCP: front.handle}, gateway.gate, turn_away=turn_away).handle


async def turn_away(request: Request) -> None:
    """Connections of operators end with the program: what has not begun is better asked of the next one."""
    body = explain(HTTPStatus.SERVICE_UNAVAILABLE, "mcpd is about to become another program")
    request.answer(HTTPStatus.SERVICE_UNAVAILABLE, JSON + b"Retry-After: 1\r\n", body)


def user_of(request: Request) -> str:
    """The principal that sends a request over the control socket: who may do everything there has a name."""
    who = request.credentials
    return f"uid:{who.uid}" if who is not None else LOCAL
