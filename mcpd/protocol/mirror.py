"""Headers of modern Streamable HTTP that repeat what the body says, in both roles.

Theory of operation. A request's method, the name it is about and the arguments that a tool's schema marks with
`x-mcp-header` are also sent as headers, for those on the way who do not read bodies. As a client mcpd writes them from
the final body; as a server it refuses a request whose headers say something else. `Parameters` holds the marks of one
tool, read once.

Rules.
1. The body is what counts: headers are made from it and compared with it, never used in its stead.
2. A value that a header cannot carry as it is goes as base64 in `=?base64?…?=`; so does one that looks like that, and
   an empty one, which some readers take for none. A reader takes no base64 but the canonical.
3. A header that comes twice has two meanings, so it has none: a mismatch.
4. An argument that is absent, null, an object or an array has no header.

Source: 2026-07-28 "Streamable HTTP" (standard headers, custom headers).
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.errors import HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, ProtocolError
from mcpd.protocol.edits import members_or_none
from mcpd.protocol.marks import read_marks
from mcpd.protocol.methods import METHODS
from mcpd.protocol.versions import MODERN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from msgspec import Raw

    from mcpd.protocol.jsonrpc import Buffer, Members
    from mcpd.protocol.marks import Path

NAMED: Final = {
    method.name: method.routed_by
    for method in METHODS
    if method.client is not None and MODERN in method.client and method.routed_by not in (None, "ref")
}
"""The parameter that Mcp-Name repeats, by method."""

VALUE_MAX: Final = 8192
"""Bytes of one header's value: nginx takes lines, and node whole heads, of little more."""


class HeaderMismatch(ProtocolError):
    """The headers of a request do not say what its body says."""

    def __init__(self, message: str) -> None:
        super().__init__(HEADER_MISMATCH, message)


def encode_value(text: str) -> str:
    """A value as a header can carry it (rule 2). Half of a surrogate pair becomes U+FFFD: UTF-8 has no place for it."""
    if text and text.isascii() and text.isprintable() and " " not in (text[0], text[-1]) and not _looks_wrapped(text):
        return text
    return f"=?base64?{b64encode(_LONE.sub(_REPLACEMENT, text).encode()).decode()}?="


def decode_value(value: bytes) -> str:
    """What a header's value stands for. Raises: ValueError when it is neither ASCII nor canonical base64 of UTF-8."""
    wrapped = _WRAPPED.fullmatch(value)
    if wrapped is None:
        return value.decode("ascii")
    payload = wrapped[1]
    data = b64decode(payload)
    if b64encode(data) != payload:
        raise ValueError("base64 is not canonical")
    return data.decode()


def name_for(method: str, members: Members) -> str | None:
    """What Mcp-Name must say for a request: its name, URI or task id; None when it has none."""
    key = NAMED.get(method)
    raw = None if key is None else members.get(key)
    return None if raw is None else _string(raw)


class Parameters:
    """Which arguments of one tool are repeated as headers. False when there are none."""

    __slots__ = ("_marked",)

    def __init__(self, marks: Mapping[Path, str]) -> None:
        self._marked = tuple(
            (path, f"Mcp-Param-{token}", f"mcp-param-{token}".lower().encode()) for path, token in marks.items()
        )

    @staticmethod
    def read(schema: Buffer | None) -> Parameters:
        """From a tool's inputSchema. Raises: ValueError saying what is wrong with a mark."""
        marks = read_marks(schema)
        return Parameters(marks) if marks else NO_PARAMETERS

    def headers(self, arguments: Buffer | None) -> list[tuple[str, str]]:
        """Names and encoded values, for arguments as they are sent."""
        if not self._marked or arguments is None:
            return []
        members = members_or_none(arguments)
        found = []
        for path, name, _key in self._marked:
            raw = _at(members, path)
            text = None if raw is None else _render(raw)
            if text is not None:
                found.append((name, encode_value(text)))
        return found

    def check(self, headers: Mapping[bytes, bytes], repeated: frozenset[bytes], arguments: Buffer | None) -> None:
        """Raises: HeaderMismatch when a header does not repeat its argument."""
        members = {} if arguments is None else members_or_none(arguments)
        for path, name, key in self._marked:
            if key in repeated:
                raise HeaderMismatch(f"{name} header comes more than once")
            value = headers.get(key)
            raw = _at(members, path)
            text = None if raw is None else _render(raw)
            if raw is None or text is None:
                if value is not None:
                    raise HeaderMismatch(f"{name} header has no argument in the request body")
            elif value is None:
                # JavaScript cannot say such a number, and its clients leave it out.
                if not _beyond_counting(text, raw):
                    raise HeaderMismatch(f"{name} header is missing")
            elif not _same(value, text, raw):
                raise HeaderMismatch(f"{name} header does not match the request body")

    def __bool__(self) -> bool:
        return bool(self._marked)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameters) and self._marked == other._marked

    def __hash__(self) -> int:
        return hash(self._marked)

    def __repr__(self) -> str:
        return f"<Parameters {', '.join(name for _path, name, _key in self._marked) or 'none'}>"


NO_PARAMETERS: Final = Parameters({})


def request_headers(method: str, members: Members, parameters: Parameters) -> bytes:
    """The header lines of a request with these params, each with its line end; MCP-Protocol-Version is not among them.

    Raises: ProtocolError when a value is too long for a header, or the method is none that a header can name."""
    lines = _METHOD_LINES.get(method) or _method_line(method)
    name = name_for(method, members)
    if name is not None:
        lines += b"Mcp-Name: %b\r\n" % _fitting("Mcp-Name", encode_value(name))
    if parameters and method == "tools/call":
        for header, value in parameters.headers(members.get("arguments")):
            lines += b"%b: %b\r\n" % (header.encode(), _fitting(header, value))
    return lines


def check(
    headers: Mapping[bytes, bytes], repeated: frozenset[bytes], *, method: str, members: Members, version: str
) -> None:
    """Hold a request's headers against its body. Raises: HeaderMismatch.

    `headers` by lower-case name, `repeated` the names that came more than once, `version` the envelope's."""
    if repeated and not repeated.isdisjoint(_STANDARD):
        name = next(name for name in _STANDARD if name in repeated)
        raise HeaderMismatch(f"{_STANDARD[name]} header comes more than once")
    _check_text(b"mcp-protocol-version", headers, version)
    _check_text(b"mcp-method", headers, method)
    key = NAMED.get(method)
    if key is None:
        return
    value = headers.get(b"mcp-name")
    raw = members.get(key)
    text = None if raw is None else _string(raw)
    if raw is None or text is None:
        # Without a name there is nothing to compare; that it is missing is for the method to say.
        if value is not None:
            raise HeaderMismatch("Mcp-Name header does not match the request body")
    elif value is None:
        raise HeaderMismatch("Mcp-Name header is missing")
    elif not _same(value, text, raw):
        raise HeaderMismatch("Mcp-Name header does not match the request body")


def check_parameters(
    headers: Mapping[bytes, bytes], repeated: frozenset[bytes], parameters: Parameters, arguments: Buffer | None
) -> None:
    """Hold the headers of a tool's arguments against them; others are not looked at. Raises: HeaderMismatch."""
    if parameters:
        parameters.check(headers, repeated, arguments)


# ---- values

_LONE: Final = re.compile("[\ud800-\udfff]")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_WRAPPED: Final = re.compile(rb"=\?base64\?(.*)\?=", re.DOTALL)
_STANDARD: Final = {
    b"mcp-protocol-version": "MCP-Protocol-Version",
    b"mcp-method": "Mcp-Method",
    b"mcp-name": "Mcp-Name",
}
_METHOD_LINES: Final = {
    method.name: b"Mcp-Method: %b\r\n" % method.name.encode()
    for method in METHODS
    if method.client is not None and MODERN in method.client
}
_SIMPLE: Final = re.compile("[!-~]+")
_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_NUMBER_STARTS: Final = frozenset(b"-0123456789")
_INTEGERS: Final = 2**53 - 1
"""What a double can count up to, on either side."""


def _looks_wrapped(text: str) -> bool:
    return text.startswith("=?base64?") and text.endswith("?=")


def _string(raw: Raw) -> str | None:
    """The value of a JSON string, else None; halves of surrogate pairs stay."""
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        found = json.loads(bytes(raw))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _render(raw: Raw) -> str | None:
    """An argument as text, None for what has no header (rule 4)."""
    text = bytes(raw)
    first = text[0]
    if first == 0x22:
        return _string(raw)
    if first not in _NUMBER_STARTS:
        return text.decode() if text in (b"true", b"false") else None
    if text.isdigit():
        return text.decode()
    number = float(text)
    if number.is_integer() and abs(number) <= _INTEGERS:
        return str(int(number))
    if b"." in text or b"e" in text or b"E" in text:
        return repr(number) if abs(number) < _TOO_LARGE else None
    return text.decode()


_TOO_LARGE: Final = float("inf")


def _beyond_counting(text: str, raw: Raw) -> bool:
    """Whether an argument is an integer that a double does not hold."""
    return bytes(raw)[0] in _NUMBER_STARTS and text.lstrip("-").isdigit() and abs(float(text)) > _INTEGERS


def _same(value: bytes, text: str, raw: Raw) -> bool:
    """Whether a header's value stands for an argument, `text` when rendered and `raw` in the body."""
    try:
        found = decode_value(value)
    except ValueError:
        return False
    if found == text:
        return True
    if not _DECIMAL.fullmatch(found):
        return False
    try:
        return Decimal(found) == Decimal(bytes(raw).decode(errors="replace"))
    except ArithmeticError:
        return False  # no number, or an exponent that nobody can count


def _at(members: Members, path: Path) -> Raw | None:
    *above, last = path
    for name in above:
        inner = members.get(name)
        if inner is None:
            return None
        members = members_or_none(inner)
    return members.get(last)


def _check_text(name: bytes, headers: Mapping[bytes, bytes], expected: str) -> None:
    value = headers.get(name)
    if value is None:
        raise HeaderMismatch(f"{_STANDARD[name]} header is missing")
    if value != expected.encode("utf-8", "surrogatepass"):
        raise HeaderMismatch(f"{_STANDARD[name]} header does not match the request body")


def _method_line(method: str) -> bytes:
    if not _SIMPLE.fullmatch(method):
        raise ProtocolError(INVALID_REQUEST, "no header can name this method")
    return b"Mcp-Method: %b\r\n" % method.encode()


def _fitting(header: str, value: str) -> bytes:
    if len(value) > VALUE_MAX:
        raise ProtocolError(
            INVALID_PARAMS,
            f"the server wants a value of {len(value)} bytes as {header} header: at most {VALUE_MAX} fit",
        )
    return value.encode()
