"""Carries out what is asked for, and answers. Who asks, and whether they may, is the listener's to decide: the control
socket asks the kernel (`server`), other listeners for a token.

Rule. What is not carried out is said to whoever asked, and in the log where it would have changed something, or where
it was not even let in.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from mcpd import __version__
from mcpd.control.ask import STREAMED, Reply
from mcpd.control.reading import read
from mcpd.control.refusal import Refusal
from mcpd.control.tags import require
from mcpd.log import METHOD_TOLD, PATH_TOLD
from mcpd.wire.http_request import BODILESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcpd.control.ask import Ask, Who
    from mcpd.control.operations import Operations
    from mcpd.control.table import Operation
    from mcpd.wire.http_server import Request

log = logging.getLogger("mcpd.control")

HEADERS: Final = b"Cache-Control: no-store\r\nMcpd-Version: %b\r\n" % __version__.encode()
JSON: Final = b"Content-Type: application/json\r\n"

Admit: TypeAlias = "Callable[[], tuple[Operation, Mapping[str, str]]]"
"""Says which operation a request is for, with the parameters of its path, if it may have it. Raises: Refusal."""


class Desk:
    """Where operators are attended to."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def attend(self, request: Request, who: Who, admit: Admit) -> None:
        """Answer one request."""
        operation = None
        try:
            operation, path = admit()
            ask = read(request, operation, path, who)
            tag = operation.tag(self._operations, path) if operation.tagged else None
            if ask.if_match is not None:
                ask = self._conditional(ask, operation)
            if operation.changes:
                log.info(
                    "event=operation method=%s path=%r %s", operation.method, request.head.path[:PATH_TOLD], who.logged
                )
                self._tell(request, who)
            answer = await operation.work(self._operations, ask)
        except Refusal as refusal:
            logged = operation is None or operation.changes
            refuse(request, who, refusal, log_it=logged)
            if logged:
                self._tell(request, who, refusal.code)
        except Exception:
            # The crash boundary of one operation.
            log.exception("event=operation_failed path=%r", request.head.path[:PATH_TOLD])
            if not request.answered:
                failed = Refusal(
                    HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "mcpd failed to do this", "its log says why"
                )
                _answer(request, failed)
        else:
            if answer is not STREAMED:
                reply = answer if isinstance(answer, Reply) else Reply(answer)
                # From before it was looked at: where that took a while, it is the tag of what is older.
                _reply(request, reply if reply.etag or tag is None else replace(reply, etag=tag))

    def _conditional(self, ask: Ask, operation: Operation) -> Ask:
        """The same, with its condition looked at. Raises: Refusal."""

        def require_unchanged() -> None:
            require(ask.if_match, operation.tag(self._operations, ask.path))

        require_unchanged()
        return replace(ask, require_unchanged=require_unchanged)

    def _tell(self, request: Request, who: Who, refused: str = "") -> None:
        """Let those who follow events know who does what. `refused`: why not, in a word."""
        method = request.head.method.decode("latin-1")[:METHOD_TOLD]
        path = request.head.path.decode("latin-1")[:PATH_TOLD]
        self._operations.gateway.events.emit(
            "operation", by=str(who), method=method, path=path, refused=refused or None
        )


def refuse(request: Request, who: Who, refusal: Refusal, *, log_it: bool) -> None:
    """Answer what is not carried out, if nothing was answered yet."""
    if log_it:
        log.warning("event=operation_refused method=%r path=%r %s reason=%s", *_told(request), who.logged, refusal)
    _answer(request, refusal)


def refuse_stranger(request: Request, who: Who, refusal: Refusal, suppressed: int | None) -> None:
    """The same for somebody who can try as often as they like: how many times that was not logged, or None if it is not
    to be logged now (`log.Seldom`).
    """
    if suppressed is not None:
        log.warning(
            "event=operation_refused method=%r path=%r %s reason=%s suppressed=%d",
            *_told(request),
            who.logged,
            refusal,
            suppressed,
        )
    _answer(request, refusal)


def _told(request: Request) -> tuple[bytes, bytes]:
    """What the log says of a request, whose author chose it: of bounded length, and to be written with %r."""
    return request.head.method[:METHOD_TOLD], request.head.path[:PATH_TOLD]


def _answer(request: Request, refusal: Refusal) -> None:
    if not request.answered:
        request.answer(refusal.status, JSON + HEADERS + refusal.headers, refusal.encode())


def _reply(request: Request, reply: Reply) -> None:
    headers = HEADERS + reply.headers
    if reply.etag:
        headers += b"ETag: %b\r\n" % reply.etag.encode("latin-1")
    if reply.status in BODILESS:
        request.answer(reply.status, headers)
    else:
        request.answer(reply.status, JSON + headers, msgspec.json.encode(reply.body))
