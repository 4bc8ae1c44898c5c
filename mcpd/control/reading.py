"""From a request to an Ask: query and body, checked against the row that is asked for."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from mcpd.config.faults import ConfigErrors, Faults
from mcpd.config.shape import Shape
from mcpd.control.ask import Ask
from mcpd.control.refusal import Refusal, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpd.control.ask import Who
    from mcpd.control.table import Operation
    from mcpd.wire.http_server import Request

BODY_MAX: Final = 1024 * 1024
"""Bytes; what operators send is configuration, whose files are a thousandth of that."""


def read(request: Request, operation: Operation, path: Mapping[str, str], who: Who) -> Ask:
    """What is asked. Raises: Refusal."""
    if_match = request.head.headers.get(b"if-match")
    return Ask(
        who,
        path,
        read_query(request, operation),
        read_body(request, operation),
        if_match=if_match.decode("latin-1") if if_match is not None else None,
        request=request,
    )


def read_query(request: Request, operation: Operation) -> Mapping[str, str]:
    """The query of a request, each name once. Raises: Refusal."""
    known = {each.name: each for each in operation.query}
    try:
        pairs = parse_qsl(
            request.head.query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict"
        )
    except ValueError:
        pairs = [] if not request.head.query else [("?", "")]
    query = dict(pairs)
    if len(query) != len(pairs) or not known.keys() >= query.keys():
        names = ", ".join(sorted(known)) or "none"
        raise bad_request("the query is not understood", f"it may have: {names}")
    for name, value in query.items():
        if not known[name].fits(value):
            raise bad_request(f"{name} is {known[name].expected}, not {value[:20]!r}")
    return query


def read_body(request: Request, operation: Operation) -> Any:  # noqa: ANN401
    """The body of a request, decoded. Raises: Refusal."""
    data = request.body
    if operation.body is None:
        if data:
            raise bad_request(f"{operation.path} takes no body")
        return None
    if not data and not operation.body_needed:
        return None
    if len(data) > BODY_MAX:
        raise Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_large",
            f"the body has {len(data)} bytes, more than {BODY_MAX}",
            "send less at once",
        )
    kind = request.head.headers.get(b"content-type", b"").decode("latin-1")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            f"the body is {kind[:80]!r}" if kind else "the body has no Content-Type",
            "send JSON, with Content-Type: application/json",
            headers=b"Accept: application/json\r\n",
        )
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the body is not JSON: {error}", "send JSON in UTF-8") from None
    faults = Faults("")
    Shape(operation.body).check(body, body, faults)
    try:
        faults.raise_any()
    except ConfigErrors as errors:
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            "invalid_body",
            f"the body is not what {operation.path} takes",
            "mend what 'errors' names",
            details={"errors": listed(errors)},
        ) from None
    return body


def bad_request(message: str, remedy: str = "") -> Refusal:
    """For who asked in a way that is not understood."""
    return Refusal(HTTPStatus.BAD_REQUEST, "bad_request", message, remedy)
