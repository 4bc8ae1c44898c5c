"""Configuration that changes while mcpd runs: read anew, compared, and only what differs is done.

Theory of operation. Everything that can fail comes first: the file is read and checked, and the connector of every new
server made, TLS files and all. Then new backends are started beside the old ones, and given time to become ready. Then,
in one step that nothing interrupts, the new set takes the place of the old one (`gateway.succession`), and with it the
settings. What has lost its place finishes its calls in the background (`roster`).

Rules.
1. A configuration with a fault changes nothing.
2. One reload at a time; the next one reads the file after the last one is done.
3. A new server that does not come up is a server that does not come up: the configuration is in effect all the same,
   and the outcome says so. The old one is not kept, as nobody could tell then what is in effect.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.config.diff import Plan, diff, effective
from mcpd.config.model import Secrets
from mcpd.errors import ConfigError
from mcpd.roster import calls
from mcpd.systemd.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from mcpd.backends.backend import ManagedBackend
    from mcpd.backends.connector import Connector
    from mcpd.config.model import Config, ServerSpec
    from mcpd.gateway.gateway import Gateway
    from mcpd.roster import Roster

log = logging.getLogger("mcpd")

ADDED_WAIT: Final = 10.0
"""Seconds for added servers to have their first verdict, so that clients hear of all new lists at once. What comes
later is told when it comes."""

CHANGED_WAIT: Final = 30.0
"""Seconds for the successors of changed ones. Longer, because the old ones serve meanwhile and lists would shrink; but
an operator waits for the outcome."""


FAULTS_TOLD: Final = 20
"""Of a faulty configuration, to whoever follows events; all of them are in the log."""


def _whenever() -> None:
    """For who does not care what came before."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload did, or would do."""

    dry_run: bool
    plan: Plan
    servers: dict[str, dict[str, str]] = {}
    """State, and error if there is one, of each server that was started."""
    draining: tuple[str, ...] = ()
    """Servers that lost their place and still have calls."""
    seconds: float = 0.0


class LastReload(msgspec.Struct, frozen=True, kw_only=True):
    """How the last reload went, for operators."""

    at: float
    """Seconds since the epoch."""
    ok: bool
    errors: tuple[str, ...] = ()


class Reloader:
    """Brings a running mcpd to what its configuration says now."""

    def __init__(
        self,
        config: Config,
        *,
        read: Callable[[], Awaitable[Config]],
        prepare: Callable[[ServerSpec, Config], Connector],
        build: Callable[[Connector], ManagedBackend],
        roster: Roster,
        gateway: Gateway,
    ) -> None:
        self.config = config
        """What is in effect."""
        self.last: LastReload | None = None
        self.needs_restart: tuple[str, ...] = ()
        """Settings for which the file says something else than what is in effect."""
        self.settings: list[Callable[[Config], None]] = []
        """Called with what is in effect from now on, when it changed; must not fail."""
        self.check: Callable[[Config], Awaitable[object]] | None = None
        """Raises ConfigError for what only the front knows to be wrong."""
        self.redact: Callable[[Secrets], None] = _nothing_to_redact
        """Called with what must not be shown from now on, before anything of it is used."""
        self.notify = Notifier()
        """Who is told while it lasts."""
        self._read = read
        self._prepare = prepare
        self._build = build
        self._roster = roster
        self._gateway = gateway
        self._turn = trio.Lock()

    @property
    def turn(self) -> trio.Lock:
        """Held by whoever changes which backends there are."""
        return self._turn

    async def reload(self, *, dry_run: bool = False, begin: Callable[[], None] = _whenever) -> Outcome:
        """Read the configuration and do what differs; with `dry_run` only say what. `begin` is called when it is this
        one's turn; what it raises ends it.

        Raises: ConfigError, and nothing has changed."""
        async with self._turn:
            begin()
            if dry_run:
                return await self._reload(dry_run=True)
            self.notify.reloading()
            try:
                return await self._reload(dry_run=False)
            finally:
                self.notify.reloaded()

    async def _reload(self, *, dry_run: bool) -> Outcome:
        began = trio.current_time()
        try:
            wanted = await self._read()
            if self.check is not None:
                await self.check(wanted)
            plan = diff(self.config, wanted)
            config = effective(self.config, wanted)
            prepared = [self._prepare(spec, config) for spec in _to_start(plan, config)]
        except ConfigError as error:
            if not dry_run:
                self._failed(error)
            raise
        if dry_run:
            return Outcome(dry_run=True, plan=plan)
        # Children that are still there may say what was secret in the former configuration.
        self.redact(Secrets.of({*self.config.secrets.values, *config.secrets.values}))
        new = {connector.spec.name: self._build(connector) for connector in prepared}
        await self._carry_out(plan, config, new)
        outcome = Outcome(
            dry_run=False,
            plan=plan,
            servers={name: _state(backend) for name, backend in new.items()},
            draining=tuple(backend.name for backend in self._roster.draining if calls(backend)),
            seconds=round(trio.current_time() - began, 3),
        )
        self.last = LastReload(at=time.time(), ok=True)
        self.needs_restart = plan.needs_restart
        log.info("event=reloaded %s", plan)
        self._gateway.events.emit(
            "reload",
            ok=True,
            added=list(plan.added),
            changed=list(plan.changed),
            adjusted=list(plan.adjusted),
            removed=list(plan.removed),
            settings=list(plan.settings),
        )
        for setting in plan.needs_restart:
            log.warning("event=needs_restart setting=%s", setting)
        return outcome

    @property
    def note(self) -> str:
        """What whoever looks at mcpd must know of its configuration, in one line; empty when there is nothing."""
        if self.last is not None and not self.last.ok:
            return f"configuration not in effect: {self.last.errors[0]}"
        return f"restart needed for {', '.join(self.needs_restart)}" if self.needs_restart else ""

    def describe(self) -> dict[str, object]:
        """How the last reload went, what waits for a restart, and what is on its way out; for operators."""
        return {
            "last_reload": self.last,
            "needs_restart": self.needs_restart,
            "draining": [backend.name for backend in self._roster.draining],
        }

    async def _carry_out(self, plan: Plan, config: Config, new: dict[str, ManagedBackend]) -> None:
        old = {backend.name: backend for backend in self._roster.backends}
        self._roster.start(list(new.values()))
        try:
            await _judged(new.values(), CHANGED_WAIT if plan.changed else ADDED_WAIT)
        except BaseException:
            self._roster.retire(list(new.values()), "a reload was given up")
            raise
        # From here to the end of `use` nothing waits.
        specs = {spec.name: spec for spec in config.servers if spec.enabled}
        self._roster.backends = tuple(new.get(name) or old[name] for name in specs)
        for name, backend in old.items():
            if name in specs and name not in new:
                backend.tenure.adjust(specs[name], config.limits, labelled=len(config.servers) > 1)
        self.config = config
        for tell in self.settings:
            tell(config)
        succession = self._gateway.use(self._roster.backends, config)
        try:
            await succession.finish()
        finally:
            # Nobody else knows them any more.
            self._roster.retire([old[name] for name in plan.changed], "its configuration was changed")
            self._roster.retire([old[name] for name in plan.removed], "it was removed from the configuration")

    def _failed(self, error: ConfigError) -> None:
        lines = str(error).splitlines()
        self.last = LastReload(at=time.time(), ok=False, errors=tuple(lines))
        log.error("event=reload_failed faults=%d nothing has changed", len(lines))
        self._gateway.events.emit("reload", ok=False, errors=lines[:FAULTS_TOLD])
        for line in lines:
            log.error("event=reload_failed %s", line)


def _to_start(plan: Plan, config: Config) -> list[ServerSpec]:
    """The servers that are built and started, in their order."""
    return [spec for spec in config.servers if spec.name in plan.added or spec.name in plan.changed]


async def _judged(backends: Iterable[ManagedBackend], limit: float) -> None:
    """Wait until each is ready or has failed, at most `limit` seconds."""
    with trio.move_on_after(limit):
        async with trio.open_nursery() as nursery:
            for backend in backends:
                nursery.start_soon(backend.wait_verdict)


def _state(backend: ManagedBackend) -> dict[str, str]:
    about = backend.describe()
    return {key: str(about[key]) for key in ("state", "error") if key in about}


def _nothing_to_redact(secrets: Secrets) -> None:
    """Where there is no log."""
