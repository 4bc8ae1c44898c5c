"""Subscriptions of clients of an earlier run of mcpd: made again when their server is ready, and announced.

Theory of operation. Until the server was reached for the first time it is not known whether each client gets a link of
its own; then every subscription goes to the link that it belongs to, which replays it like those of a lost link. What
may have changed meanwhile nobody can say. So the client is told of an update of each: once by the server's first
link, and for a link of its own when that is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.backends.instances import Instances
    from mcpd.backends.subscribers import Subscribers
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Buffer, Members
    from mcpd.types import SessionKey


class Inherited:
    """Those of one server. `common` and `subscribers` are its shared link's, `instances` has the others; `updated` is
    called with the params of an update, and whose own it is."""

    def __init__(
        self,
        common: dict[str, Members],
        subscribers: Subscribers,
        instances: Instances,
        *,
        updated: Callable[[Buffer, SessionKey | None], None],
    ) -> None:
        self._common = common
        self._subscribers = subscribers
        self._instances = instances
        self._updated = updated
        self._unannounced: set[str] = set()

    def add(self, caller: Caller, uri: str, members: Members, *, own: bool) -> None:
        """A client was subscribed; `own`: it may get a link of its own."""
        if own:
            self._instances.inherit(caller, uri, members)
        else:
            self._common[uri] = members
            self._unannounced.add(uri)

    def share(self) -> None:
        """No client gets a link of its own after all."""
        for key, uri, members in self._instances.disinherit():
            self._subscribers.add(uri, key)
            self._common[uri] = members
            self._unannounced.add(uri)

    def drop(self) -> None:
        """There is nothing to announce: the link itself goes on (`inheritance`)."""
        self._unannounced.clear()

    def announce(self) -> None:
        """The shared link is subscribed."""
        unannounced, self._unannounced = self._unannounced, set()
        for uri in unannounced & self._common.keys():
            self._updated(update_of(uri), None)


def update_of(uri: str) -> bytes:
    """The params of an update of a resource."""
    return b'{"uri":%b}' % msgspec.json.encode(uri)
