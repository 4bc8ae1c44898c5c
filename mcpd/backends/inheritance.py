"""How one server passes from a program to the next one in the same process: what `ManagedBackend` keeps of it.

Rules: those of `carried`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from mcpd.backends.bequest import Bequest
from mcpd.backends.carried import BackendState, capture_link, identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.backends.connector import Connector
    from mcpd.backends.instances import Instances
    from mcpd.backends.leases import Leases
    from mcpd.backends.link import Link
    from mcpd.backends.lists import Lists
    from mcpd.backends.pace import Pace
    from mcpd.protocol.handshake import ServerHello


class Inheritance:
    """Of one server. `link` is its own link, None while there is none."""

    def __init__(
        self,
        connector: Connector,
        lists: Lists,
        instances: Instances,
        leases: Leases,
        pace: Pace,
        *,
        link: Callable[[], Link | None],
    ) -> None:
        self._connector = connector
        self._lists = lists
        self._instances = instances
        self._bequest = Bequest(connector, leases)
        self._pace = pace
        self._link = link
        self._left: BackendState | None = None

    @property
    def quiet(self) -> bool:
        """Whether nothing of mcpd's own is in flight, and no link is just being opened."""
        own = self._link()
        links = [*self._instances.links(), *self._bequest.links(), *([own] if own is not None else [])]
        busy = any(link.in_flight or link.errands.count for link in links)
        opening = self._instances.opening or self._bequest.opening
        return not busy and not opening and (own is None or self._lists.quiet)

    def capture(self, *, hello: ServerHello | None, restarts: int, ready_since: float | None) -> BackendState:
        """What another program needs to go on. Changes nothing."""
        own = self._link()
        link = capture_link(own) if own is not None else None
        now = trio.current_time()
        return BackendState(
            name=self._connector.spec.name,
            identity=identity(self._connector.spec),
            hello=hello,
            catalogue=self._lists.catalogue,
            unlisted=tuple(self._lists.failed),
            links=(*self._instances.capture(), *([link] if link is not None else [])),
            leases=self._bequest.capture(),
            restarts=restarts,
            failures=self._pace.capture(),
            ready_for=now - ready_since if ready_since is not None else None,
            legacy_for=self._connector.eras.left(now),
            held=self._connector.over is not None,  # what ends for good has no place, and is not asked
        )

    def accept(self, state: BackendState) -> tuple[int, ...] | None:
        """Know what another program knew, before links are opened; returns the pids of the children that this goes on
        with, None when that was another server.
        """
        if state.identity != identity(self._connector.spec):
            return None
        self._left = state
        self._lists.inherit(state.catalogue, state.unlisted)
        self._connector.carried = {
            self._instances.key_of(link.owner.caller()) if link.owner is not None else None: link
            for link in state.links
        }
        return (*(link.pid for link in state.links), *self._bequest.accept(state.leases))

    def resume_others(self) -> None:
        """Go on with what is known of the era, and with the links besides the server's own, while `Instances.run` and
        `Leases.run` are running.
        """
        if self._left is not None:
            self._pace.inherit(self._left.failures)
            if self._left.legacy_for:
                # Not before: it is counted on a clock that runs only now.
                self._connector.eras.note(trio.current_time(), self._left.legacy_for)
            self._instances.resume(self._left.links)
            self._bequest.resume()

    def resume(self, link: Link) -> float | None:
        """Go on with the server's own link, which another program opened; returns since when it has been ready."""
        assert link.carried is not None, "only what was carried is resumed"
        left, self._left = self._left, None
        self._lists.resume(link, settled=link.carried.settled)
        link.errands.start(link.go_on)
        return trio.current_time() - left.ready_for if left is not None and left.ready_for is not None else None
