"""The HTTP port: every request is checked by its Origin and Host and goes to the front that its path
names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.frontends.replies import ANSWERED, refuse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.frontends.guard import Guard
    from mcpd.wire.http_server import Request


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

    def __init__(self, guard: Guard, fronts: dict[bytes, Callable[[Request, Verdict], Awaitable[None]]]) -> None:
        self._guard = guard
        self._fronts = fronts

    def handle(self, request: Request) -> Awaitable[None]:
        """Answer one request: the front does, when what this returns is awaited."""
        head = request.head
        verdict = head.notes
        if not isinstance(verdict, Verdict):
            refusal = self._guard.refusal(head.headers, head.repeated)
            verdict = head.notes = Verdict(refusal, self._fronts.get(head.path.rstrip(b"/") or b"/"))
        if verdict.refusal is None and verdict.front is not None:
            return verdict.front(request, verdict)
        if verdict.refusal is not None:
            refuse(request, *verdict.refusal)
        else:
            known = ", ".join(sorted(path.decode() for path in self._fronts))
            refuse(request, 404, f"no such path; mcpd serves {known}")
        return ANSWERED
