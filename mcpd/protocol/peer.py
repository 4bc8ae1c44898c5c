"""One JSON-RPC connection to a backend: whose answer, progress or question is this?

Theory of operation. mcpd is the sender of every request on the connection, so ids and progress tokens are its
own: a counter, the same number for both. Each request in flight is a `Pending`; an answer takes it out of the
table, progress finds it by its token. A question or log line of a backend on a shared pipe names no request,
so it is attributed by what is in flight.

Rules.
1. An id is never used twice on a connection.
2. A question goes to the one client that has a call in flight which may ask, whether or not it can be asked: if there
   is not exactly one, the question is refused, never guessed (legacy wires carry no pointer from a question to its
   cause). To pick the one that declared the capability would show one client's question to another.
3. A log line goes to a client under the same condition, whatever its call.
4. What a request started may outlive it: progress that names it then belongs to the request that waits for the outcome.

Source: "Requests", "Progress", "Cancellation" of 2024-11-05 to 2025-11-25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.protocol.methods import ASKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Message
    from mcpd.types import SessionKey


class Pending:
    """One request of mcpd's in flight. `call` is None for mcpd's own (lists, handshake, levels)."""

    __slots__ = ("call", "id", "method", "questions", "standing")

    def __init__(self, method: str, call: Call | None) -> None:
        self.method = method
        self.call = call
        self.id = 0
        self.questions = 0
        """Questions to the client that are open on behalf of this request; a person who thinks is not a
        hang."""
        self.standing = False
        """It stays open for news until it is ended: nobody waits for its answer."""


class Peer:
    """The requests in flight on one connection to a backend."""

    __slots__ = ("_heirs", "_last", "_pending")

    def __init__(self) -> None:
        self._last = 0
        self._pending: dict[int, Pending] = {}
        self._heirs: dict[int, Pending] = {}

    @property
    def last(self) -> int:
        """The id that was given last."""
        return self._last

    def count_from(self, last: int) -> None:
        """Ids up to this one were given by another program."""
        self._last = last

    def standing(self) -> tuple[int, ...]:
        """Ids of requests that nobody waits for."""
        return tuple(id for id, pending in self._pending.items() if pending.standing)

    def open(self, pending: Pending) -> int:
        """Give the request its id and remember it."""
        self._last += 1
        pending.id = self._last
        self._pending[pending.id] = pending
        return pending.id

    def bequeath(self, id: int, heir: Pending) -> None:
        """A request that was answered started what goes on: until `forget`, progress that names it is the heir's
        (rule 4)."""
        self._heirs[id] = heir

    def forget(self, id: int) -> None:
        """What that request started is over. Harmless when nothing is known of it."""
        self._heirs.pop(id, None)

    def close(self, pending: Pending) -> None:
        """Forget the request; a later answer to it is ignored. Harmless when it is already gone."""
        self._pending.pop(pending.id, None)

    def take(self, message: Message) -> Pending | None:
        """The request that a response answers, taken out of the table; None for a late or foreign one."""
        return self._pending.pop(_number(message.id), None)

    def find(self, token: bytes | None) -> Pending | None:
        """The request in flight that has this id or progress token (JSON text), or its heir."""
        number = _number(token)
        return self._pending.get(number) or self._heirs.get(number)

    def take_all(self) -> list[Pending]:
        """Empty the table: the connection ended."""
        everything = list(self._pending.values())
        self._pending.clear()
        return everything

    def __len__(self) -> int:
        """Requests that somebody waits for."""
        return sum(not pending.standing for pending in self._pending.values())

    def whose_question(self) -> tuple[Pending | None, int]:
        """The call that a question on a shared connection belongs to, and how many clients it could belong to
        (rule 2)."""
        return _only_client(
            pending
            for pending in self._pending.values()
            # By what the client called: mcpd may ask for its outcome by another method (a task's).
            if pending.call is not None and pending.call.method in ASKING
        )

    def whose_log(self, *, asked: bool = False) -> tuple[Pending | None, int]:
        """The call that a log line on a shared connection belongs to (rule 3). `asked`: the backend logs only for calls
        that want it."""
        return _only_client(
            pending
            for pending in self._pending.values()
            if pending.call is not None and (not asked or pending.call.caller.log_level is not None)
        )


NOTHING: Final = -1


def _only_client(candidates: Iterable[Pending]) -> tuple[Pending | None, int]:
    newest: dict[SessionKey, Pending] = {}
    for pending in candidates:
        if pending.call is not None:
            newest[pending.call.caller.key] = pending
    if len(newest) == 1:
        return next(iter(newest.values())), 1
    return None, len(newest)


def _number(text: bytes | None) -> int:
    """Our ids are small integers; some peers send them back as strings or floats."""
    if text is None:
        return NOTHING
    if text.isdigit() and len(text) < 19:
        return int(text)
    text = text.strip(b'"')
    if text.endswith(b".0"):
        text = text[:-2]
    return int(text) if text.isdigit() and len(text) < 19 else NOTHING
