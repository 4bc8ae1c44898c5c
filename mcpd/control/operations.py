"""What operators can ask for: the table of operations, and what each does.

An operation gets the request's query and gives what is answered as JSON, or raises a Refusal. Whether it changes
anything is in the table, so that it is decided in one place who may ask for it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

import trio

from mcpd import __version__
from mcpd.control.refusal import Refusal, invalid_configuration
from mcpd.errors import ConfigError
from mcpd.gateway import views
from mcpd.systemd.status import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcpd.gateway.gateway import Gateway

Query: TypeAlias = "Mapping[str, str]"

TRUE: Final = frozenset({"1", "true", "yes"})
FALSE: Final = frozenset({"0", "false", "no"})


class Runner(Protocol):
    """What runs mcpd, as far as operators are concerned."""

    async def reload(self, *, dry_run: bool) -> object:
        """Read the configuration anew; what came of it. Raises: ConfigError, with nothing changed."""

    def describe(self) -> dict[str, object]:
        """How the last reload went, what waits for a restart, and what is on its way out."""


class Operations:
    """What the table's operations work with."""

    def __init__(self, gateway: Gateway, runner: Runner, *, upgrade: Callable[[], Awaitable[object]]) -> None:
        """`upgrade` becomes another program, or raises a Refusal."""
        self.gateway = gateway
        self.runner = runner
        self.started = time.time()
        self._began = trio.current_time()
        self._upgrade = upgrade

    async def status(self, query: Query) -> object:
        """What mcpd is doing, in words and numbers."""
        gateway = self.gateway
        states = [(each.name, "asleep" if each.asleep else each.state.value) for each in gateway.backends]
        return {
            "version": __version__,
            "pid": os.getpid(),
            "time": time.time(),
            "started": self.started,
            "uptime": round(trio.current_time() - self._began, 3),
            "status": describe(states),
            "states": dict(Counter(state for _, state in states)),
            "sessions": len(gateway.sessions),
            "calls_in_flight": gateway.in_flight,
            "configuration": gateway.config.source,
            **self.runner.describe(),
        }

    async def servers(self, query: Query) -> object:
        """Every configured server with its true state."""
        return {"servers": views.servers(self.gateway)}

    async def reload(self, query: Query) -> object:
        """Read the configuration anew and do what differs; returns when it is done."""
        try:
            return await self.runner.reload(dry_run=flag(query, "dry_run"))
        except ConfigError as error:
            raise invalid_configuration(error) from None

    async def upgrade(self, query: Query) -> object:
        """Become the code that is installed now. What answers then is another program, which does not know of this
        request: the connection ends."""
        return await self._upgrade()


Work: TypeAlias = "Callable[[Operations, Query], Awaitable[object]]"


class Operation(NamedTuple):
    """One row of the table."""

    method: str
    path: str
    work: Work
    changes: bool = False
    """Only for who may change things."""
    query: frozenset[str] = frozenset()
    """Names that may be in the query."""


TABLE: Final = (
    Operation("GET", "/v1/status", Operations.status),
    Operation("GET", "/v1/servers", Operations.servers),
    Operation("POST", "/v1/reload", Operations.reload, changes=True, query=frozenset({"dry_run"})),
    Operation("POST", "/v1/upgrade", Operations.upgrade, changes=True),
)


def find(method: str, path: str) -> Operation:
    """The operation that is asked for. Raises: Refusal."""
    here = [each for each in TABLE if each.path == path]
    if not here:
        known = ", ".join(dict.fromkeys(each.path for each in TABLE))
        raise Refusal(HTTPStatus.NOT_FOUND, "not_found", f"there is no {path[:80]}", f"mcpd has {known}")
    wanted = "GET" if method == "HEAD" else method
    for each in here:
        if each.method == wanted:
            return each
    allowed = ", ".join(each.method for each in here)
    raise Refusal(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method_not_allowed",
        f"{path} cannot be asked for with {method[:20]}",
        f"use {allowed}",
        headers=f"Allow: {allowed}\r\n".encode(),
    )


def flag(query: Query, name: str) -> bool:
    """A yes or no of the query; no when it is not there. Raises: Refusal."""
    text = query.get(name, "0").lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise Refusal(HTTPStatus.BAD_REQUEST, "bad_request", f"{name} is 1 or 0, not {text[:20]!r}")
