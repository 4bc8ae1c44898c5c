"""The configured servers."""

from __future__ import annotations

import difflib
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mcpd.config.faults import shorten
from mcpd.control import tags
from mcpd.control.refusal import Refusal, invalid_configuration
from mcpd.control.table import Operation
from mcpd.errors import ConfigError
from mcpd.gateway import views
from mcpd.supervisor.states import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations
    from mcpd.control.table import Schema


_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}

SERVER: Final[Schema] = {
    "type": "object",
    "description": "A configured server. One that is disabled has name and state alone.",
    "required": ["name", "state"],
    "properties": {
        "name": {"type": "string"},
        "state": {"enum": [*(state.value for state in State), "disabled"]},
        "asleep": {"type": "boolean", "description": "Stopped until a call needs it."},
        "transport": {"type": "string"},
        "instances": {"type": "string"},
        "protocol_version": {"type": ["string", "null"]},
        "catalogue": {"enum": ["fetched", "kept", "none"]},
        **dict.fromkeys(("tools", "resources", "resource_templates", "prompts"), _COUNT),
        **dict.fromkeys(("restarts", "calls_in_flight", "sessions", "leases", "pid"), _COUNT),
        "crash_looping": {"type": "boolean"},
        "error": {"type": "string", "description": "What is the matter."},
        "failure": {
            "type": "object",
            "required": ["kind", "reason", "remedy"],
            "properties": {key: {"type": "string"} for key in ("kind", "reason", "remedy")},
        },
        "next_attempt_in": {"type": "number", "description": "Seconds."},
        "origin": {
            "type": "object",
            "description": "Of one that is asked for by its name: the file that defines it, or who added it.",
            "required": ["file"],
            "properties": {"file": {"type": "string"}, "line": {"type": ["integer", "null"]}},
        },
    },
}


async def list_servers(operations: Operations, ask: Ask) -> object:
    """Every configured server with its true state."""
    return {"servers": views.servers(operations.gateway)}


async def show_server(operations: Operations, ask: Ask) -> object:
    """One of them. Raises: Refusal."""
    name = ask.path["name"]
    found = views.server(operations.gateway, name)
    if found is None:
        raise no_such_server(operations, name)
    origin = operations.gateway.config.origins.get(name)
    return found if origin is None else {**found, "origin": origin}


async def stop(operations: Operations, ask: Ask) -> object:
    """Let it finish its calls and stop it, until it is started or mcpd is. Raises: Refusal."""
    return await _switched(operations, ask, operations.switch.stop)


async def start(operations: Operations, ask: Ask) -> object:
    """Start it now, also if it waits to be tried again. Raises: Refusal."""
    return await _switched(operations, ask, operations.switch.start)


async def restart(operations: Operations, ask: Ask) -> object:
    """Stop it, then start it. Raises: Refusal."""
    return await _switched(operations, ask, operations.switch.restart)


async def check(operations: Operations, ask: Ask) -> object:
    """Start it once as mcpd would, beside what runs of it, and say what happened. Raises: Refusal."""
    name = ask.path["name"]
    try:
        return await operations.switch.check(name)
    except KeyError:
        raise no_such_server(operations, name) from None
    except ConfigError as error:
        raise invalid_configuration(error) from None


async def _switched(operations: Operations, ask: Ask, work: Callable[[str], Awaitable[None]]) -> object:
    """What became of the server."""
    name = ask.path["name"]
    spec = operations.gateway.config.server(name)
    if spec is None:
        raise no_such_server(operations, name)
    if not spec.enabled:
        raise Refusal(HTTPStatus.CONFLICT, "disabled", f"server {name!r} is disabled", f"mcpctl enable {name}")
    try:
        await work(name)
    except ConfigError as error:
        raise invalid_configuration(error) from None
    # By somebody else it may have been removed meanwhile.
    return await show_server(operations, ask)


def no_such_server(operations: Operations, name: str) -> Refusal:
    """For a name that is not configured."""
    known = [spec.name for spec in operations.gateway.config.servers]
    near = difflib.get_close_matches(name, known, 1)
    remedy = f"did you mean {near[0]!r}?" if near else "GET /v1/servers lists them"
    return Refusal(HTTPStatus.NOT_FOUND, "no_such_server", f"no server {shorten(name)!r} is configured", remedy)


TABLE: Final = (
    Operation(
        "GET",
        "/v1/servers",
        list_servers,
        "Every configured server with its true state, in the order of the configuration.",
        answer={
            "type": "object",
            "required": ["servers"],
            "properties": {"servers": {"type": "array", "items": SERVER}},
        },
        tag=tags.servers,
        tagged=True,
    ),
    Operation(
        "GET",
        "/v1/servers/{name}",
        show_server,
        "One configured server with its true state.",
        answer=SERVER,
        tag=tags.server,
        tagged=True,
    ),
    *(
        Operation(
            "POST",
            f"/v1/servers/{{name}}/{work.__name__}",
            work,
            summary,
            changes=True,
            answer=SERVER,
            tag=tags.server,
            refusals=(404, 409, 422),
        )
        for work, summary in (
            (stop, "Let a server finish its calls and stop it, until it is started or mcpd is; answered when it is."),
            (start, "Start a server now, also if it waits to be tried again; answered when it is up or has failed."),
            (restart, "Stop a server, then start it; answered when it is up or has failed."),
        )
    ),
    Operation(
        "POST",
        "/v1/servers/{name}/check",
        check,
        "Start a server once as mcpd would, beside what runs of it, end it, and say what happened.",
        changes=True,
        answer={
            "type": "object",
            "required": ["name", "ok", "seconds", "state", "server", "stderr"],
            "properties": {
                **SERVER["properties"],
                "ok": {"type": "boolean", "description": "It came up, and everything could be listed."},
                "seconds": {"type": "number", "description": "Until then, or until it failed."},
                "server": {"type": ["object", "null"], "description": "What it says that it is."},
                "stderr": {"type": "array", "items": {"type": "string"}, "description": "Its last lines."},
            },
        },
        tag=tags.server,
        refusals=(404, 422),
    ),
)
