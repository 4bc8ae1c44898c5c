"""The OpenAPI document of the control interface, written from the tables that serve it.

Source: OpenAPI 3.1.1. Its schemas are JSON Schema 2020-12, which the tables have too; what one of them defines for
itself (`$defs`) moves to the document's components, since a reference there means the whole document.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from mcpd import __version__
from mcpd.control.table import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations
    from mcpd.control.table import Schema

JSON: Final = "application/json"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_DEFINED: Final = "#/$defs/"

REASONS: Final = {
    400: "The request is not understood; `message` says what of it.",
    403: "Whoever asks may not do this, or it comes from a web page.",
    404: "There is no such thing.",
    409: "It cannot be done as things are now.",
    412: "It was changed since it was looked at: If-Match is not its tag.",
    413: "The body is too large.",
    415: "The body is not JSON, or does not say so.",
    421: "The request is for another host.",
    422: "What was to be configured has faults; `errors` has them all, and nothing was changed.",
    500: "mcpd failed; its log says why.",
    502: "The server did not do its part.",
    503: "There is no room now; `Retry-After` says when to come back.",
    504: "The server did not do its part in time.",
    507: "It could not be written down, and so was not done: the disk is full, or mcpd may not write there.",
}

REFUSAL: Final[Schema] = {
    "type": "object",
    "description": "Why something was not done.",
    "required": ["code", "message", "remedy"],
    "properties": {
        "code": {"type": "string", "description": "Which error, for programs; it stays as it is."},
        "message": {"type": "string", "description": "What is wrong, for people."},
        "remedy": {"type": "string", "description": "What to do about it; may be empty."},
        "errors": {
            "type": "array",
            "description": "Single faults, each with its place.",
            "items": {
                "type": "object",
                "required": ["message", "path"],
                "properties": {
                    "file": {"type": "string"},
                    "line": {"type": ["integer", "null"]},
                    "path": {"type": "string"},
                    "message": {"type": "string"},
                    "remedy": {"type": "string"},
                },
            },
        },
    },
}

ABOUT: Final = (
    "What mcpd serves on its control socket. Requests with an Origin or a Referer, or for a host other than localhost "
    "or mcpd, are refused. Who asks is known by the connection. `/mcp` on the same socket is Streamable HTTP, as the "
    "Model Context Protocol has it, and not described here. `POST /v1/servers` and `DELETE /v1/servers/{name}` are on "
    "the HTTP port too, without `/v1` and for whoever has the admin token; others are answered 401 there."
)


async def describe(operations: Operations, ask: Ask) -> object:
    """The document."""
    return document(operations.table)


def document(table: Iterable[Operation]) -> Schema:
    """The OpenAPI document of these rows."""
    components: Schema = {"Refusal": REFUSAL}
    paths: dict[str, Schema] = {}
    for row in table:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, components)
    return {
        "openapi": "3.1.1",
        "info": {"title": "mcpd control interface", "version": __version__, "description": ABOUT},
        "servers": [{"url": "http://localhost"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(row: Operation, components: Schema) -> Schema:
    described: Schema = {
        "operationId": row.id,
        "summary": row.summary,
        "tags": [row.path.split("/")[2]],
        "parameters": _parameters(row),
        "responses": _responses(row, components),
    }
    if row.body is not None:
        content = {JSON: {"schema": _moved(row.body, row.id, components)}}
        described["requestBody"] = {"required": row.body_needed, "content": content}
    return described


def _parameters(row: Operation) -> list[Schema]:
    found: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(row.path)
    ]
    found += [
        {"name": each.name, "in": "query", "description": each.summary, "schema": each.schema} for each in row.query
    ]
    if row.changes:
        about = "An ETag that was seen; nothing is done when it is another one by now."
        found.append({"name": "If-Match", "in": "header", "description": about, "schema": {"type": "string"}})
    return found


def _responses(row: Operation, components: Schema) -> Schema:
    responses: Schema = {}
    if row.status is not None:
        good: Schema = {"description": row.summary}
        content: Schema = {}
        if row.stream:
            content[row.stream] = {"schema": {"type": "string"}}
        if row.answer or not row.stream:
            content[JSON] = {"schema": _moved(row.answer, row.id, components)}
        if row.status != HTTPStatus.NO_CONTENT:
            good["content"] = content
        if row.tagged:
            good["headers"] = {"ETag": {"description": "For If-Match.", "schema": {"type": "string"}}}
        responses[str(int(row.status))] = good
    reference = {"schema": {"$ref": "#/components/schemas/Refusal"}}
    for status in statuses(row):
        refused: Schema = {"description": REASONS[status], "content": {JSON: reference}}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            refused["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
        responses[str(status)] = refused
    return responses


def statuses(row: Operation) -> list[int]:
    """The statuses that a row can be refused with."""
    found = {400, 403, 421, 500, 503, *row.refusals}
    if "{" in row.path:
        found.add(404)
    if row.changes:
        found.add(412)
    if row.body is not None:
        found |= {413, 415}
    return sorted(int(status) for status in found)


def _moved(schema: Schema, owner: str, components: Schema) -> Schema:
    """The schema without its `$defs`, which are among the components then."""

    def moved(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, list):
            return [moved(each) for each in value]
        if not isinstance(value, dict):
            return value
        other = {key: moved(each) for key, each in value.items() if key != "$schema" or isinstance(each, dict)}
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_DEFINED):
            other["$ref"] = f"#/components/schemas/{owner}.{reference.removeprefix(_DEFINED)}"
        return other

    for name, defined in schema.get("$defs", {}).items():
        components[f"{owner}.{name}"] = moved(defined)
    result: Schema = moved({key: value for key, value in schema.items() if key != "$defs"})
    return result


TABLE: Final = (
    Operation(
        "GET",
        "/v1/openapi.json",
        describe,
        "What can be asked for here, as an OpenAPI document.",
        answer={"type": "object", "required": ["openapi", "info", "paths"]},
    ),
)
