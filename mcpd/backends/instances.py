"""The links of one server that serve one client session each: opened when first used, ended with the session or when idle.

Rules.
1. Two calls of one session that come at once open one link, not two.
2. At most `max_instances` links; the longest idle one makes room, one with a call in flight never does.
3. A link that is lost is forgotten; the next call opens a new one, which is set up as the lost one was.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from mcpd.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    from mcpd.backends.connector import Connector
    from mcpd.backends.link import Link, Listener
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Members
    from mcpd.types import SessionKey

log = logging.getLogger("mcpd.backends")

SWEEP: Final = 15.0
"""Seconds between looks for idle links; `instance_idle` is counted in minutes."""


class Instance:
    """One session's own link, while it is opened, open, or lost."""

    __slots__ = ("error", "link", "opened", "scope")

    def __init__(self) -> None:
        self.opened = trio.Event()
        self.link: Link | None = None
        self.error: BackendError | None = None
        self.scope = trio.CancelScope()


class Instances:
    """Keyed by client session."""

    def __init__(self, connector: Connector, listener: Listener) -> None:
        self._connector = connector
        self._listener = listener
        self._spec = connector.spec
        self._by_session: dict[SessionKey, Instance] = {}
        # Links outlive the call that opened them, and end with the backend: `run` opens the nursery and outlives them all.
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._by_session)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links and end idle ones, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                await trio.sleep(SWEEP)
                self._end_idle()

    async def get(self, caller: Caller, level: str | None) -> Link:
        """The session's link, opened if need be. Raises: BackendError."""
        instance = self._by_session.get(caller.key)
        if instance is None or instance.link is not None and instance.link.lost.is_set():
            subscriptions = dict(instance.link.subscriptions) if instance and instance.link else {}
            self._make_room()
            instance = self._by_session[caller.key] = Instance()
            assert self._nursery is not None
            self._nursery.start_soon(self._keep, caller, instance, level, subscriptions)
        await instance.opened.wait()
        if instance.link is None:
            assert instance.error is not None
            raise instance.error
        return instance.link

    def find(self, key: SessionKey) -> Link | None:
        """The session's link, if it has one."""
        instance = self._by_session.get(key)
        return instance.link if instance is not None else None

    def forget(self, key: SessionKey) -> None:
        """End the session's link."""
        instance = self._by_session.pop(key, None)
        if instance is not None:
            instance.scope.cancel()

    async def _keep(
        self, caller: Caller, instance: Instance, level: str | None, subscriptions: dict[str, Members]
    ) -> None:
        failure: BackendError | None = None
        try:
            with instance.scope:
                async with trio.open_nursery() as nursery:
                    try:
                        async with self._connector.connect(
                            nursery, self._listener, caller.capabilities, caller.key
                        ) as link:
                            link.level, link.subscriptions = level, subscriptions
                            await link.replay()
                            instance.link = link
                            instance.opened.set()
                            await link.lost.wait()
                    except BackendError as error:
                        failure = error
                    nursery.cancel_scope.cancel()
        except Exception as error:
            # The crash boundary of one session's link: a bug in mcpd ends it, and nothing else.
            log.exception("backend=%s event=internal_error", self._spec.name)
            failure = BackendUnavailable(self._spec.name, f"internal error in mcpd: {error!r}", remedy="see mcpd's log")
        finally:
            instance.error = failure or BackendUnavailable(self._spec.name, "its session was ended while it was opened")
            if instance.link is not None:
                instance.link.fail(instance.link.reason or instance.error)
            if self._by_session.get(caller.key) is instance and instance.link is None:
                del self._by_session[caller.key]
            instance.opened.set()

    def _make_room(self) -> None:
        if len(self._by_session) < self._spec.max_instances:
            return
        idle = [(i.link.last_used, key) for key, i in self._by_session.items() if i.link and not i.link.in_flight]
        if not idle:
            raise BackendUnavailable(
                self._spec.name,
                f"{self._spec.max_instances} instances are in use",
                remedy=f"raise servers.{self._spec.name}.max_instances, or try later",
            )
        self.forget(min(idle)[1])

    def _end_idle(self) -> None:
        horizon = trio.current_time() - self._spec.instance_idle
        for key, instance in list(self._by_session.items()):
            link = instance.link
            if link is not None and not link.in_flight and not link.subscriptions and link.last_used < horizon:
                log.info("backend=%s event=instance_idle", self._spec.name)
                self.forget(key)
