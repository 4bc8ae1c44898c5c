"""A server's place in the configuration: what a reload changes while it runs, how it ends for good, and when it runs at
all, where an operator says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.errors import BackendUnavailable
from mcpd.supervisor.states import RUNNING, STOPPABLE, Event

if TYPE_CHECKING:
    from mcpd.backends.backend import ManagedBackend
    from mcpd.config.model import Limits, ServerSpec


class Tenure:
    """Of one server. It looks into the backend's parts, which are nobody else's affair."""

    def __init__(self, backend: ManagedBackend) -> None:
        self._backend = backend
        self.held = False
        """An operator stopped it: it has its place, and does not run."""

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and nothing is on its way there."""
        return self._backend.asleep or self._backend.state not in RUNNING

    @property
    def over(self) -> bool:
        """It was told to stop."""
        return self._backend._connector.over is not None

    def adjust(self, spec: ServerSpec, limits: Limits, *, labelled: bool) -> None:
        """Go by other settings from now on: keys of `config.diff.IN_PLACE`, and what the configuration says for all."""
        self._backend.spec = spec
        self._backend._connector.adjust(limits, labelled=labelled)

    async def close(self) -> None:
        """It has ended: let go of what was kept for it."""
        await self._backend._connector.close()

    def stop(self, why: str) -> None:
        """It is about to be cancelled: calls that still wait fail, and are told why."""
        backend = self._backend
        backend._connector.over = why
        backend._pace.error = BackendUnavailable(backend.name, why)
        if backend.state in STOPPABLE:
            backend._step(Event.STOP)
        backend._lobby.tell()  # also those who have just woken it

    def hold(self) -> None:
        """It does not run until another one takes its place; calls fail, and are told why. Before `run`."""
        backend, self.held = self._backend, True
        reason, remedy = "an operator stopped it", f"mcpctl start {backend.name}"
        backend._connector.over = reason
        backend._pace.held = BackendUnavailable(backend.name, reason, remedy=remedy)
        backend._sleep.asleep = False
        backend._judged()

    def await_start(self) -> None:
        """It is going to run in a moment: calls wait until then as they wait for one that wakes."""
        self._backend._sleep.asleep = True

    def begin(self) -> None:
        """It runs from now on, whenever its configuration would have it started. Just before `run`."""
        self._backend._sleep.asleep = False
