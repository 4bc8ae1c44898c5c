"""The links of one server that serve one client session each: opened when first used, ended with the session
or when idle.

Rules.
1. Two calls of one session that come at once open one link, not two.
2. At most `max_instances` links; the longest idle one makes room, one with a call in flight never does.
3. A link that is lost is replaced by the next call, and set up as the lost one was. One that has
   subscriptions is replaced when the server is ready again (`revive`), as its client may wait for news
   without calling. Subscriptions of an earlier run of mcpd are those of a link that was lost (`inherited`).
4. A server that fails is not hammered. While links cannot be opened, one is tried at a time, for all sessions, and as
   late as the restart policy says. A link that is lost after it was open slows down its own session alone: what a
   client does to its server must not be felt by others.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends.carried import capture_link
from mcpd.backends.inherited import update_of
from mcpd.backends.pace import Pace
from mcpd.errors import BackendError, BackendUnavailable, RpcError
from mcpd.protocol import jsonrpc
from mcpd.supervisor.slots import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mcpd.backends.carried import LinkState
    from mcpd.backends.carrier import Listener
    from mcpd.backends.connector import Connector
    from mcpd.backends.link import Link
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Members
    from mcpd.types import SessionKey

log = logging.getLogger("mcpd.backends")

SWEEP: Final = 15.0
"""Seconds between looks for idle links; `instance_idle` is counted in minutes."""


class Instance:
    """One session's own link, while it is opened, open, or lost."""

    __slots__ = ("begun", "caller", "claim", "error", "link", "opened", "pace", "scope", "subscriptions")

    def __init__(self, caller: Caller, subscriptions: dict[str, Members], pace: Pace | None = None) -> None:
        self.caller = caller
        self.claim = Claim()
        self.subscriptions = subscriptions
        """What its link is, or was, subscribed to; handed on to the instance that replaces it."""
        self.pace = pace
        """How often links of the session were lost; handed on, too. None until one was."""
        self.begun = trio.current_time()
        self.opened = trio.Event()
        self.link: Link | None = None
        self.error: BackendError | None = None
        self.scope = trio.CancelScope()

    @property
    def lost(self) -> bool:
        """Whether its link ended, or could not be opened."""
        return self.opened.is_set() and (self.link is None or self.link.lost.is_set())

    @property
    def in_flight(self) -> int:
        return self.link.in_flight if self.link is not None else 0

    @property
    def last_used(self) -> float:
        return self.link.last_used if self.link is not None else self.begun


class Instances:
    """Keyed by client session."""

    def __init__(self, connector: Connector, listener: Listener, *, at_failure: Callable[[], None]) -> None:
        self._connector = connector
        self._at_failure = at_failure
        self._listener = listener
        self._spec = connector.spec
        self._pace = Pace.for_calls(connector.spec.name, connector.spec.restart)
        self._probe: Instance | None = None
        """The one that is opened to see whether links can be opened again."""
        self._by_session: dict[SessionKey, Instance] = {}
        self._inherited: set[SessionKey] = set()
        """Those with subscriptions of an earlier run that were not made again yet."""
        # Links outlive the call that opened them, and end with the backend: `run` opens the nursery and
        # outlives them all.
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._by_session)

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

    async def get(self, caller: Caller, level: str | None) -> Link:
        """The session's link, opened if need be. Raises: BackendError."""
        while True:
            instance = self._by_session.get(caller.key)
            if instance is not None and not instance.lost:
                break
            probe = self._probe
            if self._pace.error is None or probe is None or probe.opened.is_set():
                instance = self._renew(caller, level, instance)
                break
            await probe.opened.wait()
        instance.claim.hurry()
        await instance.opened.wait()
        if instance.link is None:
            assert instance.error is not None
            raise instance.error.with_traceback(None)
        return instance.link

    def find(self, key: SessionKey) -> Link | None:
        """The session's link, if it has one that is not lost."""
        instance = self._by_session.get(key)
        return instance.link if instance is not None and not instance.lost else None

    def subscriptions(self, key: SessionKey) -> dict[str, Members] | None:
        """What the session's own link is or was subscribed to, to be changed; None when it never had one."""
        instance = self._by_session.get(key)
        return instance.subscriptions if instance is not None else None

    def inherit(self, caller: Caller, uri: str, members: Members) -> None:
        """A session was subscribed in an earlier run of mcpd: as if its link had been lost since. Beyond
        `max_instances` it is not.
        """
        instance = self._by_session.get(caller.key)
        if instance is None:
            if len(self._by_session) >= self._spec.max_instances:
                return
            instance = self._by_session[caller.key] = Instance(caller, {})
            instance.error = BackendUnavailable(self._spec.name, "mcpd was restarted")
            instance.opened.set()
            self._inherited.add(caller.key)
        instance.subscriptions[uri] = members

    def disinherit(self) -> list[tuple[SessionKey, str, Members]]:
        """Sessions have no links of their own here: give up the subscriptions that were inherited."""
        found = []
        for key in list(self._inherited):
            found += [(key, uri, members) for uri, members in (self.subscriptions(key) or {}).items()]
            self.forget(key)
        return found

    @property
    def in_flight(self) -> int:
        """Calls in flight on all links."""
        return sum(instance.in_flight for instance in self._by_session.values())

    @property
    def opening(self) -> bool:
        """Whether a link is being opened, for which calls may wait."""
        return any(not instance.opened.is_set() for instance in self._by_session.values())

    def revive(self, levels: Mapping[SessionKey, str]) -> None:
        """The server is ready again: open the lost links that have subscriptions, with each session's log
        level.
        """
        for key, instance in list(self._by_session.items()):
            if instance.lost and instance.subscriptions:
                self._open(instance.caller, levels.get(key), instance.subscriptions, instance.pace)

    def links(self) -> list[Link]:
        """Those that were opened."""
        return [each.link for each in self._by_session.values() if each.link is not None]

    def capture(self) -> list[LinkState]:
        """The links that another program can go on with."""
        found = (capture_link(each.link, each.caller) for each in self._by_session.values() if each.link is not None)
        return [state for state in found if state is not None]

    def resume(self, states: Iterable[LinkState]) -> None:
        """Go on with what another program captured, and the connector has; while `run` is running."""
        for state in states:
            if state.owner is not None:
                caller, params = state.owner.caller(), state.subscriptions
                self._open(caller, state.level, {uri: jsonrpc.members_of(each) for uri, each in params.items()})

    def forget(self, key: SessionKey) -> None:
        """End the session's link."""
        self._inherited.discard(key)
        instance = self._by_session.pop(key, None)
        if instance is not None:
            instance.scope.cancel()

    def _renew(self, caller: Caller, level: str | None, before: Instance | None) -> Instance:
        """A call needs a link. Raises: BackendUnavailable."""
        pause = self._pace.patience()
        subscriptions, pace = (before.subscriptions, before.pace) if before is not None else ({}, None)
        if before is None:
            self._make_room()
        if pace is not None:
            pause = max(pause, pace.patience())
        instance = self._open(caller, level, subscriptions, pace, pause)
        if self._pace.error is not None:
            self._probe = instance
        return instance

    def _open(
        self,
        caller: Caller,
        level: str | None,
        subscriptions: dict[str, Members],
        pace: Pace | None = None,
        pause: float = 0.0,
    ) -> Instance:
        if self._nursery is None:
            raise BackendUnavailable(self._spec.name, "mcpd is stopping")
        instance = self._by_session[caller.key] = Instance(caller, subscriptions, pace)
        self._nursery.start_soon(self._keep, instance, level, pause)
        return instance

    async def _keep(self, instance: Instance, level: str | None, pause: float) -> None:
        caller = instance.caller
        failure: BackendError | None = None
        try:
            with instance.scope:
                await trio.sleep(pause)
                async with trio.open_nursery() as nursery:
                    try:
                        async with self._connector.connect(
                            nursery, self._listener, caller.capabilities, caller.key, instance.claim
                        ) as link:
                            link.level, link.subscriptions = level, instance.subscriptions
                            if link.carried is None:
                                await link.replay()
                            else:
                                self._inherited.discard(caller.key)
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
            if self._by_session.get(caller.key) is instance and instance.link is None and not instance.subscriptions:
                del self._by_session[caller.key]
            instance.opened.set()

    def _announce(self, instance: Instance) -> None:
        """Nobody knows what happened between the runs: tell the client of an update of what it was subscribed to."""
        key = instance.caller.key
        if key in self._inherited:
            self._inherited.discard(key)
            for uri in list(instance.subscriptions):
                self._listener.resource_updated(update_of(uri), key)

    def _note_loss(self, instance: Instance, link: Link, uptime: float) -> None:
        if not isinstance(link.reason, RpcError):
            return
        if instance.pace is None:
            instance.pace = Pace.for_calls(self._spec.name, self._spec.restart)
        instance.pace.failed(link.reason, uptime=uptime)

    def _make_room(self) -> None:
        if len(self._by_session) < self._spec.max_instances:
            return
        idle = [
            (bool(each.subscriptions), not each.lost, each.last_used, key)
            for key, each in self._by_session.items()
            if each.opened.is_set() and not each.in_flight
        ]
        if not idle:
            raise BackendUnavailable(
                self._spec.name,
                f"{self._spec.max_instances} instances are in use",
                remedy=f"raise servers.{self._spec.name}.max_instances, or try later",
            )
        self.forget(min(idle)[-1])

    def _end_idle(self) -> None:
        horizon = trio.current_time() - self._spec.instance_idle
        for key, instance in list(self._by_session.items()):
            if not instance.in_flight and not instance.subscriptions and instance.last_used < horizon:
                log.info("backend=%s event=instance_idle", self._spec.name)
                self.forget(key)
