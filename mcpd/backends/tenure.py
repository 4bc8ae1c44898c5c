"""A server's place in the configuration: what a reload changes while it runs, and how it ends for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.errors import BackendUnavailable
from mcpd.supervisor.states import STOPPABLE, Event

if TYPE_CHECKING:
    from mcpd.backends.backend import ManagedBackend
    from mcpd.config.model import Limits, ServerSpec


class Tenure:
    """Of one server. It looks into the backend's parts, which are nobody else's affair."""

    def __init__(self, backend: ManagedBackend) -> None:
        self._backend = backend

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
