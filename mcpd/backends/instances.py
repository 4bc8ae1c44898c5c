"""The links of one server that serve one client session each, or the clients of one principal: opened when first used,
ended with the session or when idle.

Rules.
1. Two calls that come at once and need the same link open one, not two.
2. At most `max_instances` links; the longest idle one makes room, one with a call in flight never does.
3. A link that is lost is replaced by the next call, and set up as the lost one was. One that has
   subscriptions is replaced when the server is ready again (`revive`), as its client may wait for news
   without calling. Subscriptions of an earlier run of mcpd are those of a link that was lost (`inherited`).
4. A server that fails is not hammered. While links cannot be opened, one is tried at a time, for all sessions, and as
   late as the restart policy says. A link that is lost after it was open slows down its own session alone: what a
   client does to its server must not be felt by others.
5. What the backend says on a link outside any call is for the sessions that use this link, and for nobody else. The
   link of a principal is like a shared one to them: its log is as verbose as the one wants who wants most, what several
   are subscribed to is subscribed to once, and it declares whatever mcpd bridges. It outlives them until it is idle.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends.carried import capture_link
from mcpd.backends.inherited import update_of
from mcpd.backends.instance import Instance
from mcpd.backends.pace import Pace
from mcpd.errors import BackendError, BackendUnavailable, RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import EVERYTHING
from mcpd.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mcpd.backends.carried import LinkState
    from mcpd.backends.carrier import Listener
    from mcpd.backends.connector import Connector
    from mcpd.backends.link import Link
    from mcpd.backends.subscribers import Subscribers
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Members

log = logging.getLogger("mcpd.backends")

SWEEP: Final = 15.0
"""Seconds between looks for idle links; `instance_idle` is counted in minutes."""


class Instances:
    """Keyed by client session, or by principal."""

    def __init__(self, connector: Connector, listener: Listener, *, at_failure: Callable[[], None]) -> None:
        self._connector = connector
        self._at_failure = at_failure
        self._listener = listener
        self._spec = connector.spec
        self._by_principal = self._spec.instances == "per-principal"
        self._pace = Pace.for_calls(connector.spec.name, connector.spec.restart)
        self._probe: Instance | None = None
        """The one that is opened to see whether links can be opened again."""
        self._by_key: dict[SessionKey, Instance] = {}
        self._by_session: dict[SessionKey, Instance] = {}
        """The one that each session uses, or listens on."""
        self.levels: dict[SessionKey, str] = {}
        """What each session wants of the log, if it said so."""
        self._inherited: set[SessionKey] = set()
        """Those with subscriptions of an earlier run that were not made again yet."""
        # Links outlive the call that opened them, and end with the backend: `run` opens the nursery and
        # outlives them all.
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._by_key)

    def serves(self, caller: Caller) -> bool:
        """Whether a client gets a link of its own, or of its principal's, if the server keeps anything for a client."""
        return self._by_principal or (self._spec.instances == "per-session" and not caller.stateless)

    def key_of(self, caller: Caller) -> SessionKey:
        """Of the link that serves a client; no session of a client is called like a principal's."""
        return SessionKey(f"principal {caller.principal}") if self._by_principal else caller.key

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links and end idle ones, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while True:
                    await trio.sleep(SWEEP)
                    self._end_idle()
            finally:
                self._nursery = None

    async def get(self, caller: Caller) -> Link:
        """The link that serves a client, opened if need be. Raises: BackendError."""
        key = self.key_of(caller)
        while True:
            instance = self._by_key.get(key)
            if instance is not None and not instance.lost:
                break
            probe = self._probe
            if self._pace.error is None or probe is None or probe.opened.is_set():
                instance = self._renew(key, caller, instance)
                break
            await probe.opened.wait()
        if not caller.stateless:
            self._join(instance, caller.key)
        instance.claim.hurry()
        await instance.opened.wait()
        if instance.link is None:
            assert instance.error is not None
            raise instance.error.with_traceback(None)
        await self._settle_level(instance)
        return instance.link

    def find(self, key: SessionKey) -> Link | None:
        """The link that a session uses, if that is not lost."""
        instance = self._by_session.get(key)
        return instance.link if instance is not None and not instance.lost else None

    def holding(self, key: SessionKey, uri: str) -> Instance | None:
        """The instance whose link is, or was, subscribed to a resource for this client."""
        instance = self._by_session.get(key)
        return instance if instance is not None and uri in instance.subscriptions else None

    def hearers(self, owner: SessionKey | None) -> tuple[SessionKey | None, ...]:
        """The sessions that are meant by a link's owner."""
        instance = self._by_key.get(owner) if owner is not None else None
        return (owner,) if instance is None else tuple(instance.sessions)

    def listeners(self, owner: SessionKey | None) -> tuple[SessionKey | None, ...]:
        """These, and who listens without a session."""
        instance = self._by_key.get(owner) if owner is not None else None
        return (owner,) if instance is None else (*instance.sessions, *instance.listens)

    def subscribing(self, caller: Caller, owner: SessionKey) -> Subscribers | None:
        """A client is about to subscribe the link of this owner: those who are subscribed to anything there."""
        instance = self._by_key.get(owner)
        if instance is None:
            return None
        if caller.stateless:
            instance.listens.add(caller.key)
            self._by_session[caller.key] = instance
        else:
            self._join(instance, caller.key)
        return instance.subscribers

    async def set_level(self, key: SessionKey) -> None:
        """What a session wants of the log changed. Raises: BackendError."""
        instance = self._by_session.get(key)
        if instance is not None:
            await self._settle_level(instance)

    def _join(self, instance: Instance, key: SessionKey) -> None:
        instance.sessions.add(key)
        self._by_session[key] = instance

    def _level_of(self, instance: Instance) -> str | None:
        """The least severe that any of its sessions wants."""
        wanted = [LOG_LEVELS.index(self.levels[key]) for key in instance.sessions if key in self.levels]
        return LOG_LEVELS[min(wanted)] if wanted else None

    async def _settle_level(self, instance: Instance) -> None:
        level, link = self._level_of(instance), instance.link
        if link is not None and level is not None and level != link.level:
            await link.set_level(level)

    # ---- what was before -----------------------------------------------------------------------------------

    def inherit(self, caller: Caller, uri: str, members: Members) -> None:
        """A session was subscribed in an earlier run of mcpd: as if its link had been lost since. Beyond
        `max_instances` it is not.
        """
        key = self.key_of(caller)
        instance = self._by_key.get(key)
        if instance is None:
            if len(self._by_key) >= self._spec.max_instances:
                return
            instance = self._by_key[key] = Instance(key, caller, None)
            instance.error = BackendUnavailable(self._spec.name, "mcpd was restarted")
            instance.opened.set()
        self._join(instance, caller.key)
        self._inherited.add(caller.key)
        instance.subscribers.add(uri, caller.key)
        instance.subscriptions[uri] = members

    def disinherit(self) -> list[tuple[SessionKey, str, Members]]:
        """No client has a link of its own here: give up the subscriptions that were inherited."""
        found = []
        for key in list(self._inherited):
            instance = self._by_session.get(key)
            if instance is not None:
                wanted = instance.subscriptions
                found += [(key, uri, wanted[uri]) for uri in instance.subscribers.held_by(key) if uri in wanted]
        for key in list(self._inherited):
            instance = self._by_session.get(key)
            if instance is not None:
                self._end(instance)
        self._inherited.clear()
        return found

    @property
    def in_flight(self) -> int:
        """Calls in flight on all links."""
        return sum(instance.in_flight for instance in self._by_key.values())

    def revive(self) -> None:
        """The server is ready again: open the lost links that have subscriptions."""
        for key, instance in list(self._by_key.items()):
            if instance.lost and instance.subscriptions:
                self._open(key, instance.caller)

    @property
    def opening(self) -> bool:
        """Whether a link is just being opened."""
        return any(not each.opened.is_set() for each in self._by_key.values())

    def links(self) -> list[Link]:
        """Those that were opened."""
        return [each.link for each in self._by_key.values() if each.link is not None]

    def capture(self) -> list[LinkState]:
        """The links that another program can go on with."""
        found = (capture_link(each.link, each.caller) for each in self._by_key.values() if each.link is not None)
        return [state for state in found if state is not None]

    def resume(self, states: Iterable[LinkState]) -> None:
        """Go on with what another program captured, and the connector has; while `run` is running."""
        for state in states:
            if state.owner is not None:
                caller = state.owner.caller()
                instance = self._open(self.key_of(caller), caller)
                instance.level = state.level
                instance.subscriptions.update({u: jsonrpc.members_of(each) for u, each in state.subscriptions.items()})

    def forget(self, key: SessionKey) -> None:
        """A session is over, and so is its link; that of a principal has others, or may soon."""
        self._inherited.discard(key)
        self.levels.pop(key, None)
        instance = self._by_session.pop(key, None)
        if instance is None:
            return
        instance.sessions.discard(key)
        instance.listens.discard(key)
        if not self._by_principal:
            self._end(instance)
            return
        link = instance.link
        for uri in instance.subscribers.left(key):
            members = instance.subscriptions.pop(uri, None)
            if members is not None and link is not None:
                link.unsubscribe_quietly(uri, members)
        if link is not None:
            link.errands.start(self._settle_level, instance)

    def _end(self, instance: Instance) -> None:
        """End a link, or what there was of one."""
        if self._by_key.get(instance.key) is instance:
            self._drop(instance)
        instance.scope.cancel()

    def _drop(self, instance: Instance) -> None:
        del self._by_key[instance.key]
        for key in (*instance.sessions, *instance.listens):
            self._by_session.pop(key, None)

    def _renew(self, key: SessionKey, caller: Caller, before: Instance | None) -> Instance:
        """A call needs a link. Raises: BackendUnavailable."""
        pause = self._pace.patience()
        if before is None:
            self._make_room()
        elif before.pace is not None:
            pause = max(pause, before.pace.patience())
        instance = self._open(key, caller, pause)
        if self._pace.error is not None:
            self._probe = instance
        return instance

    def _open(self, key: SessionKey, caller: Caller, pause: float = 0.0) -> Instance:
        if self._nursery is None:
            raise BackendUnavailable(self._spec.name, "mcpd is stopping")
        instance = self._by_key[key] = Instance(key, caller, self._by_key.get(key))
        for session in (*instance.sessions, *instance.listens):
            self._by_session[session] = instance
        if not self._by_principal:
            self._join(instance, caller.key)
        self._nursery.start_soon(self._keep, instance, pause)
        return instance

    async def _keep(self, instance: Instance, pause: float) -> None:
        capabilities = EVERYTHING if self._by_principal else instance.caller.capabilities
        failure: BackendError | None = None
        try:
            with instance.scope:
                await trio.sleep(pause)
                async with trio.open_nursery() as nursery:
                    try:
                        async with self._connector.connect(
                            nursery, self._listener, capabilities, instance.key, instance.claim
                        ) as link:
                            link.level = instance.level or self._level_of(instance)
                            link.subscriptions = instance.subscriptions
                            if link.carried is None:
                                await link.replay()
                            else:
                                self._inherited -= instance.sessions
                                link.errands.start(link.go_on)
                            instance.link = link
                            self._pace.answered()
                            instance.opened.set()
                            self._announce(instance)
                            opened = trio.current_time()
                            await link.lost.wait()
                            self._note_loss(instance, link, trio.current_time() - opened)
                            self._at_failure()
                    except BackendError as error:
                        failure = error
                        self._at_failure()
                    nursery.cancel_scope.cancel()
        except Exception as error:
            # The crash boundary of one session's link: a bug in mcpd ends it, and nothing else.
            log.exception("backend=%s event=internal_error", self._spec.name)
            failure = BackendUnavailable(self._spec.name, f"internal error in mcpd: {error!r}", remedy="see mcpd's log")
        finally:
            if failure is not None and instance.link is None:
                self._pace.failed(failure)
            instance.error = failure or BackendUnavailable(self._spec.name, "its session was ended while it was opened")
            if self._by_key.get(instance.key) is instance and instance.link is None and not instance.subscriptions:
                self._drop(instance)
            instance.opened.set()

    def _announce(self, instance: Instance) -> None:
        """Nobody knows what happened between the runs: tell clients of an update of what they were subscribed to."""
        for key in self._inherited & instance.sessions:
            self._inherited.discard(key)
            for uri in instance.subscribers.held_by(key):
                self._listener.resource_updated(update_of(uri), key)

    def _note_loss(self, instance: Instance, link: Link, uptime: float) -> None:
        if not isinstance(link.reason, RpcError):
            return
        if instance.pace is None:
            instance.pace = Pace.for_calls(self._spec.name, self._spec.restart)
        instance.pace.failed(link.reason, uptime=uptime)

    def _make_room(self) -> None:
        if len(self._by_key) < self._spec.max_instances:
            return
        idle = [
            (bool(each.subscriptions), not each.lost, each.last_used, key)
            for key, each in self._by_key.items()
            if each.opened.is_set() and not each.in_flight
        ]
        if not idle:
            raise BackendUnavailable(
                self._spec.name,
                f"{self._spec.max_instances} instances are in use",
                remedy=f"raise servers.{self._spec.name}.max_instances, or try later",
            )
        self._end(self._by_key[min(idle)[-1]])

    def _end_idle(self) -> None:
        horizon = trio.current_time() - self._spec.instance_idle
        for instance in list(self._by_key.values()):
            if not instance.in_flight and not instance.subscriptions and instance.last_used < horizon:
                log.info("backend=%s event=instance_idle", self._spec.name)
                self._end(instance)
