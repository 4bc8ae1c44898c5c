"""What h11 says about a head, asked once per distinct head.

A keep-alive client repeats its head byte for byte, but for the number in Content-Length at most, and h11
takes 25-50 µs to read it. Rules:

1. h11 alone decides what a head means and whether it is refused. What it refuses is never remembered: the
   connection closes.
2. A memo repeats h11's verdict for exactly the same bytes, or for bytes that differ only in the digits of the
   one Content-Length header: h11 reads that value by itself, so the rest of its verdict cannot change.
3. A memo is bounded, and belongs to one connection (server) or one origin (client).
4. On top of h11 we refuse what RFC 9112 6.1 and 6.3 call a smuggling attempt: Transfer-Encoding beside
   Content-Length, and Transfer-Encoding in HTTP/1.0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    import h11

MEMO_HEADS = 8
"""Distinct heads kept by one memo: a client has few (POST, GET, DELETE, with and without session id); 2-3 KiB
each."""

LENGTH_DIGITS = 15
"""Longest Content-Length taken over from a remembered head; more is h11's business (it allows 20)."""

_NEVER = -1
_LENGTH_NAMES = re.compile(rb"\ncontent-length", re.IGNORECASE)
_LENGTH_LINE = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_LINE_BREAKERS = re.compile(r"[\r\n\x00]")


class HttpRefused(Exception):
    """A request that cannot be served; answered with `status` and `reason`, then the connection closes."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status}: {reason}")


class Head:
    """One request head. `notes` is the handler's: what it derived from this head (Content-Length apart), kept
    with the memo.
    """

    __slots__ = (
        "chunked",
        "content_length",
        "expect_continue",
        "headers",
        "http_version",
        "keep_alive",
        "method",
        "notes",
        "path",
        "plain",
        "query",
        "repeated",
        "target",
    )

    def __init__(
        self,
        *,
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        repeated: frozenset[bytes],
        content_length: int | None,
        chunked: bool,
        keep_alive: bool,
        expect_continue: bool,
        http_version: bytes,
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        self.repeated = repeated
        self.content_length = content_length
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.expect_continue = expect_continue
        self.http_version = http_version
        self.notes: object | None = None
        self.plain = _NEVER if chunked or expect_continue else (content_length or 0)
        """Bytes of body after the head when that is all there is to reading it; -1: it takes more."""

    def resized(self, digits: bytes) -> Head:
        """The same head with another Content-Length."""
        other = Head.__new__(Head)
        other.method = self.method
        other.target = self.target
        other.path = self.path
        other.query = self.query
        other.headers = {**self.headers, b"content-length": digits}
        other.repeated = self.repeated
        other.content_length = length = int(digits)
        other.chunked = self.chunked
        other.keep_alive = self.keep_alive
        other.expect_continue = self.expect_continue
        other.http_version = self.http_version
        other.notes = self.notes
        other.plain = _NEVER if self.expect_continue else length
        return other


class ResponseHead:
    """One response head, 1xx included."""

    __slots__ = ("chunked", "content_length", "headers", "keep_alive", "status")

    def __init__(
        self,
        *,
        status: int,
        headers: dict[bytes, bytes],
        content_length: int | None,
        chunked: bool,
        keep_alive: bool,
    ) -> None:
        self.status = status
        self.headers = headers
        self.content_length = content_length
        self.chunked = chunked
        self.keep_alive = keep_alive

    def resized(self, digits: bytes) -> ResponseHead:
        """The same head with another Content-Length."""
        return ResponseHead(
            status=self.status,
            headers={**self.headers, b"content-length": digits},
            content_length=int(digits),
            chunked=self.chunked,
            keep_alive=self.keep_alive,
        )


def fold_headers(pairs: Iterable[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], frozenset[bytes]]:
    """Headers as a dict, repeated ones joined by `, `, and the names that were repeated."""
    headers: dict[bytes, bytes] = {}
    repeated = set()
    for name, value in pairs:
        if name in headers:
            repeated.add(name)
            headers[name] += b", " + value
        else:
            headers[name] = value
    return headers, frozenset(repeated)


def has_token(value: bytes | None, token: bytes) -> bool:
    """Whether a comma-separated header value names `token` (lower case)."""
    return value is not None and token in [part.strip() for part in value.lower().split(b",")]


def read_request_head(event: h11.Request) -> Head:
    """What h11 parsed, as a `Head`.

    Raises: HttpRefused, when the framing is ambiguous or the version is not HTTP/1.x.
    """
    headers, repeated = fold_headers(event.headers)
    version = bytes(event.http_version)
    if not version.startswith(b"1."):
        raise HttpRefused(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    length = headers.get(b"content-length")
    chunked = b"transfer-encoding" in headers
    if chunked and length is not None:
        raise HttpRefused(400, "Content-Length and Transfer-Encoding in one request")
    if chunked and version < b"1.1":
        raise HttpRefused(400, "Transfer-Encoding in an HTTP/1.0 request")
    return Head(
        method=bytes(event.method),
        target=bytes(event.target),
        headers=headers,
        repeated=repeated,
        content_length=None if length is None else int(length),
        chunked=chunked,
        # HTTP/1.0 keep-alive is not offered: h11 does not either, and such clients send one request.
        keep_alive=version >= b"1.1" and not has_token(headers.get(b"connection"), b"close"),
        expect_continue=version >= b"1.1" and has_token(headers.get(b"expect"), b"100-continue"),
        http_version=version,
    )


def read_response_head(event: h11.Response | h11.InformationalResponse) -> ResponseHead:
    """What h11 parsed, as a `ResponseHead`; Transfer-Encoding wins over Content-Length (RFC 9112 6.3), and
    then closes.
    """
    headers, _ = fold_headers(event.headers)
    version = bytes(event.http_version)
    length = headers.get(b"content-length")
    chunked = b"transfer-encoding" in headers
    ambiguous = chunked and length is not None
    return ResponseHead(
        status=event.status_code,
        headers=headers,
        content_length=None if length is None or chunked else int(length),
        chunked=chunked,
        keep_alive=version >= b"1.1" and not ambiguous and not has_token(headers.get(b"connection"), b"close"),
    )


H = TypeVar("H", Head, ResponseHead)


class Memo(Generic[H]):
    """The last few heads by their exact bytes. `heads` is public because the hot loop looks there itself."""

    __slots__ = ("_limit", "_templates", "heads")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.heads: dict[bytes, H] = {}
        self._templates: list[tuple[bytes, bytes, H]] = []

    def clear(self) -> None:
        """Forget everything."""
        self.heads.clear()
        self._templates.clear()

    def recall(self, raw: bytes) -> H | None:
        """What h11 said about `raw`, or about `raw` with another Content-Length; None: ask h11 (also when
        over the limit).
        """
        head = self.heads.get(raw)
        if head is not None:
            return head
        for before, after, model in self._templates:
            if raw.startswith(before) and raw.endswith(after):
                digits = raw[len(before) : len(raw) - len(after)]
                # bytes.isdigit() is ASCII digits only, and false for nothing.
                if len(digits) <= LENGTH_DIGITS and digits.isdigit() and int(digits) <= self._limit:
                    head = model.resized(digits)
                    self._keep(raw, head)
                    return head
        return None

    def store(self, raw: bytes, head: H) -> None:
        """Remember h11's verdict on `raw`, a whole head that ends at its first empty line."""
        if raw.find(b"\r\n\r\n") != len(raw) - 4:
            return  # bare line feeds: legal to h11, but not found by those who look a head up
        self._keep(raw, head)
        if head.content_length is not None and len(_LENGTH_NAMES.findall(raw)) == 1:
            found = _LENGTH_LINE.search(raw)
            if found is not None:
                if len(self._templates) >= MEMO_HEADS:
                    del self._templates[0]
                self._templates.append((raw[: found.start(1)], raw[found.end(1) :], head))

    def _keep(self, raw: bytes, head: H) -> None:
        heads = self.heads
        if len(heads) >= MEMO_HEADS:
            del heads[next(iter(heads))]
        heads[raw] = head


def header_block(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Header lines for a request or an answer, from values that others gave.

    Raises: ValueError, when a name is not a token or a value holds CR, LF, NUL or a character outside
    Latin-1.
    """
    lines = []
    for name, value in pairs:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"not a header name: {name!r}")
        if _LINE_BREAKERS.search(value):
            raise ValueError(f"header {name}: its value contains a line break or NUL")
        try:
            lines.append(f"{name}: {value.strip()}\r\n".encode("latin-1"))
        except UnicodeEncodeError:
            raise ValueError(f"header {name}: its value contains a character outside Latin-1") from None
    return b"".join(lines)
