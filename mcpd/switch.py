"""Servers that an operator stops, starts, restarts and checks. What the configuration says stays as it is.

Theory of operation. A backend that is to stop is replaced by another one of the same configuration, which has what
clients see of it and is not running. It loses its place as in a reload: calls in flight are let finish, then whatever
runs for it ends. To start the server is to replace what holds its place by one that runs, with a clean record.

Rules.
1. A server that is stopped stays listed: it is away for a while, and clients would forget tools in the midst of a
   conversation. Calls to it fail at once, with the remedy. What is to vanish is disabled or removed instead.
2. A restart is a stop, then a start: what the old process holds (a port, a lock, a file) is free for the new one. Calls
   that come in between wait.
3. It lasts as long as mcpd, over reloads that leave the server as it is and upgrades in place. The next mcpd starts
   what is configured.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.roster import DRAIN
from mcpd.trial import attempt, for_trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.backends.backend import ManagedBackend
    from mcpd.backends.connector import Connector
    from mcpd.config.model import Config, ServerSpec
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.succession import Succession
    from mcpd.reload import Reloader
    from mcpd.roster import Roster
    from mcpd.supervisor.supervisor import Supervisor

log = logging.getLogger("mcpd")

VERDICT_WAIT: Final = 30.0
"""Seconds for a started server to become ready or fail; an operator waits. It goes on starting after that."""

LADDER: Final = 15.0
"""Seconds for what ran to end, after its calls: as long as the usual stop ladder takes at most, twice over."""

CHECKS: Final = 2
"""At a time; each is a process more than is configured."""

WHY: Final = "an operator stopped it"


class Switch:
    """Stops and starts the servers that are configured and enabled."""

    def __init__(
        self,
        reloader: Reloader,
        roster: Roster,
        gateway: Gateway,
        *,
        prepare: Callable[[ServerSpec, Config], Connector],
        build: Callable[[Connector], ManagedBackend],
        supervisor: Supervisor,
    ) -> None:
        self._supervisor = supervisor
        self._checks = trio.CapacityLimiter(CHECKS)
        self._reloader = reloader
        self._roster = roster
        self._gateway = gateway
        self._prepare = prepare
        self._build = build

    async def stop(self, name: str) -> None:
        """Let a server finish its calls, and stop it; nothing if it is stopped. Raises: KeyError, when none of that
        name is enabled; ConfigError."""
        async with self._reloader.turn:
            backend = self._find(name)
            if backend.tenure.held:
                return
            successor = self._another(backend)
            successor.tenure.hold()
            log.info("backend=%s event=stopped_by_operator", name)
            self._replace(backend, successor).put_off()
        await self._gone(backend)

    async def start(self, name: str) -> None:
        """Start a server, at once also when it waits to be tried again; nothing if it is up or on its way there.
        Raises: as `stop`."""
        async with self._reloader.turn:
            backend = self._find(name)
            if not backend.tenure.idle:
                return
        await self._renew(backend)

    async def restart(self, name: str) -> None:
        """Stop a server as `stop` does, then start it as `start` does. Raises: as `stop`."""
        async with self._reloader.turn:
            backend = self._find(name)
        await self._renew(backend)

    async def check(self, name: str) -> dict[str, object]:
        """Start another one beside it, look, and end it; also where it is disabled. What came of it, as JSON has it.
        Raises: KeyError, when none of that name is configured; ConfigError."""
        config = self._reloader.config
        spec = config.server(name)
        if spec is None:
            raise KeyError(name)
        async with self._checks:
            return await attempt(self._prepare(for_trial(spec), config), self._supervisor)

    async def _renew(self, backend: ManagedBackend) -> None:
        """Have another one run in the place of this one, when this one has ended."""
        async with self._reloader.turn:
            if backend not in self._roster.backends:
                return  # somebody else was faster
            successor = self._another(backend)
            successor.tenure.await_start()
            log.info("backend=%s event=started_by_operator", backend.name)
            succession = self._replace(backend, successor)
        await self._gone(backend)
        if successor not in self._roster.backends:
            return
        successor.tenure.begin()
        self._roster.start([successor])
        with trio.move_on_after(VERDICT_WAIT):
            await successor.wait_verdict()
        await succession.finish()

    def _find(self, name: str) -> ManagedBackend:
        return {backend.name: backend for backend in self._roster.backends}[name]

    def _another(self, backend: ManagedBackend) -> ManagedBackend:
        """One that knows what this one knows, and has nothing that runs."""
        successor = self._build(self._prepare(backend.spec, self._reloader.config))
        successor.inherit(msgspec.structs.replace(backend.capture(), links=(), leases=(), held=False))
        return successor

    def _replace(self, backend: ManagedBackend, successor: ManagedBackend) -> Succession:
        self._roster.backends = tuple(successor if each is backend else each for each in self._roster.backends)
        succession = self._gateway.use(self._roster.backends)
        self._roster.retire([backend], WHY)
        return succession

    async def _gone(self, backend: ManagedBackend) -> None:
        with trio.move_on_after(DRAIN + LADDER) as scope:
            await self._roster.wait_gone(backend)
        if scope.cancelled_caught:
            log.warning("backend=%s event=stop_late after=%gs", backend.name, DRAIN + LADDER)
