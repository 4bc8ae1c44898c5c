"""What a check gets in its hands: one client in front of one mcpd; and how it complains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fixtures.peer import MODERN
from tests.interop.client import Client, ClientFailure, ProgramClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.interop.place import Place


@dataclass(frozen=True, slots=True)
class Visit:
    """One client in front of one mcpd."""

    name: str
    client: Client
    place: Place
    tag: str
    """Letters, digits and underscores; no other visit of the run has it."""
    lasting: bool
    """Whether the servers live on from one request to the next."""
    version: str
    """What the client and mcpd must have agreed on."""
    reached: Callable[[], Awaitable[dict[str, str]]]
    """Server → the version in which mcpd has reached it."""

    @property
    def modern(self) -> bool:
        """Whether the client has no session."""
        return self.version == MODERN

    @property
    def program(self) -> ProgramClient:
        """The client, where it can do more than ask and get an answer."""
        assert isinstance(self.client, ProgramClient)
        return self.client


def expect(condition: object, complaint: str) -> None:
    """Raises: ClientFailure with the complaint, unless the condition holds."""
    if not condition:
        raise ClientFailure(complaint)
