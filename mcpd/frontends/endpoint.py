"""The HTTP port: every request is checked by its Origin and Host and goes to the front that its path
names."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from mcpd.errors import ProtocolError
from mcpd.frontends.replies import ANSWERED, refuse
from mcpd.log import METHOD_TOLD, PATH_TOLD, Seldom
from mcpd.protocol.exchange import read_body
from mcpd.protocol.jsonrpc import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.frontends.guard import Guard
    from mcpd.gateway.gate import Gate
    from mcpd.wire.http_server import Request

log = logging.getLogger("mcpd.frontends")

LOOKS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that change nothing; browsers send them of their own accord."""

LOG_EVERY: Final = 1.0
"""Seconds between two lines about requests of one peer that are refused for where they come from."""

REASON_TOLD: Final = 400
"""Characters of a reason that the log repeats, which has the whole Host or Origin in it."""

MANAGED: Final = b"/servers"
"""What is POSTed there is no message of MCP."""


class Verdict:
    """What a head means, derived once from its exact bytes. `notes` is the front's own."""

    __slots__ = ("front", "notes", "refusal")

    def __init__(
        self, refusal: tuple[int, str] | None, front: Callable[[Request, Verdict], Awaitable[None]] | None
    ) -> None:
        self.refusal = refusal
        self.front = front
        self.notes: object | None = None


class Endpoint:
    """Routes requests by path."""

    def __init__(
        self,
        guard: Guard | None,
        fronts: dict[bytes, Callable[[Request, Verdict], Awaitable[None]]],
        gate: Gate,
        *,
        below: dict[bytes, Callable[[Request, Verdict], Awaitable[None]]] | None = None,
        turn_away: Callable[[Request], Awaitable[None]] | None = None,
    ) -> None:
        """Without a guard somebody else has checked. `below` has the fronts of all paths that begin so. `turn_away`
        answers what the gate would hold back, where connections do not outlive the program."""
        self._below = below or {}
        self._refusals = Seldom(LOG_EVERY)
        self._turn_away = turn_away
        self._gate = gate
        self._guard = guard
        self._fronts = fronts

    def handle(self, request: Request) -> Awaitable[None]:
        """Answer one request: the front does, when what this returns is awaited."""
        if self._gate.closed and request.carried is None and not _is_answer(request):
            return (self._turn_away or self._handle_later)(request)
        head = request.head
        verdict = head.notes
        if not isinstance(verdict, Verdict):
            refusal = self._guard.refusal(head.headers, head.repeated) if self._guard is not None else None
            verdict = head.notes = Verdict(refusal, self._front(head.path))
        if verdict.refusal is None and verdict.front is not None:
            return verdict.front(request, verdict)
        if verdict.refusal is not None:
            if head.method not in LOOKS:
                self._log(request, verdict.refusal[1])
            refuse(request, *verdict.refusal)
        else:
            known = ", ".join(sorted(path.decode() for path in self._fronts))
            refuse(request, 404, f"no such path; mcpd serves {known}")
        return ANSWERED

    def _front(self, path: bytes) -> Callable[[Request, Verdict], Awaitable[None]] | None:
        front = self._fronts.get(path.rstrip(b"/") or b"/")
        return front or next((each for begin, each in self._below.items() if path.startswith(begin)), None)

    def _log(self, request: Request, reason: str) -> None:
        """Who tried something from a place that is not trusted, which may be tried often."""
        suppressed = self._refusals.suppressed(request.peer, trio.current_time())
        if suppressed is not None:
            log.warning(
                "event=request_refused method=%r path=%r peer=%s:%s reason=%s suppressed=%d",
                request.head.method[:METHOD_TOLD],
                request.head.path[:PATH_TOLD],
                request.peer,
                request.peer_port,
                reason[:REASON_TOLD],
                suppressed,
            )

    async def _handle_later(self, request: Request) -> None:
        request.hold()
        try:
            await self._gate.wait()
        finally:
            request.release()
        await self.handle(request)


def _is_answer(request: Request) -> bool:
    """Whether it begins nothing: answers and notifications belong to calls that are in flight."""
    if request.head.method != b"POST" or request.head.path.startswith(MANAGED):
        return False
    try:
        messages, _ = read_body(request.body, batches=True)
    except ProtocolError:
        return True  # it is refused
    return not any(isinstance(message, Message) and message.is_request for message in messages)
