"""A tool that runs as a task only, called as if it did not: the task is made, waited for, and its result is the call's.

mcpd offers no tasks of 2025-11-25 itself, because a client of another version could not use them; so a tool that
requires them is called by mcpd as one who can. The caller's progress token stays valid until the task ends, and what
the backend asks meanwhile belongs to the call.

Source: 2025-11-25 "Tasks".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import trio

from mcpd.errors import BackendMisbehaved, BackendTimedOut, ProtocolError
from mcpd.protocol import jsonrpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.protocol.jsonrpc import Members, Message

Send: TypeAlias = "Callable[[Waiter, Members], Awaitable[Message]]"

RELATED: Final = "io.modelcontextprotocol/related-task"

KEEP: Final = 60.0
"""Seconds beyond the call's own time for which the backend is asked to keep the task: time to fetch its result."""


async def carry_out(link: Link, send: Send, waiter: Waiter, members: Members) -> Message:
    """Call a tool as a task and return what it came to. Raises: RpcError, BackendError.

    Cancellation: the task is cancelled at the backend; so it is when its time is over.
    """
    lasts = int((link.timeouts.call_max + KEEP) * 1000)
    created = await send(waiter, {**members, "task": msgspec.Raw(b'{"ttl":%d}' % lasts)})
    id = _task_id(link.name, created)
    if id is None:
        return created  # it ran the tool at once
    # The same waiter goes on for the task: who asks the client now, asks for this call. Nothing need be heard of a task
    # for it to be alive.
    first = waiter.id
    link.peer.bequeath(first, waiter)
    waiter.again("tasks/result", idle=link.timeouts.call_max)
    try:
        answer = await send(waiter, {"taskId": id})
    except (trio.Cancelled, BackendTimedOut):
        if not link.lost.is_set():
            link.request_quietly("tasks/cancel", {"taskId": id})
        raise
    finally:
        link.peer.forget(first)
    answer.members["result"] = msgspec.Raw(_without_relation(answer.members["result"]))
    return answer


def _task_id(backend: str, created: Message) -> msgspec.Raw | None:
    try:
        task = jsonrpc.members_of(created.members["result"]).get("task")
        if task is None:
            return None
        return msgspec.Raw(bytes(jsonrpc.members_of(task)["taskId"]))
    except (ProtocolError, KeyError):
        raise BackendMisbehaved(backend, "its answer to a call as a task names no task") from None


def _without_relation(result: jsonrpc.Buffer) -> bytes:
    """The result without the mark that it is a task's, which the client knows nothing of."""
    if RELATED.encode() not in bytes(result):
        return bytes(result)
    members: dict[str, jsonrpc.Buffer] = dict(jsonrpc.members_of(result))
    try:
        meta: dict[str, jsonrpc.Buffer] = dict(jsonrpc.members_of(members["_meta"]))
    except (ProtocolError, KeyError):
        return bytes(result)
    meta.pop(RELATED, None)
    if meta:
        members["_meta"] = jsonrpc.encode_members(meta)
    else:
        del members["_meta"]
    return jsonrpc.encode_members(members)
