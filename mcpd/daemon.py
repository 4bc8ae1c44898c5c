"""The task tree: what runs as long as mcpd runs, in the order in which it is started and, backwards, ended.

Everything is made here and handed down; nothing else in mcpd knows all parts. Holds no logic of its own.
"""

from __future__ import annotations

import gc
import logging
import secrets
import signal
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import trio

from mcpd import __version__
from mcpd.backends.backend import ManagedBackend
from mcpd.backends.connector import Connector, client_limits
from mcpd.backends.kept import KeptCatalogues
from mcpd.collector import Collector
from mcpd.config.sources import Still
from mcpd.control.diagnosis import Facts
from mcpd.control.listener import ControlSocket, passable
from mcpd.control.remote import Remote
from mcpd.control.token import NOBODY
from mcpd.errors import ConfigError, refusal
from mcpd.frontends.drain import drain_stdio
from mcpd.frontends.stdio import serve_stdio, standard_streams
from mcpd.fronts import Fronts
from mcpd.gateway.gateway import Gateway
from mcpd.gateway.handover import HandoverRefused, capture, restore
from mcpd.gateway.questions import number_from
from mcpd.gateway.sessions import Sessions
from mcpd.gateway.vault import Vault
from mcpd.hangup import Hangups
from mcpd.log import redact_with, use_form
from mcpd.offloop import OffLoop
from mcpd.operators import kept_from, open_for_operators, operations_of, serve_operators
from mcpd.reload import Reloader
from mcpd.roster import Roster
from mcpd.supervisor.confinement import give_up_new_privileges
from mcpd.supervisor.pipes import PipeWriter
from mcpd.supervisor.supervisor import Supervisor
from mcpd.switch import Switch
from mcpd.systemd.manager import Manager
from mcpd.systemd.status import describe, report
from mcpd.systemd.watchdog import feed
from mcpd.upgrade import arrival
from mcpd.upgrade.check import UpgradeRefused
from mcpd.upgrade.leap import release_signals
from mcpd.upgrade.upgrade import Upgrade
from mcpd.watch import Watch
from mcpd.wire.deadlines import Deadlines
from mcpd.wire.entrance import HTTP, check_exposure, open_entrance
from mcpd.wire.http_client import HttpClient
from mcpd.wire.listeners import format_address
from mcpd.wire.tls import client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from mcpd.config.model import Config, Secrets, ServerSpec
    from mcpd.config.sources import Sources
    from mcpd.control.operations import Operations
    from mcpd.control.token import Token
    from mcpd.upgrade.state import State
    from mcpd.wire.http_server import HttpServer

log = logging.getLogger("mcpd")

PATIENCE_RESOLUTION = 0.05
"""Seconds between looks at exchanges: `streams.hold` is a tenth of a second."""

SWEEP = 30.0
"""Seconds between looks for idle sessions and old event logs."""

STOPPING = 15.0
"""Seconds that the end takes at most after the grace: last words, and the stop ladder of servers that ignore it."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The first two end mcpd; the third has it read its configuration anew, or ends it with its terminal. Received from the
first moment on: a child must not be left behind because mcpd was stopped while it started."""


class Daemon:
    """One run of mcpd."""

    def __init__(
        self,
        config: Config,
        state_dir: Path,
        *,
        manager: Manager | None = None,
        control: tuple[Path, bool] | None = None,
        sources: Sources | None = None,
        greet: Callable[[str], None] | None = None,
        left: State | None = None,
        token: Callable[[Path], Token] | None = None,
    ) -> None:
        """`token` finds the admin token in the state directory, where clients are served over HTTP."""
        self.manager = manager or Manager()
        self._control_path = control
        self.state_dir = state_dir
        self._left = left
        """What the program before left, whose place this one takes in the process."""
        self._stopping = False
        self._greet = greet
        self.deadlines = Deadlines()
        self.patience = Deadlines(resolution=PATIENCE_RESOLUTION)
        # The vault comes first, because it is the one that says what is wrong with a state directory.
        self.vault = Vault(state_dir, now=time.time(), session_age=config.limits.session_age)
        # Known before any server runs that could say it.
        self._token = token(state_dir) if token is not None else NOBODY
        config = self._token.hidden_in(config)
        redact_with(config.secrets.redact)
        # Of the whole process, and so before there is a second thread: a child then costs nothing more to start.
        if all(spec.sandbox.no_new_privileges for spec in config.servers if spec.enabled):
            give_up_new_privileges()
        try:
            spawn_concurrency = config.limits.spawn_concurrency
            self.supervisor = Supervisor(state_dir, spawn_concurrency=spawn_concurrency, private=kept_from(state_dir))
        except OSError as error:
            raise refusal(error)(
                f"cannot use the state directory: {error}", file=str(state_dir), remedy="give another with --state-dir"
            ) from None
        # Sessions outlive a run of the daemon, so serials and question ids must not meet those of earlier
        # runs.
        number_from(int(time.time()) << 20)
        self.sessions = Sessions(self.vault, config.limits, clock=time.time, first_serial=secrets.randbits(31))
        self.gateway = Gateway(config, sessions=self.sessions, logs=self.supervisor.logs)
        self.sessions.forget = self.gateway.forget
        self.gateway.usage = self.supervisor.usage
        self.kept = KeptCatalogues(state_dir / "catalogues", self.vault.seal.derive(b"mcpd kept catalogues"))
        self._estate: bytes | None = None  # what the last run left, until clients are served
        self.fronts = Fronts(self.gateway, config, self.patience)
        connectors = [self._connector(spec, config) for spec in config.servers if spec.enabled]
        self.roster = Roster()
        self.roster.backends = tuple(map(self._backend, connectors))
        if left is not None:
            arrival.accept(left, self.supervisor, self.roster.backends, self.gateway)
        self.gateway.use(self.roster.backends)
        files = OffLoop(sources or Still(config), self._token)
        self.reloader = Reloader(
            config,
            sources=files,
            prepare=self._connector,
            build=self._backend,
            roster=self.roster,
            gateway=self.gateway,
        )
        self.reloader.settings += (
            self.fronts.streamable.configure,
            lambda config: self.supervisor.slots.adjust(config.limits.spawn_concurrency),
            lambda config: use_form(config.log.format),
        )
        self.reloader.notify = self.manager.notify
        self.reloader.settings.append(lambda config: self.kept.retain([spec.name for spec in config.servers]))
        self.reloader.settings.append(
            lambda config: self.supervisor.logs.retain({spec.name for spec in config.servers})
        )
        self.reloader.redact = self._hide
        clocks = (self.deadlines, self.patience)
        collector = Collector(self.gateway, self.fronts, self.supervisor.slots, self.reloader, clocks)
        self.fronts.scrape = collector.scrape
        self.switch = Switch(
            self.reloader,
            self.roster,
            self.gateway,
            prepare=self._connector,
            build=self._backend,
            supervisor=self.supervisor,
        )
        self._upgrade: Upgrade | None = None
        self._hangups = Hangups(self.reloader)
        self._watch = Watch(files.stamp, self.reloader)

    @property
    def config(self) -> Config:
        """What is in effect."""
        return self.reloader.config

    def _connector(self, spec: ServerSpec, config: Config) -> Connector:
        client = None
        if spec.url is not None:
            limits = client_limits(config.limits)
            client = HttpClient(limits=limits, tls=tls_context(spec), deadlines=self.deadlines)
        return Connector(
            spec,
            supervisor=self.supervisor,
            client=client,
            deadlines=self.deadlines,
            message_max=config.limits.message,
            secrets=config.secrets,
            labelled=len(config.servers) > 1,
        )

    def _backend(self, connector: Connector) -> ManagedBackend:
        return ManagedBackend(connector.spec, connector, self.gateway.notices, self.kept)

    def _hide(self, secrets: Secrets) -> None:
        redact_with(secrets.redact)
        self.gateway.secrets = secrets

    async def run_http(self) -> None:
        """Serve on the configured address until SIGTERM or SIGINT. Raises: ConfigError."""
        if HTTP not in self.manager.passed:
            self.reloader.check = lambda config: check_exposure(config.listen)
        entrance = await open_entrance(self.config.listen, self.manager)
        self._inherit()
        with ExitStack() as stack:
            stack.callback(lambda: self.vault.pass_on(self._estate))
            stack.callback(entrance.close)
            control = open_for_operators(self.manager.passed, self._control_path, stack)
            signals = stack.enter_context(trio.open_signal_receiver(*SIGNALS))
            upgrades = stack.enter_context(trio.open_signal_receiver(signal.SIGUSR2))
            release_signals()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery, lambda: self.fronts.drain(self.config.shutdown.grace))
                await self._start(nursery)
                operations = self._operations(entrance.addresses)
                self.fronts.admin = Remote(operations, self._token).handle
                await self._serve_operators(nursery, control, operations)
                self._estate = None
                server: HttpServer = await nursery.start(
                    self.fronts.serve, entrance, self.deadlines, self.reloader, self._bequeath
                )
                if self._left is not None:
                    await arrival.go_on(self._left, server, self.roster, self.gateway)
                self._upgrade = upgrade = Upgrade(
                    supervisor=self.supervisor,
                    roster=self.roster,
                    gateway=self.gateway,
                    server=server,
                    sockets=(*entrance.passable(), *passable(control)),
                    manager=self.manager,
                    grace=lambda: self.config.shutdown.grace,
                    stopping=lambda: self._stopping,
                )
                nursery.start_soon(upgrade.heed, upgrades)
                for host, port in entrance.addresses:
                    log.info("event=ready listening on http://%s", format_address(host, port))
                self.gateway.events.emit("mcpd", what="ready", version=__version__)
                if self._greet is not None:
                    self._greet(f"http://{format_address(*entrance.addresses[0])}")
                self._tell_manager(nursery, server.ailment)
                gc.freeze()

    async def run_stdio(self) -> None:
        """Serve one client on stdin and stdout until it leaves, or SIGTERM or SIGINT. Raises: ConfigError."""
        with (
            ExitStack() as stack,
            trio.open_signal_receiver(*SIGNALS, signal.SIGUSR2) as signals,
            standard_streams() as (reader, stdout),
        ):
            control = open_for_operators(self.manager.passed, self._control_path, stack)
            async with trio.open_nursery() as nursery:
                writer, left = PipeWriter(stdout), trio.Event()

                async def drain() -> None:
                    await drain_stdio(self.gateway, writer, left, self.config.shutdown.grace)

                nursery.start_soon(self._heed, signals, nursery, drain)
                await self._start(nursery)
                await self._serve_operators(nursery, control, self._operations())
                nursery.start_soon(writer.run)
                self._tell_manager(nursery, lambda: None)
                gc.freeze()
                await serve_stdio(self.gateway, self.config, reader, writer, left)
                nursery.cancel_scope.cancel()

    async def _start(self, nursery: trio.Nursery) -> None:
        """Start what every front needs. The supervisor comes first: it ends last and finds no child left."""
        await nursery.start(self.deadlines.run)
        await nursery.start(self.patience.run)
        swept = await nursery.start(self.supervisor.run)
        if self.supervisor.cgroup is not None:
            log.info("event=cgroup %s", self.supervisor.cgroup)
        else:
            log.info("event=no_cgroup reason=%r", self.supervisor.cgroup_missing)
        for stray in swept.killed:
            log.warning("event=stray_killed %s", stray)
        await nursery.start(self.gateway.run)
        nursery.start_soon(self._sweep)
        await nursery.start(self.kept.run)
        await nursery.start(self.roster.run)
        if self._left is None:
            self.roster.start(self.roster.backends)
        nursery.start_soon(self._hangups.run)
        nursery.start_soon(self._watch.run)

    async def upgrade(self) -> NoReturn:
        """Become the code that is installed now. Raises: UpgradeRefused."""
        if self._upgrade is None:
            raise UpgradeRefused("mcpd does not serve clients over HTTP, or not yet")
        await self._upgrade.run()

    def _inherit(self) -> None:
        """Take in what the last run left. Before backends are started: they are told of it."""
        data = self.vault.inherit(time.time()) if self._left is None else self._left.sessions
        if data is not None:
            try:
                log.info("event=inherited sessions=%d", restore(data, self.gateway, self.fronts.streamable.inherit))
            except HandoverRefused as refused:
                log.warning("event=handover_refused reason=%s effect=clients_subscribe_again", refused)
            else:
                self._estate = data

    def _operations(self, addresses: Sequence[tuple[str, int]] = ()) -> Operations:
        listen = tuple(f"http://{format_address(*each)}" for each in addresses)
        group, missing = self.supervisor.cgroup, self.supervisor.cgroup_missing
        facts = Facts(listen, self.state_dir, "" if group is None else str(group), missing)
        key = self.vault.seal.derive(b"mcpd entity tags")
        parts = (self.gateway, self.reloader, self.switch, self.upgrade)
        return operations_of(*parts, key, facts, self.fronts.scrape)

    async def _serve_operators(self, nursery: trio.Nursery, sock: ControlSocket | None, operations: Operations) -> None:
        if sock is not None:
            parts = (operations, self.reloader, self.deadlines, self.patience, self.supervisor.registry)
            await nursery.start(serve_operators, sock, *parts)

    def _tell_manager(self, nursery: trio.Nursery, ailment: Callable[[], str | None]) -> None:
        """Up: say so to the service manager, and keep it informed."""
        notify, watchdog = self.manager.notify, self.manager.watchdog
        for name in self.manager.passed.close():
            log.warning("event=descriptor_not_used name=%s", name)

        def status() -> str:
            each = self.gateway.backends
            states = describe((backend.name, "asleep" if backend.asleep else backend.state.value) for backend in each)
            return f"{states}; {note}" if (note := self.reloader.note) else states

        notify.ready(status())
        nursery.start_soon(report, notify, status, self.gateway.notices.wait_news)
        if watchdog is not None:
            nursery.start_soon(partial(feed, notify, watchdog, ailment=ailment))

    def _bequeath(self) -> None:
        """Now it is known what clients miss."""
        self.vault.bequeath(capture(self.gateway))

    async def _heed(
        self, signals: AsyncIterator[int], nursery: trio.Nursery, drain: Callable[[], Awaitable[None]]
    ) -> None:
        """The first signal to end has everything drained, a second one does not wait for that."""

        async def end() -> None:
            await drain()
            nursery.cancel_scope.cancel()

        stopping = False
        async for number in signals:
            if number == signal.SIGUSR2 or (number == signal.SIGHUP and self._hangups.note(stopping=stopping)):
                continue  # over stdio, where alone it comes this way, there is no upgrade
            self._stopping = True
            log.info("event=stopping signal=%s", signal.Signals(number).name)
            self.gateway.events.emit("mcpd", what="stopping", signal=signal.Signals(number).name)
            if stopping:
                nursery.cancel_scope.cancel()
                return
            stopping = True
            self.manager.notify.stopping("stopping")
            self.manager.notify.extend_timeout(self.config.shutdown.grace + STOPPING)
            nursery.start_soon(end)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP)
            self.sessions.sweep()


def tls_context(spec: ServerSpec) -> ssl.SSLContext | None:
    """What an https or wss server is trusted by; None for every other. Raises: ConfigError, naming the server."""
    if spec.url is None or not spec.url.startswith(("https:", "wss:")):
        return None
    tls = spec.tls
    try:
        return client_context(verify=tls.verify, ca_file=tls.ca, client_cert=tls.cert, client_key=tls.key)
    except ConfigError as error:
        raise ConfigError(
            error.reason, file=error.file, path=f"mcpServers.{spec.name}.tls", remedy=error.remedy
        ) from None
