"""What stands on either side of a link: below it the carrier that moves its messages, above it who hears its
news, and for whom it is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mcpd.backends.link import Link
    from mcpd.backends.tools import ToolFacts
    from mcpd.backends.waiter import Waiter
    from mcpd.protocol import handshake
    from mcpd.protocol.capabilities import ClientCapability
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.types import SessionKey


class SessionLost(Exception):
    """The backend refused a request because it does not know the session; the request was not executed."""


class Carrier(Protocol):
    """Moves messages of one link."""

    shared: bool
    """Everything goes over one channel, and nothing but ids says what belongs together."""

    def carry(self, waiter: Waiter, parts: tuple[Buffer, ...]) -> Awaitable[Message]:
        """Send a request; what this returns waits for its response. Raises: BackendError, SessionLost."""

    async def post(self, parts: tuple[Buffer, ...]) -> None:
        """Send a notification or a response. Raises: BackendError."""

    def forgo(self, waiter: Waiter) -> None:
        """The request's outcome is not wanted any more; `notifications/cancelled` follows separately."""

    def opened(self, hello: handshake.ServerHello) -> None:
        """The handshake is done; further messages carry what it agreed."""

    def reset(self) -> None:
        """The session was lost; the next message is a new initialize."""


class Wish:
    """What a link is to declare on behalf of those it serves. A child may be started before that is known, and waits
    with the handshake until it is.
    """

    __slots__ = ("capabilities", "known", "link")

    def __init__(self, capabilities: ClientCapability | None = None) -> None:
        self.capabilities: ClientCapability | None = None
        self.known = trio.Event()
        self.link: Link | None = None
        """The one that waits, or waited, for it with its child running."""
        if capabilities is not None:
            self.settle(capabilities)

    def settle(self, capabilities: ClientCapability) -> None:
        """Now it is known, once and for all."""
        assert not self.known.is_set(), "it was declared already"
        self.capabilities = capabilities
        self.known.set()


class Listener(Protocol):
    """Whom a link serves: who hears what its backend says of its own accord."""

    @property
    def tools(self) -> ToolFacts:
        """What must be known of the backend's tools to call them."""

    def list_changed(self, kind_of_notification: str) -> None: ...

    def resource_updated(self, params: Buffer, owner: SessionKey | None) -> None: ...

    def task_changed(self, params: Buffer) -> None: ...

    def unrelated(self, method: str, params: Buffer, owner: SessionKey | None) -> None: ...

    async def relist(self, kind: str) -> None:
        """Fetch a list anew, now, because what is known of it does not hold. Never raises RpcError."""

    async def ask_owner(self, owner: SessionKey | None, method: str, params: Buffer) -> Buffer: ...
