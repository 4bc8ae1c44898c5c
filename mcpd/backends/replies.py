"""What HTTP replies of backends hold: messages, errors, where to go instead and when to come back. No I/O
but reading a body."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from mcpd import failures
from mcpd.errors import (
    BackendCrashed,
    BackendMisbehaved,
    BackendUnavailable,
    ConnectFailed,
    ConnectionBroken,
    LimitExceeded,
    ProtocolError,
)
from mcpd.protocol import jsonrpc
from mcpd.protocol.exchange_client import Reply
from mcpd.wire.http_url import parse_url

if TYPE_CHECKING:
    from mcpd.backends.waiter import Waiter
    from mcpd.errors import BackendError, TransportError
    from mcpd.protocol.jsonrpc import Message
    from mcpd.wire.http_client import Response, Url
    from mcpd.wire.websocket_handshake import HandshakeRefused

ERROR_BODY_MAX: Final = 64 * 1024
"""Bytes of an error's body that are read to find a JSON-RPC error in it."""

REDIRECTS_MAX: Final = 3
"""Redirects of one request that are followed."""

REDIRECTS: Final = frozenset({301, 302, 307, 308})
"""Statuses after which the same request is sent to Location; 303 asks for a GET, which no request of MCP
becomes."""


PUZZLED: Final = frozenset(range(400, 500)) - {401, 403, 408, 410, 425, 429} | {500, 501}
"""Statuses that a server which does not know `server/discover` may answer: it is asked the legacy way then. 500 and 501
are among them, because servers answer so to whatever they did not expect; what really is broken fails again. Any other
refusal is by something in front of the server, or says that it cannot answer now."""


class NotHere(BackendUnavailable):
    """Nothing speaks the transport that was tried at this URL; another transport might."""


class NotUnderstood(BackendUnavailable):
    """The server refused to be asked which versions it speaks. `sure`: not for a reason that may pass."""

    def __init__(self, backend: str, reason: str, *, sure: bool) -> None:
        super().__init__(backend, reason)
        self.sure = sure


def messages_of(data: bytes) -> list[Message]:
    """The messages of one body, event or line: one, or those of an array. Raises: ProtocolError."""
    if data.startswith(b"{"):
        return [jsonrpc.decode(data)]
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    if jsonrpc.is_array(data):
        return [message for message in jsonrpc.decode_many(data) if isinstance(message, jsonrpc.Message)]
    return [jsonrpc.decode(data)]


def answers(message: Message, waiter: Waiter) -> bool:
    """Whether a response that came where the request's own is due is that: by its id, or an error with an id
    nobody gave.

    Servers that could not read a request, or refused it early, answer with id null or a word of their own.
    """
    if message.id == b"%d" % waiter.id:
        return True
    id = (message.id or b"null").strip(b'"').removesuffix(b".0")
    return id == b"%d" % waiter.id or ("error" in message.members and not id.isdigit())


def error_in(body: bytes, waiter: Waiter) -> Message | None:
    """The JSON-RPC error in the body of a refusal. It is correlated by the POST that it answers."""
    try:
        message = jsonrpc.decode(body)
    except ProtocolError:
        return None
    return message if message.method is None and "error" in message.members and answers(message, waiter) else None


def answered_by_server(method: str, reply: Reply, status: int) -> bool:
    """Whether a JSON-RPC error in the body of a refusal is what the server says to the request.

    While a link is opened, the status tells what is to be done about it, but for what refuses the opening itself."""
    if method == "server/discover":
        return status in PUZZLED
    return method != "initialize" or reply is Reply.FAILED or status == 400


def refusal(name: str, method: str, reply: Reply, response: Response) -> BackendError:
    """What a reply that is no answer means, with a remedy."""
    status = response.status
    where = f"HTTP {status}"
    if method == "server/discover" and status in PUZZLED:
        return NotUnderstood(name, f"{where} to {method}", sure=status < 500)
    refused = refusal_of_all(name, response)
    if refused is not None:
        return refused
    match reply:
        case Reply.NOT_HERE if method == "initialize":
            return NotHere(name, where, remedy=f"check servers.{name}.url")
        case Reply.REDIRECT:
            remedy = f"set servers.{name}.url to the final URL"
            return BackendUnavailable(name, f"{where}: it redirects to another origin", remedy=remedy)
        case Reply.GARBAGE:
            kind = response.headers.get(b"content-type", b"nothing").decode("latin-1")
            return BackendMisbehaved(name, f"{where} with {kind} is not an answer", remedy=f"check servers.{name}.url")
    after = retry_after(response)
    return BackendUnavailable(name, f"{where} to {method}", remedy="see the server's own log", retry_after=after)


def refusal_of_all(name: str, response: Response | HandshakeRefused) -> BackendUnavailable | None:
    """What a status means that is about the server as a whole, whatever it was asked; None for any other."""
    why = failures.of_status(response.status, name)
    if why is None:
        return None
    return BackendUnavailable(
        name,
        why.reason,
        remedy=why.remedy,
        kind=why.kind,
        needs_operator=why.needs_operator,
        retry_after=retry_after(response),
    )


async def dispose(response: Response) -> bytes:
    """What is worth knowing of a body that holds no answer; the connection is let go, reusable if it was
    short.
    """
    try:
        if is_stream(response):
            return b""
        return await response.read(ERROR_BODY_MAX)
    except (ConnectionBroken, LimitExceeded):
        return b""
    finally:
        response.close()


def is_stream(response: Response) -> bool:
    """Whether the body is an event stream, which may never end."""
    kind = response.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return bool(kind == b"text/event-stream")


def redirect_target(url: Url, response: Response) -> Url | None:
    """Where a redirect leads, if it may be followed: inside the same origin, as our headers may hold
    credentials.
    """
    location = response.headers.get(b"location", b"").decode("latin-1")
    if response.status not in REDIRECTS or not location:
        return None
    try:
        target = parse_url(urljoin(str(url), location))
    except ValueError:
        return None
    return target if target.origin == url.origin else None


def retry_after(response: Response | HandshakeRefused) -> float | None:
    """Retry-After in seconds from now, given as such or as a date (RFC 9110 10.2.3)."""
    value = response.headers.get(b"retry-after", b"").strip()
    if not value or len(value) > 64:
        return None
    if value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value.decode("latin-1")).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def named(name: str, error: TransportError) -> BackendCrashed | BackendUnavailable | BackendMisbehaved:
    """What went wrong below, as what it means for the backend of this name."""
    if isinstance(error, ConnectFailed):
        check = f"check servers.{name}.url"
        remedy = f"{error.remedy} {check}" if error.remedy.endswith("?") else error.remedy or f"is it running? {check}"
        return BackendUnavailable(name, error.reason, remedy=remedy, kind=error.kind)
    if isinstance(error, LimitExceeded):
        return BackendMisbehaved(name, str(error), remedy="raise limits.message")
    return BackendCrashed(name, f"the connection broke: {error}", remedy="the call may have been executed")
