"""What operators can ask for: all tables in one, and what their operations work with.

Each noun has a module with a `TABLE`. Whether an operation changes anything is in its row, so that it is decided in one
place who may ask for it.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from mcpd.control import (
    catalogue,
    changes,
    configuration,
    diagnosis,
    events,
    load,
    logs,
    metrics,
    openapi,
    servers,
    sessions,
    status,
)
from mcpd.control.diagnosis import Facts
from mcpd.control.refusal import Refusal
from mcpd.control.table import decoded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcpd.control.metrics import Scrape
    from mcpd.control.table import Operation
    from mcpd.gateway.gateway import Gateway


class Runner(Protocol):
    """What runs mcpd, as far as operators are concerned."""

    async def reload(self, *, dry_run: bool, begin: Callable[[], None]) -> object:
        """Read the configuration anew; what came of it. `begin` is called when it is this one's turn, and may refuse.

        Raises: ConfigError, with nothing changed."""

    async def add(
        self, tables: Mapping[str, Any], who: str, how: str, *, replace: bool, begin: Callable[[], None]
    ) -> object:
        """Add servers for good, or `replace` such; what came of it. Raises: ConfigError, ChangeRefused."""

    async def remove(self, name: str, who: str, how: str, *, begin: Callable[[], None]) -> object:
        """Remove one that was added. Raises: ConfigError, ChangeRefused."""

    async def enable(self, name: str, who: str, how: str, *, begin: Callable[[], None]) -> object:
        """Switch one on. Raises: ConfigError, ChangeRefused."""

    async def disable(self, name: str, who: str, how: str, *, begin: Callable[[], None]) -> object:
        """Switch one off. Raises: ConfigError, ChangeRefused."""

    async def try_out(self, tables: Mapping[str, Any]) -> object:
        """What `add` would do, or replace. Raises: ConfigError, ChangeRefused."""

    async def compare(self) -> dict[str, object]:
        """What the files and the overlay say, against what runs. Raises: ConfigError."""

    def describe(self) -> dict[str, object]:
        """How the last reload went, what waits for a restart, and what is on its way out."""


class Switch(Protocol):
    """What stops and starts servers. Each raises KeyError for one that is not enabled, and ConfigError."""

    async def stop(self, name: str) -> None:
        """Let it finish its calls and stop it, until it is started."""

    async def start(self, name: str) -> None:
        """Start it now."""

    async def restart(self, name: str) -> None:
        """One after the other."""

    async def check(self, name: str) -> dict[str, object]:
        """Start another one beside it, look, and end it; also one that is not enabled."""


class Operations:
    """What the tables' operations work with."""

    def __init__(
        self,
        gateway: Gateway,
        runner: Runner,
        switch: Switch,
        *,
        upgrade: Callable[[], Awaitable[object]],
        key: bytes,
        facts: Facts | None = None,
        scrape: Scrape | None = None,
    ) -> None:
        """`upgrade` becomes another program, or raises a Refusal. `key` is a secret, for entity tags. `scrape` says
        what is measured: the media type and the text, by an Accept header."""
        self.scrape = scrape or metrics.unmeasured
        self.facts = facts or Facts()
        self.key = key
        self.table = TABLE
        self.gateway = gateway
        self.runner = runner
        self.switch = switch
        self.upgrade = upgrade
        self.started = time.time()
        """When mcpd began, in seconds since 1970."""
        self.began = trio.current_time()
        """The same, on trio's clock."""


TABLE: Final[tuple[Operation, ...]] = (
    *status.TABLE,
    *diagnosis.TABLE,
    *servers.TABLE,
    *changes.TABLE,
    *catalogue.TABLE,
    *sessions.TABLE,
    *configuration.TABLE,
    *openapi.TABLE,
    *load.TABLE,
    *logs.TABLE,
    *events.TABLE,
    *metrics.TABLE,
)


def find(method: str, path: str) -> tuple[Operation, Mapping[str, str]]:
    """The operation that is asked for, and the parameters of its path. Raises: Refusal."""
    segments = tuple(path.split("/"))
    here = [(each, values) for each in TABLE if (values := each.match(segments)) is not None]
    if not here:
        known = ", ".join(dict.fromkeys(each.path for each in TABLE))
        raise Refusal(HTTPStatus.NOT_FOUND, "not_found", f"there is no {path[:80]}", f"mcpd has {known}")
    wanted = "GET" if method == "HEAD" else method
    for each, values in here:
        if each.method == wanted:
            return each, _decoded(values)
    names = [each.method for each, _ in here]
    allowed = ", ".join([*names, "HEAD"] if "GET" in names else names)
    raise Refusal(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method_not_allowed",
        f"{path[:80]} cannot be asked for with {method[:20]}",
        f"use {allowed}",
        headers=f"Allow: {allowed}\r\n".encode(),
    )


def _decoded(values: Mapping[str, str]) -> Mapping[str, str]:
    parameters = {}
    for name, segment in values.items():
        value = decoded(segment)
        if value is None:
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                "bad_request",
                f"the {name} in the path is not percent-encoded UTF-8",
                "encode it as in RFC 3986, section 2.1",
            )
        parameters[name] = value
    return parameters
