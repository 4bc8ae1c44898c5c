"""What clients want of one server besides calls: log levels, updates of resources, news of tasks.

Rules.
1. What is wanted outlives the link: the next one is set up as the last one was (`adopt`).
2. Where sessions have links of their own, each subscribes for itself. But some clients share a link all the same: those
   of one principal, those of a server that keeps nothing for a client, and those without a session. For them it is
   subscribed once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mcpd.backends.inherited import Inherited
from mcpd.backends.subscribers import Subscribers
from mcpd.backends.watched import Watched
from mcpd.errors import BackendUnavailable, RpcError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.backends.instances import Instances
    from mcpd.backends.link import Link
    from mcpd.config.model import ServerSpec
    from mcpd.protocol.calls import Call, Caller
    from mcpd.protocol.jsonrpc import Buffer, Members
    from mcpd.types import SessionKey

log = logging.getLogger("mcpd.backends")


class Interests:
    """Of one server. `link` is the server's own link, None while there is none; `link_for` gives, or opens, the one
    that serves a caller. `updated` is called with the params of a resource's update, and whose own link tells it."""

    def __init__(
        self,
        spec: ServerSpec,
        instances: Instances,
        *,
        link: Callable[[], Link | None],
        link_for: Callable[[Caller], Awaitable[Link]],
        updated: Callable[[Buffer, SessionKey | None], None],
    ) -> None:
        self._name = spec.name
        self._instances = instances
        self._apart = spec.apart
        self._link = link
        self._link_for = link_for
        self._level: str | None = None
        self._subscriptions: dict[str, Members] = {}
        self._subscribers = Subscribers()
        """Of the server's link, where sessions have links of their own."""
        self.inherited = Inherited(self._subscriptions, self._subscribers, instances, updated=updated)
        self.watched = Watched()

    @property
    def lasting(self) -> bool:
        """Whether anybody waits for news on the server's link."""
        return bool(self._subscriptions or len(self._subscribers) or len(self.watched))

    def adopt(self, link: Link) -> None:
        """This is the server's link from now on; it is to be set up by its `replay`, unless another program did."""
        if link.carried is not None and self._level is None:
            self._level = link.carried.level
        link.level, link.subscriptions, link.watched = self._level, self._subscriptions, self.watched

    async def set_level(self, level: str, key: SessionKey, own: str) -> None:
        """As `base.Backend.set_level`."""
        self._level = level
        self._instances.levels[key] = own
        try:
            link = self._link()
            if link is not None and link.level != level:
                await link.set_level(level)
            await self._instances.set_level(key)
        except RpcError as error:
            log.warning("backend=%s event=set_level_failed reason=%s", self._name, error)

    async def subscribe(self, call: Call, uri: str, members: Members) -> None:
        """As `base.Backend.subscribe`."""
        caller = call.caller
        link = await self._link_for(caller)
        if not self._apart:
            await link.subscribe(call, uri, members)
            return
        subscribers: Subscribers | None = self._subscribers
        if link.owner is not None:
            subscribers = self._instances.subscribing(caller, link.owner)
        if subscribers is None:
            raise BackendUnavailable(self._name, "its link was ended just now", remedy="try again")
        first = subscribers.add(uri, caller.key)
        if not first and uri in link.subscriptions:
            return
        try:
            await link.subscribe(call, uri, members)
        except BaseException:
            subscribers.remove(uri, caller.key)
            raise
        if uri not in subscribers and link.subscriptions.pop(uri, None) is not None:
            link.unsubscribe_quietly(uri, members)  # the client left while the backend answered

    async def unsubscribe(self, key: SessionKey, uri: str) -> None:
        """As `base.Backend.unsubscribe`."""
        instance = self._instances.holding(key, uri)
        subscribers = self._subscribers if instance is None else instance.subscribers
        if not subscribers.remove(uri, key):
            return
        link, kept = self._link(), self._subscriptions
        if instance is not None:
            link, kept = self._instances.find(key), instance.subscriptions
        members = kept.pop(uri, None)
        if members is None or link is None:
            return
        try:
            await link.dialect.unsubscribe(uri, members)
        except RpcError as error:
            log.warning("backend=%s event=unsubscribe_failed uri=%s reason=%s", self._name, uri, error)

    def drop_subscription(self, uri: str) -> None:
        """The last subscriber of a shared link is gone."""
        self._subscribers.clear(uri)
        members, link = self._subscriptions.pop(uri, None), self._link()
        if members is not None and link is not None:
            link.unsubscribe_quietly(uri, members)

    def forget(self, key: SessionKey) -> None:
        """A client is gone."""
        self._instances.forget(key)
        for uri in self._subscribers.left(key):
            self.drop_subscription(uri)
