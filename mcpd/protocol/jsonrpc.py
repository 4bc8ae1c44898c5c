"""JSON-RPC 2.0 envelopes with lossless pass-through.

Theory of operation. A message is decoded one level deep: a dict of its members in their order, each value
still the bytes it came as (`msgspec.Raw`). Only the members that mcpd reads are decoded further; everything
else is joined into the outgoing message as it is, so numbers, key order and unknown members survive, and a 10
MiB payload costs one scan.

Rules.
1. Two parsers must not disagree about who is called: a message whose routing members come twice is refused.
2. An id keeps its JSON spelling (`1`, `"1"`, `1.0` are three ids): it is compared and sent back as bytes.
3. What `msgspec` cannot scan but RFC 8259 allows (lone surrogate escapes) takes the slow road, not an error.
4. A client's message is refused when it is not JSON-RPC 2.0 in UTF-8. A backend's is read as far as it can
   be: bytes that are no UTF-8 become U+FFFD, for one of them would end the connection of every client that
   reads strictly.
5. A member of the envelope that is null is one that is not there (serializers write "nothing" so), but for
   two: an id, which may not be null, and a result without an error, which some servers give for an empty one.

Source: JSON-RPC 2.0; MCP "Base protocol" of each version.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from mcpd.errors import INVALID_REQUEST, PARSE_ERROR, ProtocolError
from mcpd.protocol.scanner import has_surrogate, scan_array, scan_object

if TYPE_CHECKING:
    from collections.abc import Callable

Buffer: TypeAlias = bytes | Raw
"""JSON text, either owned or a view into a received message."""

Members: TypeAlias = dict[str, Raw]
"""The members of a JSON object in their order, values undecoded."""

ID_MAX: Final = 1024
"""Bytes of an id. Ids are counters or UUIDs; the bound keeps a client from filling our tables with one
request."""

BATCH_MAX: Final = 256
"""Messages in one batch (2025-03-26 only): each may hold a call in flight."""

LOOK_TWICE: Final = 16 * 1024
"""Bytes from which adding lengths up is cheaper than searching the text for a second spelling."""

METHOD_MAX: Final = 256
"""Bytes of a method's name, which error messages repeat. The longest that exists has 38."""

MEMBERS_MAX: Final = 256
"""Members of a client's envelope. JSON-RPC has four; the bound keeps a crowd of them from being held while
the call lasts."""

_members_of = msgspec.json.Decoder(Members).decode
# As a list, a body of nothing but commas would become 30 times its size in memory before its length could be
# refused.
_Batch = msgspec.defstruct(
    "_Batch",
    [(f"message_{at}", Raw, Raw()) for at in range(BATCH_MAX)],
    array_like=True,
    forbid_unknown_fields=True,
)
_batch_of = msgspec.json.Decoder(_Batch).decode
_NULL: Final = Raw(b"null")
_VERSION: Final = Raw(b'"2.0"')
_ARRAY: Final = re.compile(rb"[ \t\r\n]*\[")
_ID_STARTS: Final = frozenset(b'"-0123456789')
_ROUTING: Final = (b'"method"', b'"id"', b'"params"')
_ENVELOPE: Final = frozenset(("jsonrpc", "id", "method", "params", "result", "error"))
# Spellings of ASCII letters by escape sequence (\u0061 …): the only other way to write a routing member's
# name.
_ESCAPED_LETTER: Final = (b"\\u006", b"\\u007", b"\\u004", b"\\u005")


class Message:
    """One decoded envelope. `id` is its JSON text or None; `method` is None for a response."""

    __slots__ = ("id", "members", "method")

    def __init__(self, members: Members, id: bytes | None, method: str | None) -> None:
        self.members = members
        self.id = id
        self.method = method

    @property
    def params(self) -> Raw | None:
        return self.members.get("params")

    @property
    def is_request(self) -> bool:
        return self.method is not None and self.id is not None

    @property
    def is_response(self) -> bool:
        return self.method is None

    def extra(self) -> Members | None:
        """Members beside the envelope's own, which travel with a response; None for nearly every message."""
        members = self.members
        if len(members) <= 3 and "jsonrpc" in members:
            return None
        return {name: raw for name, raw in members.items() if name not in _ENVELOPE} or None

    def __repr__(self) -> str:
        return f"<{self.method or 'response'} id={self.id!r}>"


def decode(data: Buffer) -> Message:
    """One envelope from the bytes of one message, read leniently: for what a backend sends (rule 4).

    Raises: ProtocolError PARSE_ERROR when it is not JSON, INVALID_REQUEST when it is not one JSON-RPC
    message."""
    text = bytes(data)
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            data = text.decode("utf-8", "replace").encode()
    return _decode(data)


def decode_from_client(data: bytes) -> Message:
    """`decode`, for a message that will be routed: refuses also invalid UTF-8, ambiguous members and other
    JSON-RPCs."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(PARSE_ERROR, f"not valid UTF-8 at byte {error.start}") from None
    message = _decode(data)
    members = message.members
    if members.get("jsonrpc") != _VERSION:
        raise ProtocolError(INVALID_REQUEST, 'a message has "jsonrpc": "2.0"')
    if len(members) > MEMBERS_MAX:
        raise ProtocolError(INVALID_REQUEST, f"a message has at most {MEMBERS_MAX} members")
    if len(data) < LOOK_TWICE or not is_compact(data, members):
        for key in _ROUTING:
            if data.count(key) > 1:
                refuse_duplicate(data, members, key)
        refuse_escaped(data, members)
    return message


def decode_many(
    data: bytes, decode_one: Callable[[bytes], Message] = decode_from_client
) -> list[Message | ProtocolError]:
    """The messages of a batch, each on its own: a bad one is an error in its place.

    Raises: ProtocolError when the array itself is bad, empty or longer than BATCH_MAX.
    """
    try:
        raws = [text for raw in msgspec.structs.astuple(_batch_of(data)) if (text := bytes(raw))]
    except msgspec.ValidationError:
        raise ProtocolError(INVALID_REQUEST, f"a batch is an array of at most {BATCH_MAX} messages") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raws = [bytes(raw) for raw in _slowly(data, error, _scan_batch)]
    if not raws:
        raise ProtocolError(INVALID_REQUEST, "a batch holds at least one message")
    messages: list[Message | ProtocolError] = []
    for text in raws:
        try:
            messages.append(decode_one(text))
        except ProtocolError as error:
            messages.append(error)
    return messages


def is_array(data: bytes) -> bool:
    """Whether the text is a JSON array, told by its first significant byte."""
    return _ARRAY.match(data) is not None


def members_of(data: Buffer) -> Members:
    """The members of a JSON object (params, `_meta`, a result). Raises: ProtocolError INVALID_REQUEST
    otherwise."""
    try:
        return _members_of(data)
    except msgspec.ValidationError:
        raise ProtocolError(INVALID_REQUEST, "expected a JSON object") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _slowly(data, error, scan_object)


def is_compact(data: Buffer, members: Members) -> bool:
    """Whether an object's text is as short as its members allow: no space for a second spelling of any of
    them."""
    least = 1 + sum(
        len(name.encode("utf-8", "surrogatepass")) + 4 + memoryview(raw).nbytes for name, raw in members.items()
    )
    return memoryview(data).nbytes == least


def refuse_repeated(data: Buffer, members: Members, key: bytes) -> None:
    """Raise when the object could be read as having `key` twice, by the same spelling or another."""
    if memoryview(data).nbytes < LOOK_TWICE or not is_compact(data, members):
        refuse_duplicate(data, members, key)
        refuse_escaped(data, members)


def refuse_duplicate(data: Buffer, members: Members, key: bytes) -> None:
    """Raise when `key` (quoted, as bytes) names a member of the object `data` more than once.

    Occurrences inside the values are counted off, so an argument that is called "name" harms nobody.
    """
    text = bytes(data)
    outside = text.count(key)
    if outside > 1:
        for raw in members.values():
            outside -= bytes(raw).count(key)
    if outside > 1:
        raise ProtocolError(INVALID_REQUEST, f"member {key.decode()} comes more than once")


def refuse_escaped(data: Buffer, members: Members) -> None:
    """Raise when a member's name spells a letter as an escape: a second way to write `method`, unseen by
    others."""
    text = bytes(data)
    if b"\\u00" not in text:
        return
    for escape in _ESCAPED_LETTER:
        if text.count(escape) > sum(bytes(raw).count(escape) for raw in members.values()):
            raise ProtocolError(INVALID_REQUEST, "a member's name is spelled with an escaped letter")


def encode_members(members: Members | dict[str, Buffer]) -> bytes:
    """A JSON object from members, values as they are."""
    parts: list[Buffer] = []
    glue = b"{"
    for name, raw in members.items():
        parts.append(glue)
        parts.append(_KEYS.get(name) or _spell(name))
        parts.append(raw)
        glue = b","
    if not parts:
        return b"{}"
    parts.append(b"}")
    return b"".join(parts)


_KEYS: Final = {
    name: b'"%b":' % name.encode()
    for name in (
        "name",
        "arguments",
        "_meta",
        "uri",
        "ref",
        "argument",
        "context",
        "progressToken",
        "progress",
        "total",
        "resultType",
        "content",
        "structuredContent",
        "isError",
        "contents",
        "messages",
    )
}


def request(id: int | bytes, method: bytes, params: Buffer | None) -> tuple[Buffer, ...]:
    """A request as parts to write one after the other; `method` without quotes, one of MCP's."""
    if isinstance(id, int):
        id = b"%d" % id
    if params is None:
        return (b'{"jsonrpc":"2.0","id":%b,"method":"%b"}' % (id, method),)
    return (b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":' % (id, method), params, b"}")


def notification(method: bytes, params: Buffer | None = None) -> tuple[Buffer, ...]:
    """A notification as parts."""
    if params is None:
        return (b'{"jsonrpc":"2.0","method":"%b"}' % method,)
    return (b'{"jsonrpc":"2.0","method":"%b","params":' % method, params, b"}")


def result(id: bytes, value: Buffer, extra: Members | None = None) -> tuple[Buffer, ...]:
    """A successful response as parts; `extra` members beside `result` travel along."""
    if extra:
        tail = b"," + encode_members(extra)[1:]
        return (b'{"jsonrpc":"2.0","id":%b,"result":' % id, value, tail)
    return (b'{"jsonrpc":"2.0","id":%b,"result":' % id, value, b"}")


def error(id: bytes | None, value: Buffer) -> tuple[Buffer, ...]:
    """An error response as parts; `value` is the error object. An unreadable id is sent as null."""
    return (b'{"jsonrpc":"2.0","id":%b,"error":' % (b"null" if id is None else id), value, b"}")


def _decode(data: Buffer) -> Message:
    try:
        members = _members_of(data)
    except msgspec.ValidationError:
        raise ProtocolError(INVALID_REQUEST, "a message is one JSON object") from None
    except (msgspec.DecodeError, RecursionError) as error:
        members = _slowly(data, error, scan_object)
    raw_method = members.get("method")
    raw_id = members.get("id")
    id = None if raw_id is None else bytes(raw_id)
    if raw_method is None or raw_method == _NULL:
        _settle_response(members)
        return Message(members, id, None)
    method = _METHODS.get(bytes(raw_method)) or _method_name(raw_method)
    if id is not None and (id[0] not in _ID_STARTS or len(id) > ID_MAX):
        raise ProtocolError(INVALID_REQUEST, f"an id is a string or a number of at most {ID_MAX} bytes")
    if members.get("params") == _NULL:
        del members["params"]
    if "result" in members or "error" in members:
        _settle_request(members)
    return Message(members, id, method)


def _settle_response(members: Members) -> None:
    if "result" in members and "error" in members:
        del members["error" if members["error"] == _NULL else "result"]
        # Neither was null: the error counts. Dropping the message instead would leave its call waiting for
        # nothing.
    elif "result" not in members and "error" not in members:
        raise ProtocolError(INVALID_REQUEST, "a message has a method, a result or an error")
    members.pop("method", None)


def _settle_request(members: Members) -> None:
    for name in ("result", "error"):
        if members.pop(name, _NULL) != _NULL:
            raise ProtocolError(INVALID_REQUEST, f"a message has a method or {name}, not both")


_METHODS: Final[dict[bytes, str]] = {}


def intern_methods(names: list[str]) -> None:
    """Make the methods in `names` decode without work; called once by the table of methods."""
    _METHODS.update({b'"%b"' % name.encode(): name for name in names})


intern_methods(["tools/call", "notifications/progress", "notifications/message"])


def _method_name(raw: Raw) -> str:
    try:
        name = msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, RecursionError):
        raise ProtocolError(INVALID_REQUEST, "method is a string") from None
    if len(name) > METHOD_MAX:
        raise ProtocolError(INVALID_REQUEST, f"method has at most {METHOD_MAX} characters")
    return name


T = TypeVar("T")


def _slowly(data: Buffer, cause: Exception, scan: Callable[[bytes], T]) -> T:
    """What msgspec refused for `cause`, split by the slow road where that may help (rule 3)."""
    reason: Exception = cause
    text = bytes(data)
    if has_surrogate(text):
        try:
            return scan(text)
        except (ValueError, RecursionError) as error:
            reason = error
    words = "nested too deeply" if isinstance(reason, RecursionError) else str(reason)
    raise ProtocolError(PARSE_ERROR, f"not valid JSON: {words}")


def _scan_batch(data: bytes) -> list[Raw]:
    return scan_array(data, BATCH_MAX)


def _spell(name: str) -> bytes:
    """A member's name and its colon; lone surrogates, which rule 3 lets in, as the escapes they came as."""
    try:
        return msgspec.json.encode(name) + b":"
    except UnicodeEncodeError:
        return json.dumps(name).encode() + b":"
