"""What clients see of all servers: tools, resources and prompts, and whose each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpd.control.servers import no_such_server
from mcpd.control.table import Operation, text
from mcpd.gateway import views

if TYPE_CHECKING:
    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations
    from mcpd.control.table import Schema


async def list_tools(operations: Operations, ask: Ask) -> object:
    """All tools, or those of one server. Raises: Refusal."""
    return {"tools": _entries(operations, ask, "tools")}


async def list_resources(operations: Operations, ask: Ask) -> object:
    """All resources and templates of resources, or those of one server. Raises: Refusal."""
    return {
        "resources": _entries(operations, ask, "resources"),
        "resource_templates": _entries(operations, ask, "resourceTemplates"),
    }


async def list_prompts(operations: Operations, ask: Ask) -> object:
    """All prompts, or those of one server. Raises: Refusal."""
    return {"prompts": _entries(operations, ask, "prompts")}


def _entries(operations: Operations, ask: Ask, kind: str) -> list[dict[str, object]]:
    name = ask.query.get("server")
    if name is not None and operations.gateway.config.server(name) is None:
        raise no_such_server(operations, name)
    return views.entries(operations.gateway, kind, server=name)


_SERVER: Final = (text("server", "Only those of this server."),)


def _entry(key: str) -> Schema:
    return {
        "type": "array",
        "items": {
            "type": "object",
            "required": [key, "server", "own_name", "definition"],
            "properties": {
                key: {"type": "string"},
                "server": {"type": "string"},
                "own_name": {"type": "string", "description": "What the server itself calls it."},
                "definition": {"type": "object", "description": "As clients see it."},
            },
        },
    }


def _answer(**lists: str) -> Schema:
    return {"type": "object", "required": [*lists], "properties": {name: _entry(key) for name, key in lists.items()}}


TABLE: Final = (
    Operation(
        "GET",
        "/v1/tools",
        list_tools,
        "All tools under the names that clients see, in their order.",
        query=_SERVER,
        answer=_answer(tools="name"),
        refusals=(404,),
    ),
    Operation(
        "GET",
        "/v1/resources",
        list_resources,
        "All resources and resource templates that clients see.",
        query=_SERVER,
        answer=_answer(resources="uri", resource_templates="uriTemplate"),
        refusals=(404,),
    ),
    Operation(
        "GET",
        "/v1/prompts",
        list_prompts,
        "All prompts under the names that clients see, in their order.",
        query=_SERVER,
        answer=_answer(prompts="name"),
        refusals=(404,),
    ),
)
