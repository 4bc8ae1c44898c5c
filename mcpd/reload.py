"""Configuration that changes while mcpd runs: read anew, compared, and only what differs is done.

Theory of operation. Everything that can fail comes first: all sources are read and checked, as if what is to be changed
in the overlay (`config.overlay`) had been, and the connector of every new server made, TLS files and all. Then the
overlay is written, if it is another one. Then new backends are started beside the old ones, and given time to become
ready. Then, in one step that nothing interrupts, the new set takes the place of the old one (`gateway.succession`), and
with it the settings. What has lost its place finishes its calls in the background (`roster`).

Rules.
1. A configuration with a fault changes nothing.
2. One reload or change at a time; the next one reads the files after the last one is done.
3. A new server that does not come up is a server that does not come up: the configuration is in effect all the same,
   and the outcome says so. The old one is not kept, as nobody could tell then what is in effect.
4. A change that cannot be written down is not made. One that was written is in effect, or will be at the next start.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import trio

from mcpd.config.diff import Plan, diff, effective
from mcpd.config.model import Secrets
from mcpd.config.origins import Provenance
from mcpd.config.overlay import Mark
from mcpd.errors import ConfigError
from mcpd.roster import calls
from mcpd.systemd.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from mcpd.backends.backend import ManagedBackend
    from mcpd.backends.connector import Connector
    from mcpd.config.model import Config, ServerSpec
    from mcpd.config.origins import Origin
    from mcpd.config.overlay import Overlay
    from mcpd.config.servers import Table
    from mcpd.config.sources import Change, Reading
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
    names: tuple[str, ...] = ()
    """The servers that were asked for, where it was not all of them."""
    servers: dict[str, dict[str, str]] = {}
    """State, and error if there is one, of each server that was started or asked for."""
    draining: tuple[str, ...] = ()
    """Servers that lost their place and still have calls."""
    seconds: float = 0.0


class LastReload(msgspec.Struct, frozen=True, kw_only=True):
    """How the last reload went, for operators."""

    at: float
    """Seconds since the epoch."""
    ok: bool
    errors: tuple[str, ...] = ()


class Sources(Protocol):
    """What the configuration is read from (`config.sources`)."""

    async def read(self, change: Change | None = None) -> Reading:
        """All of it, as if the change had been made. Raises: ConfigError, ChangeRefused."""

    async def write(self, reading: Reading) -> bool:
        """Have its change last; False if that is not certain. Raises: ChangeRefused, and nothing was changed."""


class Reloader:
    """Brings a running mcpd to what its configuration says now."""

    def __init__(
        self,
        config: Config,
        *,
        sources: Sources,
        prepare: Callable[[ServerSpec, Config], Connector],
        build: Callable[[Connector], ManagedBackend],
        roster: Roster,
        gateway: Gateway,
    ) -> None:
        self.config = config
        """What is in effect."""
        self.last: LastReload | None = None
        self.succeeded = self.refused = 0
        """Reloads, and changes by operators, since the start: those that took effect, and those that had a fault."""
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
        self._sources = sources
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
                return await self._plan(None)
            self.notify.reloading()
            try:
                return await self._carry_out(None)
            except ConfigError as error:
                self._failed(error)
                raise
            finally:
                self.notify.reloaded()

    async def add(
        self,
        tables: Mapping[str, Table],
        who: str,
        how: str,
        *,
        replace: bool = False,
        begin: Callable[[], None] = _whenever,
    ) -> Outcome:
        """Add servers for good, or `replace` what was added before. Tables as in the configuration's file.

        Raises: ConfigError, ChangeRefused, and nothing has changed."""
        added = _provenance(who, how)

        def change(overlay: Overlay, defined: Mapping[str, Origin]) -> Overlay:
            return overlay.with_servers(tables, added, defined, replace=replace)

        return await self._change(tuple(tables), change, begin)

    async def remove(self, name: str, who: str, how: str, *, begin: Callable[[], None] = _whenever) -> Outcome:
        """Remove a server that was added. Raises: ConfigError, ChangeRefused, and nothing has changed."""
        log.info("event=removing server=%r by=%r how=%r", name, who, how)
        return await self._change((name,), lambda overlay, defined: overlay.without_server(name, defined), begin)

    async def enable(self, name: str, who: str, how: str, *, begin: Callable[[], None] = _whenever) -> Outcome:
        """Switch a server on, whatever its definition says. Raises: ConfigError, ChangeRefused."""
        mark = Mark(True, _provenance(who, how))
        return await self._change((name,), lambda overlay, defined: overlay.with_mark(name, mark, defined), begin)

    async def disable(self, name: str, who: str, how: str, *, begin: Callable[[], None] = _whenever) -> Outcome:
        """Switch a server off, whatever its definition says. Raises: ConfigError, ChangeRefused."""
        mark = Mark(False, _provenance(who, how))
        return await self._change((name,), lambda overlay, defined: overlay.with_mark(name, mark, defined), begin)

    async def try_out(self, tables: Mapping[str, Table]) -> Outcome:
        """What `add` would do, or replace, without doing it. Raises: ConfigError, ChangeRefused."""
        now = _provenance("", "")
        return await self._plan(lambda overlay, defined: overlay.with_servers(tables, now, defined, replace=True))

    async def compare(self) -> dict[str, object]:
        """What the sources say now, against what runs. Raises: ConfigError."""
        reading = await self._sources.read()
        hidden = {each.name for each in reading.config.conflicts}
        return {
            "plan": diff(self.config, reading.config),
            "added": [
                {"name": name, "in_effect": name not in hidden, **msgspec.to_builtins(entry.added)}
                for name, entry in reading.overlay.servers.items()
            ],
            "marked": [
                {"name": name, "enabled": mark.enabled, **msgspec.to_builtins(mark.marked)}
                for name, mark in reading.overlay.marks.items()
            ],
            "conflicts": reading.config.conflicts,
            "problems": reading.config.problems,
        }

    async def _change(self, names: tuple[str, ...], change: Change, begin: Callable[[], None]) -> Outcome:
        async with self._turn:
            begin()
            self.notify.reloading()
            try:
                outcome = await self._carry_out(change)
            finally:
                self.notify.reloaded()
            return msgspec.structs.replace(outcome, names=names, servers={**outcome.servers, **self._states(names)})

    async def _plan(self, change: Change | None) -> Outcome:
        """What there is to do. Raises: ConfigError, ChangeRefused."""
        _, plan, _, _ = await self._prepared(change)
        return Outcome(dry_run=True, plan=plan)

    async def _prepared(self, change: Change | None) -> tuple[Reading, Plan, Config, list[Connector]]:
        """Everything that can fail, but for the writing: what was read, what differs, what is to be in effect, and the
        connectors of new servers. Raises: ConfigError, ChangeRefused."""
        reading = await self._sources.read(change)
        wanted = reading.config
        if self.check is not None:
            await self.check(wanted)
        plan = diff(self.config, wanted)
        config = effective(self.config, wanted)
        return reading, plan, config, [self._prepare(spec, config) for spec in _to_start(plan, config)]

    async def _carry_out(self, change: Change | None) -> Outcome:
        began = trio.current_time()
        reading, plan, config, prepared = await self._prepared(change)
        if not await self._sources.write(reading):
            log.warning("event=overlay_not_synced effect=a power cut may undo the last change")
        # Children that are still there may say what was secret in the former configuration.
        self.redact(Secrets.of({*self.config.secrets.values, *config.secrets.values}))
        new = {connector.spec.name: self._build(connector) for connector in prepared}
        await self._use(plan, config, new)
        outcome = Outcome(
            dry_run=False,
            plan=plan,
            servers={name: _state(backend) for name, backend in new.items()},
            draining=tuple(backend.name for backend in self._roster.draining if calls(backend)),
            seconds=round(trio.current_time() - began, 3),
        )
        self.last = LastReload(at=time.time(), ok=True)
        self.succeeded += 1
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
        tell_oddities(config)
        return outcome

    def _states(self, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
        """Of those that are configured."""
        running = {backend.name: _state(backend) for backend in self._roster.backends}
        off = {spec.name: {"state": "disabled"} for spec in self.config.servers if not spec.enabled}
        return {name: state for name in names if (state := running.get(name) or off.get(name))}

    @property
    def note(self) -> str:
        """What whoever looks at mcpd must know of its configuration, in one line; empty when there is nothing."""
        if self.last is not None and not self.last.ok:
            return f"configuration not in effect: {self.last.errors[0]}"
        if self.config.oddities:
            return self.config.oddities[0]
        return f"restart needed for {', '.join(self.needs_restart)}" if self.needs_restart else ""

    def describe(self) -> dict[str, object]:
        """How the last reload went, what waits for a restart, and what is on its way out; for operators."""
        return {
            "last_reload": self.last,
            "needs_restart": self.needs_restart,
            "draining": [backend.name for backend in self._roster.draining],
            "conflicts": self.config.conflicts,
            "problems": self.config.problems,
        }

    async def _use(self, plan: Plan, config: Config, new: dict[str, ManagedBackend]) -> None:
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
        self.refused += 1
        log.error("event=reload_failed faults=%d nothing has changed", len(lines))
        self._gateway.events.emit("reload", ok=False, errors=lines[:FAULTS_TOLD])
        for line in lines:
            log.error("event=reload_failed %s", line)


def tell_oddities(config: Config) -> None:
    """To the log: what of the overlay is not in effect."""
    for problem in config.problems:
        log.error("event=overlay_problem %s", problem)
    for conflict in config.conflicts:
        log.warning("event=overlay_conflict server=%s %s", conflict.name, conflict)


def _provenance(who: str, how: str) -> Provenance:
    return Provenance(at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), by=who, how=how)


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
