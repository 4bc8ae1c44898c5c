"""One configured server, kept running: connected, its catalogue known, calls sent to the right link.

Theory of operation. `run` is a loop round the table of `supervisor.states`: connect the link that fetches the catalogue, load it,
be ready until the link is lost, wait as the restart policy says, again. Calls go to that link when it is shared, or to the
session's own. What the backend lists is fetched anew when it says so, and reported only if it differs.

Rules.
1. Ready means usable: handshake done, catalogue loaded, log level and subscriptions set again.
2. The last catalogue stays valid while the server is away: lists do not shrink because a process restarts.
3. A call to a server that is away waits for the attempt under way, or makes one happen, and then fails with the reason.
"""

from __future__ import annotations

import logging
import math
import random
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends import catalogue as catalogue_of
from mcpd.backends.base import KINDS, Catalogue
from mcpd.backends.instances import Instances
from mcpd.errors import BackendError, BackendUnavailable, RpcError
from mcpd.protocol.capabilities import EVERYTHING
from mcpd.protocol.versions import COMPLETION_CONTEXT, has
from mcpd.supervisor.restart import Mode, RestartPolicy, Restarts
from mcpd.supervisor.states import STARTABLE, USABLE, Event, State, step

if TYPE_CHECKING:
    from mcpd.backends.base import Entry, News
    from mcpd.backends.connector import Connector
    from mcpd.backends.link import Link
    from mcpd.config.model import ServerSpec
    from mcpd.protocol.calls import Call
    from mcpd.protocol.handshake import ServerHello
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.types import SessionKey

log = logging.getLogger("mcpd.backends")

RELIST_DELAY: Final = 0.05
"""Seconds in which several `list_changed` become one fetch: servers announce every tool they add on its own."""

WAIT_FOR_ATTEMPT: Final = 10.0
"""Seconds that a call waits for an attempt to connect that is under way; clients give up after 30 to 60."""


class ManagedBackend:
    """Implements `base.Backend`."""

    def __init__(self, spec: ServerSpec, connector: Connector, news: News) -> None:
        self.name = spec.name
        self.spec = spec
        self.state = State.STOPPED
        self.hello: ServerHello | None = None
        self.catalogue = Catalogue()
        self.error: RpcError | None = None
        """Why it is not ready, once it failed; None while it is."""
        self._connector = connector
        self._news = news
        self._link: Link | None = None
        self._instances = Instances(connector, self)
        self._restarts = Restarts(
            RestartPolicy(
                mode=Mode(spec.restart.policy),
                initial=spec.restart.initial,
                factor=spec.restart.factor,
                cap=spec.restart.cap,
                jitter=spec.restart.jitter,
                stable=spec.restart.stable,
            )
        )
        self._verdict = trio.Event()
        self._changed = trio.Event()
        self._wake = trio.Event()
        self._stale: set[str] = set()
        self._stale_event = trio.Event()
        self._level: str | None = None
        self._own_levels: dict[SessionKey, str] = {}
        self._subscriptions: dict[str, Members] = {}
        self._restart_count = 0
        self._ready_since: float | None = None

    # ---- staying alive ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the server running until cancelled; then it is stopped."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._instances.run)
            while True:
                if self.state in STARTABLE:
                    self._step(Event.START)
                failure = await self._attempt()
                uptime = trio.current_time() - self._ready_since if self._ready_since is not None else 0.0
                was_ready, self._ready_since = self._ready_since is not None, None
                self._link = None
                self.error = failure
                delay = self._judge(failure, was_ready, uptime)
                self._news.verdict(self)
                if not self._verdict.is_set():
                    self._verdict.set()
                await self._pause(delay)
                self._restart_count += 1

    def _judge(self, failure: RpcError, was_ready: bool, uptime: float) -> float | None:
        """Take the step that the failure means, and return after how long to try again; None: not by itself."""
        delay = self._restarts.next_delay(
            now=trio.current_time(),
            failed=True,
            uptime=uptime,
            random=random.random(),
            retry_after=getattr(failure, "retry_after", None),
        )
        if getattr(failure, "needs_operator", False):
            self._step(Event.NEEDS_OPERATOR)
            log.error("backend=%s event=needs_operator reason=%s", self.name, failure)
            return None
        if delay is None:
            self._step(Event.ENDED)
            log.error("backend=%s event=ended reason=%s", self.name, failure)
            return None
        self._step(Event.LOST if was_ready else Event.FAILED)
        log.warning("backend=%s event=%s retry_in=%.1f reason=%s", self.name, self.state.value, delay, failure)
        return delay

    async def _pause(self, delay: float | None) -> None:
        self._wake = trio.Event()
        with trio.move_on_after(math.inf if delay is None else delay):
            await self._wake.wait()
        if self.state is State.BACKING_OFF:
            self._step(Event.RETRY)

    async def _attempt(self) -> RpcError:
        """Connect, load, be ready; returns why it ended. Only cancellation passes."""
        failure: RpcError | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    async with self._connector.connect(nursery, self, EVERYTHING, None) as link:
                        await self._live(link, nursery)
                        reason = link.reason
                        failure = reason if isinstance(reason, RpcError) else None
                except RpcError as error:
                    failure = error
                nursery.cancel_scope.cancel()
        except Exception as error:
            # The crash boundary of a backend: a bug in mcpd must not take the other backends along.
            log.exception("backend=%s event=internal_error", self.name)
            failure = BackendUnavailable(self.name, f"internal error in mcpd: {error!r}", remedy="see mcpd's log")
        return failure or BackendUnavailable(self.name, "its connection ended")

    async def _live(self, link: Link, nursery: trio.Nursery) -> None:
        """From the handshake to the loss of the link."""
        self.hello = link.hello
        link.level, link.subscriptions = self._level, self._subscriptions
        fetched = await catalogue_of.fetch(link, self.spec.timeouts.list)
        await link.replay()
        self._link = link
        self._ready(fetched)
        nursery.start_soon(self._refresh, link)
        await link.lost.wait()

    def _ready(self, fetched: Catalogue) -> None:
        changed = tuple(kind for kind in KINDS if fetched.of(kind) != self.catalogue.of(kind))
        self.catalogue = fetched
        self.error = None
        self._ready_since = trio.current_time()
        self._step(Event.READY)
        assert self.hello is not None
        log.info(
            "backend=%s event=ready version=%s tools=%d resources=%d prompts=%d",
            self.name,
            self.hello.version.text,
            len(fetched.tools),
            len(fetched.resources),
            len(fetched.prompts),
        )
        if changed:
            self._news.catalogue_changed(self, changed)
        self._verdict.set()
        self._news.verdict(self)

    def _step(self, event: Event) -> None:
        self.state = step(self.state, event)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def wait_verdict(self) -> None:
        await self._verdict.wait()

    # ---- its lists ----------------------------------------------------------------------------------------------------

    def list_changed(self, kind_of_notification: str) -> None:
        """A link of this backend says that lists changed."""
        self._stale.update(catalogue_of.CHANGED_BY[kind_of_notification])
        self._stale_event.set()

    async def _refresh(self, link: Link) -> None:
        """Fetch what was said to have changed, for as long as the link lasts."""
        while True:
            await self._stale_event.wait()
            await trio.sleep(RELIST_DELAY)
            kinds, self._stale, self._stale_event = self._stale, set(), trio.Event()
            changed = []
            for kind in KINDS:
                if kind not in kinds or link.hello is None or not catalogue_of.offered(kind, link.hello.capabilities):
                    continue
                try:
                    entries = await catalogue_of.fetch_kind(link, kind, self.spec.timeouts.list)
                except RpcError as error:
                    log.warning("backend=%s event=list_failed list=%s reason=%s", self.name, kind, error)
                    continue
                if self._replace(kind, entries):
                    changed.append(kind)
            if changed:
                self._news.catalogue_changed(self, tuple(changed))

    def _replace(self, kind: str, entries: tuple[Entry, ...]) -> bool:
        if entries == self.catalogue.of(kind):
            return False
        self.catalogue = self.catalogue.with_kind(kind, entries)
        return True

    # ---- calls --------------------------------------------------------------------------------------------------------

    async def call(self, call: Call, method: str, members: Members) -> Message:
        link = self._link
        if link is None:
            link = await self._usable()
        if self.spec.instances == "per-session" and not self._connector.stateless:
            key = call.caller.key
            link = await self._instances.get(call.caller, self._own_levels.get(key))
        if method == "completion/complete" and link.hello and not has(link.hello.version, COMPLETION_CONTEXT):
            members.pop("context", None)
        return await link.call(call, method, members)

    async def _usable(self) -> Link:
        """Wait for the attempt under way, or make one happen (rule 3). Raises: BackendError."""
        if self.state is State.NEEDS_OPERATOR or self.state is State.STOPPED:
            raise self._unavailable()
        if self.state is State.BACKING_OFF:
            if not self._restarts.wake(now=trio.current_time()):
                raise self._unavailable()
            self._wake.set()
        with trio.move_on_after(WAIT_FOR_ATTEMPT):
            while True:
                await self._changed.wait()
                if self.state in USABLE and self._link is not None:
                    return self._link
                if self.state in (State.BACKING_OFF, State.NEEDS_OPERATOR, State.STOPPED):
                    break
        raise self._unavailable()

    def _unavailable(self) -> RpcError:
        if isinstance(self.error, BackendError):
            return BackendUnavailable(
                self.name,
                f"it is {self.state.value}; the last failure: {self.error.reason}",
                remedy=self.error.remedy,
                detail=self.error.detail,
            )
        reason = f": {self.error.message}" if self.error is not None else ""
        return BackendUnavailable(self.name, f"it is {self.state.value}{reason}", remedy="try again in a moment")

    async def set_level(self, level: str, key: SessionKey, own: str) -> None:
        self._level = level
        self._own_levels[key] = own
        try:
            if self._link is not None and self._link.level != level:
                await self._link.set_level(level)
            link = self._instances.find(key)
            if link is not None:
                await link.set_level(own)
        except RpcError as error:
            log.warning("backend=%s event=set_level_failed reason=%s", self.name, error)

    async def subscribe(self, call: Call, uri: str, members: Members) -> None:
        link = self._link or await self._usable()
        if self.spec.instances == "per-session" and not self._connector.stateless:
            link = await self._instances.get(call.caller, self._own_levels.get(call.caller.key))
        await link.call(call, "resources/subscribe", members)
        link.subscriptions[uri] = members

    async def unsubscribe(self, key: SessionKey, uri: str) -> None:
        link = self._instances.find(key) or self._link
        if link is None:
            return
        members = link.subscriptions.pop(uri, None)
        if members is None:
            return
        try:
            await link.request("resources/unsubscribe", members, self.spec.timeouts.list)
        except RpcError as error:
            log.warning("backend=%s event=unsubscribe_failed uri=%s reason=%s", self.name, uri, error)

    def drop_subscription(self, uri: str) -> None:
        """The last subscriber of a shared link is gone."""
        link = self._link
        if link is not None:
            members = link.subscriptions.pop(uri, None)
            if members is not None:
                link.request_quietly("resources/unsubscribe", members)

    def roots_changed(self, key: SessionKey) -> None:
        link = self._instances.find(key) if self.spec.instances == "per-session" else self._link
        if link is not None:
            link.notify("notifications/roots/list_changed")

    def forget(self, key: SessionKey) -> None:
        self._own_levels.pop(key, None)
        self._instances.forget(key)

    # ---- what links say (link.Listener) -------------------------------------------------------------------------------

    def resource_updated(self, params: Buffer, owner: SessionKey | None) -> None:
        self._news.resource_updated(self, params, owner)

    def unrelated(self, method: str, params: Buffer, owner: SessionKey | None) -> None:
        self._news.unrelated(self, method, params, owner)

    async def ask_owner(self, owner: SessionKey | None, method: str, params: Buffer) -> Buffer:
        return await self._news.ask_owner(self, owner, method, params)

    # ---- for operators ------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, object]:
        hello = self.hello
        about: dict[str, object] = {
            "name": self.name,
            "state": self.state.value,
            "transport": self._connector.transport,
            "instances": self.spec.instances,
            "protocol_version": hello.version.text if hello is not None else None,
            "tools": len(self.catalogue.tools),
            "resources": len(self.catalogue.resources),
            "resource_templates": len(self.catalogue.resource_templates),
            "prompts": len(self.catalogue.prompts),
            "restarts": self._restart_count,
            "calls_in_flight": self._link.in_flight if self._link is not None else 0,
            "sessions": len(self._instances),
        }
        if self._connector.pid is not None and self.state in USABLE:
            about["pid"] = self._connector.pid
        if self.error is not None:
            about["error"] = self.error.message
        return about
