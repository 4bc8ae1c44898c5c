"""Subscriptions to resources, counted: a backend is subscribed once, however many of its clients are.

A backend that serves each client by a link of its own is subscribed by that link; a shared one is subscribed by the first client and
unsubscribed by the last.

Source: "Subscriptions" under "Resources" of 2024-11-05 to 2025-11-25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, RpcError

if TYPE_CHECKING:
    from mcpd.backends.base import Backend
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Members
    from mcpd.types import SessionKey


class Subscriptions:
    """Who is subscribed to what, by URI."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._backends: dict[str, Backend] = {}
        self._holders: dict[str, set[SessionKey]] = {}

    async def add(self, session: Session, call: Call, uri: str, backend: Backend, members: Members) -> None:
        """Subscribe a session. Raises: RpcError: too many, not supported, or the backend's own error."""
        held = session.subscriptions if session.subscriptions is not None else set()
        if uri not in held and len(held) >= self._limit:
            raise RpcError(INTERNAL_ERROR, f"more than {self._limit} subscriptions (limits.subscriptions)")
        if backend.hello is not None and not backend.hello.capabilities.resources_subscribe:
            raise RpcError(INVALID_PARAMS, f"backend '{backend.name}' does not support resource subscriptions")
        holders = self._holders.get(uri)
        if not holders or backend.spec.instances == "per-session":
            await backend.subscribe(call, uri, members)
        session.subscriptions = held
        held.add(uri)
        self._backends[uri] = backend
        self._holders.setdefault(uri, set()).add(session.caller.key)

    async def remove(self, session: Session, uri: str) -> None:
        """End one subscription of a session; ending what is not there is no error."""
        if session.subscriptions is not None:
            session.subscriptions.discard(uri)
        holders = self._holders.get(uri)
        if holders is None or session.caller.key not in holders:
            return
        holders.discard(session.caller.key)
        backend = self._backends[uri]
        if not holders:
            del self._holders[uri], self._backends[uri]
        if not holders or backend.spec.instances == "per-session":
            await backend.unsubscribe(session.caller.key, uri)

    def last_of(self, session: Session) -> list[tuple[Backend, str]]:
        """Forget a session that ended; returns what nobody is subscribed to any more."""
        orphaned = []
        for uri in session.subscriptions or ():
            holders = self._holders.get(uri)
            if holders is None:
                continue
            holders.discard(session.caller.key)
            if not holders:
                orphaned.append((self._backends.pop(uri), uri))
                del self._holders[uri]
        return orphaned
