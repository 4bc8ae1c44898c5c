"""What the leased links of one server leave to the next program in the same process, and how that goes on with them.

Theory of operation. A link that serves a call is not left: the call is waited for. So what there is are idle links,
each on its shelf, and the blank child. The next program begins a lease for each, which takes its turn like any other,
except that the connector finds the child there and, but for the blank one, the link open.

Rules.
1. Nobody used them meanwhile: each is as long idle as it was, and in the same order.
2. No more go on than `max_instances` says now: the blank child first of all, then the longest idle, have no place any
   more.
3. What is being opened is waited for a moment (`opening`), since its child could not go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from mcpd.backends.carried import LeaseState, capture_blank, capture_link
from mcpd.backends.shelf import State
from mcpd.protocol.capabilities import ClientCapability

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.backends.connector import Connector
    from mcpd.backends.leases import Leases
    from mcpd.backends.link import Link
    from mcpd.backends.shelf import Lease


class Bequest:
    """Of one server. It looks into the parts of `Leases`, which are nobody else's affair."""

    def __init__(self, connector: Connector, leases: Leases) -> None:
        self._connector = connector
        self._leases = leases
        self._left: tuple[LeaseState, ...] = ()

    @property
    def opening(self) -> bool:
        """Whether a link is just being opened."""
        return self._leases._shelves.opening

    def links(self) -> list[Link]:
        """Those that were opened and are idle."""
        return [lease.link for lease in self._leases._leases if lease.state is State.IDLE and lease.link is not None]

    def capture(self) -> tuple[LeaseState, ...]:
        """What another program can go on with. Changes nothing."""
        found = (_capture(lease) for lease in self._leases._leases)
        return tuple(state for state in found if state is not None)

    def accept(self, states: Iterable[LeaseState]) -> tuple[int, ...]:
        """Know what is to be gone on with, before `Leases.run`; returns the pids of these children."""
        ranked = sorted(states, key=lambda state: (state.blank, state.idle_for))
        self._left = tuple(ranked[: self._connector.spec.max_instances])
        return tuple(state.link.pid for state in self._left)

    def resume(self) -> None:
        """Go on with them, while `Leases.run` is running."""
        left, self._left = self._left, ()
        for state in left:
            self._begin(state)

    def _begin(self, state: LeaseState) -> None:
        leases = self._leases
        assert leases._nursery is not None, "its task is running"
        lease = leases._begin(leases._nursery, ahead=True)
        lease.idle_since -= state.idle_for
        self._connector.carried[lease.owner] = state.link
        if state.blank:
            leases._blank = lease
        else:
            lease.place(leases._shelves.of((state.principal, ClientCapability(state.capabilities))))


def _capture(lease: Lease) -> LeaseState | None:
    idle_for = trio.current_time() - lease.idle_since
    if lease.state is State.BLANK and lease.wish.link is not None:
        blank = capture_blank(lease.wish.link)
        return LeaseState(link=blank, idle_for=idle_for) if blank is not None else None
    if lease.state is not State.IDLE or lease.link is None:
        return None
    link = capture_link(lease.link)
    principal, capabilities = lease.shelf.key
    if link is None:
        return None
    return LeaseState(link=link, principal=principal, capabilities=int(capabilities), idle_for=idle_for)
