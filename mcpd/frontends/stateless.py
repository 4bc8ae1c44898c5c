"""Modern requests on a connection that carries everything: stdio, WebSocket. Each is worked on in a task of its own.

Theory of operation. A request is noted among the calls of the connection, next to those of a session, so that ids are
unique on it and `notifications/cancelled` finds either kind. It leaves that table with its answer, which may come while
the task is still in the call: then the call waits for the client's input, and its id is free again.

Rules.
1. After a cancellation nothing more is said of the request.
2. A response is not lost when the client is slow to read; a notification is.
3. What only waits for the client to come back, or tells it news, ends when the client has nothing more to say.

Source: 2026-07-28 "stdio", "Cancellation", "Multi Round-Trip Requests", "Subscriptions".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from mcpd.errors import INTERNAL_ERROR, RpcError
from mcpd.frontends.era import LISTEN, caller_of, open_envelope
from mcpd.frontends.turn import outcome_parts
from mcpd.protocol import jsonrpc
from mcpd.protocol.envelope import require_supported

if TYPE_CHECKING:
    from mcpd.frontends.conversation import Outlet
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.ports import Outcome
    from mcpd.gateway.sessions import Session
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Buffer, Members, Message

log = logging.getLogger("mcpd.frontends")


class Floor:
    """The modern requests of one connection. Their tasks run in the nursery of the connection, which outlives them."""

    def __init__(
        self, gateway: Gateway, session: Session, outlet: Outlet, nursery: trio.Nursery, calls_max: int
    ) -> None:
        self.gateway = gateway
        self.session = session
        self.outlet = outlet
        self.nursery = nursery
        self.tasks: set[StatelessTask] = set()
        self.left = False
        """The client has nothing more to say."""
        self._calls_max = calls_max

    async def take(self, message: Message) -> None:
        """Begin one request, or say why not. What cancels it may be the next message."""
        id = message.id
        assert id is not None
        try:
            members, envelope = open_envelope(message)
            require_supported(envelope)
            task = StatelessTask(self, id, lingers=message.method == LISTEN)
            self.session.register(id, task, self._calls_max)
        except RpcError as error:
            await self.outlet.answer(jsonrpc.error(id, error.encode()))
            return
        self.tasks.add(task)
        extensions = self.gateway.modern.relayed(envelope.extensions)
        caller = caller_of(envelope, self.session.caller.principal, extensions)
        self.nursery.start_soon(task.run, caller, message, members)

    def leave(self) -> None:
        """The client has nothing more to say: end what rule 3 means."""
        self.left = True
        for task in list(self.tasks):
            if task.lingers:
                task.cancel()


class StatelessTask:
    """One modern request. Implements `Turn`, `Running`, and for subscriptions/listen `Feed`."""

    __slots__ = ("_floor", "_id", "_mute", "_scope", "lingers")

    def __init__(self, floor: Floor, id: bytes, *, lingers: bool = False) -> None:
        self._floor = floor
        self._id = id
        self._mute = False
        """It was answered, or is not to be answered any more."""
        self._scope = trio.CancelScope()
        self.lingers = lingers
        """Nobody waits for what the task does: it was answered already, or tells news."""

    async def run(self, caller: Caller, message: Message, members: Members) -> None:
        """Work on the request to its end."""
        gateway = self._floor.gateway
        try:
            with self._scope:
                if message.method == LISTEN:
                    await gateway.listens.listen(caller, self._id, members, self)
                else:
                    await gateway.modern.serve(caller, message, members, self)
        except RpcError as error:
            self.settle(error)
        except Exception:
            log.exception("event=internal_error method=%s", message.method)
            self.settle(RpcError(INTERNAL_ERROR, "internal error in mcpd; its log has the details"))
        finally:
            self._release()
            self._floor.tasks.discard(self)

    # ---- what the gateway does with it --------------------------------------------------------------------

    def notify(self, method: str, params: Buffer) -> None:
        """A notification of the call; nothing happens once it was settled or cancelled."""
        self.send(jsonrpc.notification(method.encode(), params))

    def settle(self, outcome: Outcome) -> None:
        """The end of this exchange; the call may go on."""
        if self._mute:
            return
        self._mute = self.lingers = True
        self._release()
        parts = outcome_parts(self._id, outcome)
        floor = self._floor
        if not floor.outlet.send(parts):
            floor.nursery.start_soon(floor.outlet.answer, parts)  # there is no room for it now
        if floor.left:
            self._scope.cancel()

    def cancel(self) -> None:
        """Cancel the task: nothing more is said."""
        self._mute = True
        self._scope.cancel()

    def send(self, parts: tuple[Buffer, ...]) -> bool:
        """Send one message about this request; False when it cannot be delivered (any more)."""
        return not self._mute and self._floor.outlet.send(parts)

    @property
    def queued(self) -> int:
        """Bytes that the client has not taken yet, of everything that is for it."""
        return self._floor.outlet.queued

    def _release(self) -> None:
        """The id is free again."""
        calls = self._floor.session.calls
        if calls.get(self._id) is self:
            del calls[self._id]
