"""HTTP connections that outlive the program that accepted them: what is written down of each, and how it goes on.

Theory of operation. A descriptor survives `execve`, and so does whatever the kernel holds for it. What the old program
had received and not answered is received by the new one as if it had just come; what it had not sent yet is sent. An
answer that is an open stream is gone on with by serving its request again: the handler finds the head sent, and its own
word about the answer (`Request.carried`).

Rules.
1. A connection is captured between two steps of the scheduler, and only if the exec follows at once.
2. A request that a handler is at work on cannot be captured, unless the handler says how (`Request.carry`) or has not
   begun (`Request.hold`). As long as there is one, the server is busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mcpd.wire.http_connection import Connection
    from mcpd.wire.http_head import Head
    from mcpd.wire.http_request import Request

FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect"})
"""Headers that say how a body comes, which is here already."""


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """One client connection."""

    fd: int
    received: bytes = b""
    """To be served next: a request that was held back or is not whole yet, and what came after it."""
    unsent: bytes = b""
    """Answers that the kernel has not taken yet."""
    closing: bool = False
    """What is unsent is the last."""
    request: bytes = b""
    """A request whose answer goes on, before what was received; empty for none."""
    opened: bool = False
    """The head of that answer was sent, as an event stream's."""
    token: bytes = b""
    """What the handler wants to be told about it."""


def capture(connection: Connection) -> ConnectionState | None:
    """The connection as it is now, for another program to go on with; None while that is not possible (rule 2)."""
    received, request = connection.work()
    if received is None or connection.out.broken:
        return None
    whole, opened, token = b"", False, b""
    if request is not None:
        if connection.carry is None or connection.carry[0] is not request:
            return None
        whole = encode_request(request.head, request.body)
        if (say := connection.carry[1]) is None:
            whole, received = b"", whole + received
        else:
            opened, token = request.answered, say()
    return ConnectionState(
        fd=connection.sock.fileno(),
        received=received,
        unsent=connection.out.unsent(),
        closing=connection.closing,
        request=whole,
        opened=opened,
        token=token,
    )


def take_up(connection: Connection, state: ConnectionState) -> None:
    """Have the connection go on where another program was; before it runs."""
    connection.closing = state.closing
    connection.pending = state.request + state.received
    if state.unsent:
        connection.out.send(state.unsent)
    if not state.request:
        return
    handler = connection.handler

    def handle(request: Request) -> Awaitable[None]:
        # The first request alone; this is called for later ones only until the serving loop begins anew.
        if connection.handler is not handler:
            connection.handler = handler
            connection.carried = (request, state.opened, state.token)
        return handler(request)

    connection.handler = handle


def encode_request(head: Head, body: bytes) -> bytes:
    """The request as it may be received once more. It means the same; how it was framed is not kept."""
    lines = [b"%b %b HTTP/%b" % (head.method, head.target, head.http_version)]
    lines += [b"%b: %b" % (name, value) for name, value in head.headers.items() if name not in FRAMING]
    if body:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join((*lines, b"", body))
