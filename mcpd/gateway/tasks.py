"""The tasks of 2026-07-28's extension, relayed: a task's id tells whose it is.

A backend makes a task by its answer to a call, and the client asks for it by id afterwards. Clients see the id with
the server's name in front, so it finds its backend again after mcpd was restarted; the backend sees its own. mcpd
keeps nothing of a task, but who listens to it (`listens`).

Source: extension io.modelcontextprotocol/tasks (SEP-2663).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.errors import INVALID_PARAMS, METHOD_NOT_FOUND, MissingCapability, ProtocolError, RpcError
from mcpd.protocol import edits, jsonrpc
from mcpd.protocol.capabilities import TASKS_EXTENSION, declares
from mcpd.protocol.versions import EXTENSIONS, has

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcpd.backends.base import Backend
    from mcpd.protocol.calls import Call, Caller
    from mcpd.protocol.jsonrpc import Buffer

EXTENSION: Final = TASKS_EXTENSION

METHODS: Final = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})

SEPARATOR: Final = ":"
"""Between server and task. Servers' names have none, so the first one counts."""

ID_MAX: Final = 1024
"""Characters of a task's id; it travels in a header too."""

_REQUIRED: Final = b'{"extensions":{"%b":{}}}' % EXTENSION.encode()


def declared(caller: Caller) -> bool:
    """Whether a client can be given tasks."""
    return declares(caller.extensions, EXTENSION)


def extensions_of(backend: Backend) -> tuple[str, ...]:
    """The extensions that a backend has."""
    hello = backend.hello
    return hello.capabilities.extensions if hello is not None and has(hello.version, EXTENSIONS) else ()


def owner(backends: Sequence[Backend], exposed: str) -> tuple[Backend, str]:
    """Whose task this is, and its id there. Raises: RpcError INVALID_PARAMS for one that cannot exist."""
    name, separator, native = exposed.partition(SEPARATOR)
    if separator and len(exposed) <= ID_MAX:
        for backend in backends:
            if backend.name == name and EXTENSION in extensions_of(backend):
                return backend, native
    raise RpcError(INVALID_PARAMS, f"Unknown task: {exposed[:80]}")


def known(backends: Sequence[Backend]) -> bool:
    """Whether any backend makes tasks, or might: one that was not reached yet."""
    return any(backend.hello is None or EXTENSION in extensions_of(backend) for backend in backends)


def require(caller: Caller) -> None:
    """Raises: MissingCapability when the client did not declare tasks."""
    if not declared(caller):
        raise MissingCapability(_REQUIRED, f"the extension {EXTENSION}")


def route(backends: Sequence[Backend], call: Call) -> Backend:
    """Whose task a request is about; its `taskId` becomes the backend's own. Raises: RpcError."""
    if not known(backends):
        raise RpcError(METHOD_NOT_FOUND, f"Method not found: {call.method}")
    require(call.caller)
    jsonrpc.refuse_repeated(call.params, call.members, b'"taskId"')
    backend, native = owner(backends, edits.text(call.members, "taskId") or "")
    call.members["taskId"] = msgspec.Raw(msgspec.json.encode(native))
    return backend


def shown(native: str, backend: Backend) -> str:
    """What clients know a task by."""
    return f"{backend.name}{SEPARATOR}{native}"


def exposed(content: Buffer, backend: Backend) -> Buffer:
    """A result or notification whose `taskId`, if it has one, is what clients know the task by."""
    if b'"taskId"' not in bytes(content):
        return content
    try:
        members: dict[str, Buffer] = dict(jsonrpc.members_of(content))
        native = msgspec.json.decode(members["taskId"], type=str)
    except (ProtocolError, KeyError, ValueError):
        return content
    members["taskId"] = msgspec.json.encode(shown(native, backend))
    return jsonrpc.encode_members(members)
