"""Servers that sleep: stopped because they are of no use, and started again by the first call that needs them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.backends.instances import Instances
    from mcpd.backends.interests import Interests
    from mcpd.backends.leases import Leases
    from mcpd.backends.link import Link
    from mcpd.config.model import ServerSpec

log = logging.getLogger("mcpd.backends")

LOOKS: Final = 10
"""Within the time, so that a server is stopped a tenth of it late, at most: no call takes notes for this."""

DRAIN_LOOK: Final = 0.02
"""Seconds between two looks whether the last call is answered. The end of a call tells nobody: to tell it would cost
every call something, for the sake of the one wait before a stop."""


class Sleep:
    """Of one server. `known`: what it lists is known from an earlier run, so a lazy one sleeps from the start, unless
    it is `running`: the program before this one had started it.
    """

    def __init__(self, spec: ServerSpec, *, known: bool, running: bool = False) -> None:
        self.asleep = spec.start == "lazy" and known and not running
        """Whether it is stopped, or being stopped, until a call needs it."""
        self._name = spec.name
        self._after = spec.idle_stop
        self._woken = trio.Event()

    async def wait_due(self, link: Link, instances: Instances, leases: Leases, interests: Interests) -> None:
        """Return when nobody has used it for as long as its configuration says, which may be never."""
        if not self._after:
            await trio.sleep_forever()

        def busy() -> bool:
            own = link.in_flight or link.asking or interests.lasting
            return bool(own or len(instances) or leases.busy)

        await wait_unused(self._after, busy=busy, mark=lambda: link.last_used + leases.last_used)

    def fall(self) -> None:
        """It is being stopped now, because nobody needs it."""
        log.info("backend=%s event=idle_stopped after=%g", self._name, self._after)
        self.asleep = True
        self._woken = trio.Event()

    def wake(self) -> None:
        """A call needs it."""
        self._woken.set()

    async def wait_woken(self) -> None:
        """Return when a call needs it; it is to be started then."""
        await self._woken.wait()
        self.asleep = False


async def wait_unused(seconds: float, *, busy: Callable[[], bool], mark: Callable[[], float]) -> None:
    """Return when a server was not used for so long. `busy`: it is in use now; `mark` changes with each use.

    A use that ends between two looks counts as if it had ended at the second one: never too early, a little too late.
    """
    used, last = trio.current_time(), mark()
    while (due := used + seconds) > trio.current_time():
        await trio.sleep(min(seconds / LOOKS, due - trio.current_time()))
        now = mark()
        if busy() or now != last:
            used, last = trio.current_time(), now


async def wait_answered(seconds: float, link: Link | None, instances: Instances, leases: Leases) -> bool:
    """Return when no call has a link or waits for one, or when the time is over; whether all are answered."""
    with trio.move_on_after(seconds):
        while (link is not None and link.in_flight) or instances.in_flight or instances.opening or leases.busy:  # noqa: ASYNC110
            await trio.sleep(DRAIN_LOOK)
        return True
    return False
