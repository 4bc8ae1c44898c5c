"""One set of backends follows another while clients go on: every holder of backends is told at the same moment.

Theory of operation. `take` is synchronous, so no request sees half of it: routes, lists, log levels and whoever waits
change from the former backends to the new ones, and each client that asked hears `list_changed` once for each list that
differs. What clients hold at a backend that another one of the same name replaced, subscriptions and watched tasks,
is its successor's from that moment on; `finish` asks the successor for it, which takes round trips. What a resource is
there nobody can say, so its clients hear of an update.

Rules.
1. A backend that stays is not touched: neither its links, nor what clients hold there.
2. A call goes on where it began. The backend that serves it may have lost its place meanwhile.
3. What a successor will not have ends for its clients, and the log says so; at a backend that is gone all of it does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends.inherited import update_of
from mcpd.errors import RpcError
from mcpd.gateway.subscriptions import asked_for
from mcpd.gateway.tasks import EXTENSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcpd.backends.base import Backend
    from mcpd.config.model import Config
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.listens import Listen
    from mcpd.gateway.subscriptions import Holder, Topic
    from mcpd.types import SessionKey

log = logging.getLogger("mcpd.gateway")

FINISH: Final = 10.0
"""Seconds that successors have to take over what clients held; meanwhile the former backends are kept."""

AT_ONCE: Final = 8
"""Subscriptions that are renewed at a time."""


def take(gateway: Gateway, backends: Sequence[Backend], config: Config | None) -> Succession:
    """Put these backends in place of the former ones, and settings in place of the former ones if they are given."""
    if config is not None:
        _configure(gateway, config)
    former, gateway.backends = gateway.backends, tuple(backends)
    gateway.router.take(gateway.backends)
    gateway.levels.use(gateway.backends)
    gateway.patience.use(gateway.backends)
    succession = Succession(gateway)
    named = {backend.name: backend for backend in gateway.backends}
    for backend in former:
        if backend not in gateway.backends:
            succession.follow(backend, named.get(backend.name))
    gateway.notices.refresh()
    if gateway.nursery is not None:
        for backend in gateway.backends:
            if backend not in former:
                gateway.nursery.start_soon(gateway.note_verdict, backend)
    return succession


def _configure(gateway: Gateway, config: Config) -> None:
    limits = config.limits
    gateway.config = config
    gateway.subscriptions.limit = limits.subscriptions
    gateway.listens.limits = gateway.inputs.limits = gateway.sessions.limits = limits
    gateway.notices.delay = config.streams.list_changed_delay
    gateway.patience.separator = config.naming.separator
    gateway.ledger.configure(config.audit)
    gateway.tally.retain({spec.name for spec in config.servers})
    gateway.list_ttl = int(config.caching.list_ttl * 1000)
    gateway.modern.extensions = (EXTENSION, *config.extensions)


class Succession:
    """What clients held at backends that were replaced or removed."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._topics: list[Topic] = []
        self._watches: list[tuple[Listen, str, Backend, str]] = []

    def follow(self, backend: Backend, successor: Backend | None) -> None:
        """Another backend took this one's place, or none did."""
        subscriptions = self._gateway.subscriptions
        for topic in subscriptions.at(backend):
            if successor is not None:
                topic.backend = successor
                self._topics.append(topic)
                continue
            for key in list(topic.holders):
                self._end(topic, key)
        for listen in self._gateway.listens:
            for id, (owner, native) in list(listen.tasks.items()):
                if owner is not backend:
                    continue
                if successor is None:
                    listen.forgo(id)
                else:
                    self._watches.append((listen, id, successor, native))

    async def finish(self) -> None:
        """Ask the successors for what clients hold there; returns when they have it, or after FINISH."""
        limiter = trio.CapacityLimiter(AT_ONCE)

        async def renew(topic: Topic) -> None:
            async with limiter:
                await self._renew(topic)

        with trio.move_on_after(FINISH) as scope:
            async with trio.open_nursery() as nursery:
                for topic in self._topics:
                    nursery.start_soon(renew, topic)
                for watch in self._watches:
                    nursery.start_soon(self._watch, *watch)
        if scope.cancelled_caught:
            log.warning("event=subscriptions_late after=%gs", FINISH)

    def put_off(self) -> None:
        """The successors do not run: what clients are subscribed to is asked for by those that follow them, and tasks
        are not watched any more."""
        for listen, id, _, _ in self._watches:
            if id in listen.tasks:
                listen.forgo(id)

    async def _renew(self, topic: Topic) -> None:
        """Subscribe at the successor, for each holder, or once where one link serves all."""
        backend = topic.backend
        each = backend.spec.instances == "per-session"
        topic.users += 1
        try:
            async with topic.turn:
                for key in list(topic.holders):
                    holder = self._holder(key)
                    if holder is None:
                        continue
                    call = asked_for(holder.caller, topic.members)
                    try:
                        await backend.subscribe(call, topic.uri, call.members)
                    except RpcError as error:
                        log.warning("backend=%s event=subscription_ended reason=%s", backend.name, error)
                        for lost in [key] if each else list(topic.holders):
                            self._end(topic, lost)
                    if not each:
                        break
                self._gateway.notices.resource_updated(backend, update_of(topic.uri), None)
        finally:
            topic.users -= 1
            self._gateway.subscriptions.tidy(topic)

    async def _watch(self, listen: Listen, id: str, backend: Backend, native: str) -> None:
        try:
            await backend.watch_task(native)
        except RpcError as error:
            log.warning("backend=%s event=watch_ended reason=%s", backend.name, error)
            if id in listen.tasks:
                listen.forgo(id)
            return
        if listen.left:
            backend.unwatch_task(native)
        else:
            listen.tasks[id] = backend, native  # not before: the end of the listen would end a watch that is none yet

    def _holder(self, key: SessionKey) -> Holder | None:
        return self._gateway.sessions.by_key(key) or self._gateway.listens.by_key(key)

    def _end(self, topic: Topic, key: SessionKey) -> None:
        holder = self._holder(key)
        if holder is not None:
            self._gateway.subscriptions.drop(topic, holder)
