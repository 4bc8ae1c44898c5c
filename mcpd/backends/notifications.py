"""What a backend notifies of its own accord, and whom that concerns.

Progress finds its call by token, a log line its client by the rules of attribution (`protocol.peer`); news of lists and
resources goes up. What several clients could have caused, and nothing says which, is told to none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.backends.waiter import Waiter
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import LOG_LEVELS

if TYPE_CHECKING:
    from mcpd.backends.carrier import Listener
    from mcpd.backends.questions import Questions
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.protocol.peer import Peer
    from mcpd.types import SessionKey


class Notifications:
    """Deals with the notifications of one link. `owner` is the client session the link serves alone."""

    def __init__(
        self, peer: Peer, *, owner: SessionKey | None, listener: Listener, questions: Questions | None
    ) -> None:
        self._peer = peer
        self.owner = owner
        self._listener = listener
        self._questions = questions
        """None for a backend that asks by its answers, and logs only for requests that want it."""

    def take(self, message: Message, related: Waiter | None) -> None:
        """Act on a notification; one that is unknown is ignored, as the specification asks.

        Raises: ProtocolError, ValueError: it is malformed.
        """
        handler = _NOTIFICATIONS.get(message.method or "")
        if handler is not None:
            handler(self, message, related)

    def _progress(self, message: Message, related: Waiter | None) -> None:
        members = _params(message)
        token = members.get("progressToken")
        pending = self._peer.find(bytes(token) if token is not None else None)
        if not isinstance(pending, Waiter) or pending.call is None or pending.call.token is None:
            return
        pending.alive()
        members["progressToken"] = msgspec.Raw(pending.call.token)
        pending.call.emit("notifications/progress", jsonrpc.encode_members(members))

    def _log_message(self, message: Message, related: Waiter | None) -> None:
        pending, clients = (related, 1) if related is not None else self._peer.whose_log(asked=self._questions is None)
        params = message.params or b"{}"
        if pending is not None and pending.call is not None:
            if wants_log(pending.call, params):
                pending.call.emit("notifications/message", params)
        elif self._questions is not None and clients <= 1:
            self._listener.unrelated("notifications/message", params, self.owner)
        # else: several clients have calls in flight and nothing says whose line this is; nobody gets
        # another's.

    def _list_changed(self, message: Message, related: Waiter | None) -> None:
        assert message.method is not None
        self._listener.list_changed(message.method)

    def _resource_updated(self, message: Message, related: Waiter | None) -> None:
        self._listener.resource_updated(message.params or b"{}", self.owner)

    def _elicitation_complete(self, message: Message, related: Waiter | None) -> None:
        elicitation = _params(message).get("elicitationId")
        if elicitation is None or self._questions is None:
            return
        key = self._questions.completed(elicitation)
        if key is not None:
            self._listener.unrelated("notifications/elicitation/complete", message.params or b"{}", key)

    def _cancelled(self, message: Message, related: Waiter | None) -> None:
        id = _params(message).get("requestId")
        if id is not None and self._questions is not None:
            self._questions.cancel(bytes(id))


_NOTIFICATIONS = {
    "notifications/progress": Notifications._progress,
    "notifications/message": Notifications._log_message,
    "notifications/cancelled": Notifications._cancelled,
    "notifications/tools/list_changed": Notifications._list_changed,
    "notifications/resources/list_changed": Notifications._list_changed,
    "notifications/prompts/list_changed": Notifications._list_changed,
    "notifications/resources/updated": Notifications._resource_updated,
    "notifications/elicitation/complete": Notifications._elicitation_complete,
}
"""What a backend may notify. Anything else is ignored, as the specification asks."""

LIST_CHANGES: Final = tuple(name for name, handler in _NOTIFICATIONS.items() if handler is Notifications._list_changed)


def wants_log(call: Call, params: Buffer) -> bool:
    """Whether the caller wants log messages this severe. Who never said gets what the server sends in a session, and
    nothing without one."""
    caller = call.caller
    if caller.log_level is None:
        return not caller.stateless
    return severity(params) >= caller.log_level


def severity(params: Buffer) -> int:
    """Index into LOG_LEVELS of a `notifications/message`; an unknown level counts as the most severe."""
    level = jsonrpc.members_of(params).get("level")
    name = bytes(level).strip(b'"').decode("latin-1") if level is not None else ""
    return LOG_LEVELS.index(name) if name in LOG_LEVELS else len(LOG_LEVELS)


def _params(message: Message) -> Members:
    return jsonrpc.members_of(message.params) if message.params is not None else {}
