"""Which backends run: each in a task of its own, begun and ended while the others go on.

A backend that loses its place in the configuration is given DRAIN seconds for the calls that it has; then it is
stopped, and what still waits fails with the reason.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcpd.backends.backend import ManagedBackend

log = logging.getLogger("mcpd")

DRAIN: Final = 30.0
"""Seconds for calls in flight at a backend that was removed or replaced. Clients wait 30 to 60; what takes longer, or
waits for a person, would keep a process that nobody wants any more."""


def calls(backend: ManagedBackend) -> object:
    """How many a backend has."""
    return backend.describe()["calls_in_flight"]


class Roster:
    """The running backends."""

    def __init__(self) -> None:
        self.backends: tuple[ManagedBackend, ...] = ()
        """Those of the configuration, in its order."""
        self.draining: list[ManagedBackend] = []
        """Those that have lost their place, and still run."""
        self._scopes: dict[ManagedBackend, trio.CancelScope] = {}
        self._gone: dict[ManagedBackend, trio.Event] = {}
        """Of those that drain."""
        # Backends come and go, and end with the daemon: `run` opens the nursery and outlives them all.
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have backends run until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def start(self, backends: Sequence[ManagedBackend]) -> None:
        """Start backends, but not what an operator stopped. They have a place once they are in `backends`."""
        assert self._nursery is not None
        for backend in backends:
            if backend.tenure.held:
                continue
            self._scopes[backend] = trio.CancelScope()
            self._nursery.start_soon(self._keep, backend)

    def retire(self, backends: Sequence[ManagedBackend], why: str) -> None:
        """Let backends finish their calls, then stop them."""
        assert self._nursery is not None
        for backend in backends:
            log.info("backend=%s event=draining calls=%s reason=%r", backend.name, calls(backend), why)
            self.draining.append(backend)
            self._gone[backend] = trio.Event()
            self._nursery.start_soon(self._drain, backend, why)

    async def wait_gone(self, backend: ManagedBackend) -> None:
        """Return when a backend that was retired has ended, and whatever ran for it."""
        gone = self._gone.get(backend)
        if gone is not None:
            await gone.wait()

    async def _keep(self, backend: ManagedBackend) -> None:
        with self._scopes[backend]:
            await backend.run()
        del self._scopes[backend]
        await self._end(backend)

    async def _end(self, backend: ManagedBackend) -> None:
        await backend.tenure.close()
        if backend in self.draining:
            self.draining.remove(backend)
            self._gone.pop(backend).set()
            log.info("backend=%s event=stopped", backend.name)

    async def _drain(self, backend: ManagedBackend, why: str) -> None:
        if not await backend.drain(DRAIN):
            log.warning("backend=%s event=calls_cut_short after=%gs", backend.name, DRAIN)
        backend.tenure.stop(why)
        if backend in self._scopes:
            self._scopes[backend].cancel()
        else:
            await self._end(backend)  # it never ran
