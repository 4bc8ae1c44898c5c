"""The connections to one origin: idle ones to use again, a bound, and those who wait for room, first come
first served.

What decides is synchronous: every change of the lists happens between two awaits.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import outcome
import trio

from mcpd.errors import ConnectFailed
from mcpd.wire.http_head import Memo, ResponseHead
from mcpd.wire.http_link import Link, connect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_limits import ClientLimits
    from mcpd.wire.http_url import Url

WAITERS_MAX = 1024
"""Requests that wait for one of an origin's connections; more than this means that the backend is stuck, not
slow."""

_ANY_LENGTH = 2**62
"""Answers of any length have their heads remembered: who reads the body sets the limit."""


class Pool:
    """The connections to the origin of `url`. `context` gives the TLS context when it is first needed."""

    def __init__(
        self,
        url: Url,
        *,
        limits: ClientLimits,
        deadlines: Deadlines,
        context: Callable[[], Awaitable[ssl.SSLContext]],
    ) -> None:
        self.memo: Memo[ResponseHead] = Memo(_ANY_LENGTH)
        self.idle: list[Link] = []
        self.waiters: deque[trio.lowlevel.Task] = deque()
        self.reused = 0
        self.connects = 0
        self._url = url
        self.limits = limits
        self._deadlines = deadlines
        self._context = context
        self._links: set[Link] = set()
        self._opening = 0
        self._closed = False

    @property
    def count(self) -> int:
        """Connections open or being opened."""
        return len(self._links) + self._opening

    def reuse(self) -> Link | None:
        """The idle connection used last, as it is the least likely to have been closed."""
        while self.idle:
            link = self.idle.pop()
            link.idle = False
            if not link.is_stale():
                self.reused += 1
                return link
            self._drop(link)
        return None

    def release(self, link: Link, *, reusable: bool) -> None:
        """An exchange is over; the connection goes to who waits, to the idle ones, or away."""
        if not reusable or link.closed or self._closed:
            self._drop(link)
            return
        link.used = True
        if self.waiters:
            trio.lowlevel.reschedule(self.waiters.popleft(), outcome.Value(link))
        elif len(self.idle) >= self.limits.idle:
            self._drop(link)
        else:
            link.idle = True
            link.deadline = trio.current_time() + self.limits.idle_time
            self._deadlines.add(link)
            self.idle.append(link)

    async def acquire(self, scope: trio.CancelScope, *, fresh: bool) -> Link:
        """A new connection, or (unless `fresh`) one that another request returns, within `connect_timeout`.

        Cancelling `scope`, into which the caller has entered, ends the wait.

        Raises: ConnectFailed
        """
        if self._closed:
            raise ConnectFailed("mcpd is stopping")
        limits = self.limits
        began = trio.current_time()
        if fresh and self.count >= limits.connections and self.idle:
            self._drop(self.idle[0])
        if self.count >= limits.connections:
            scope.deadline = began + limits.connect_timeout
            link = await self._wait()
            scope.deadline = math.inf
            if link is not None:
                if not fresh and not link.is_stale():
                    self.reused += 1
                    return link
                link.close()
                self._links.discard(link)
                self._deadlines.discard(link)
                self._opening += 1
        else:
            self._opening += 1
        try:
            context = await self._context() if self._url.scheme == "https" else None
            left = limits.connect_timeout - (trio.current_time() - began)
            link = await connect(self._url, left, context, self._expired)
        except BaseException:
            self._opening -= 1
            self._offer_room()
            raise
        self._opening -= 1
        if self._refusing():
            link.close()
            raise ConnectFailed("mcpd is stopping")
        self.connects += 1
        self._links.add(link)
        return link

    def close(self) -> None:
        """Close every connection, and refuse those who wait or come later."""
        self._closed = True
        for task in self.waiters:
            trio.lowlevel.reschedule(task, outcome.Error(ConnectFailed("mcpd is stopping")))
        self.waiters.clear()
        for link in list(self._links):
            self._drop(link)

    async def _wait(self) -> Link | None:
        """A connection that was returned, or None: there is room for a new one, already counted in
        `_opening`.
        """
        if len(self.waiters) >= WAITERS_MAX:
            raise ConnectFailed(
                f"{self._url.host} port {self._url.port}: {self.limits.connections} connections are busy"
                f" and {WAITERS_MAX} requests wait already"
            )
        task = trio.lowlevel.current_task()
        self.waiters.append(task)

        def leave(_raise_cancel: object) -> trio.lowlevel.Abort:
            self.waiters.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        link: Link | None = await trio.lowlevel.wait_task_rescheduled(leave)
        return link

    def _refusing(self) -> bool:
        """Asked again after a wait: `close` may have been called meanwhile."""
        return self._closed

    def _drop(self, link: Link) -> None:
        link.close()
        self._deadlines.discard(link)
        if link in self._links:
            self._links.discard(link)
            if link.idle:
                link.idle = False
                self.idle.remove(link)
            self._offer_room()

    def _offer_room(self) -> None:
        """A connection has gone: let the first waiter open another."""
        if self.waiters and self.count < self.limits.connections:
            self._opening += 1
            trio.lowlevel.reschedule(self.waiters.popleft(), outcome.Value(None))

    def _expired(self, link: Link) -> None:
        if link.idle:
            self._drop(link)
        else:
            link.deadline = trio.current_time() + self.limits.idle_time
            self._deadlines.add(link)
