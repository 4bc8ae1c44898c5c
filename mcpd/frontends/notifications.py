"""What clients send without expecting an answer: notifications, and responses to questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.errors import ProtocolError
from mcpd.protocol import jsonrpc
from mcpd.protocol.handshake import Event

if TYPE_CHECKING:
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.jsonrpc import Message


def take(gateway: Gateway, session: Session, message: Message) -> None:
    """Act on a notification or a response; what is unknown or malformed is ignored, as the specification
    asks.
    """
    if message.method is None:
        session.answer(message)
    elif message.method == "notifications/cancelled":
        try:
            id = jsonrpc.members_of(message.params or b"{}").get("requestId")
        except ProtocolError:
            return
        if id is not None:
            session.cancel(bytes(id))
    elif message.method == "notifications/initialized":
        session.handshake(Event.INITIALIZED)
    elif message.method == "notifications/roots/list_changed":
        gateway.roots_changed(session.caller)
