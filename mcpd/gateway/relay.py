"""What a backend answers: routed, validated, called, converted for the client's version, and recorded.

Functions of the gateway's table of methods. How each call of a tool, prompt or resource ended is taken down once, in
the frame that every call has anyway (`ledger`).
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from mcpd.errors import INVALID_PARAMS, URL_ELICITATION_REQUIRED, BackendMisbehaved, ProtocolError, RpcError
from mcpd.gateway import local, validation
from mcpd.protocol import jsonrpc
from mcpd.protocol.convert import down_result
from mcpd.protocol.outcome import error_result
from mcpd.protocol.versions import Version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.backends.base import Backend
    from mcpd.gateway.catalog import Route
    from mcpd.gateway.gateway import Answer, Gateway
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer

Find: TypeAlias = "Callable[[], Awaitable[tuple[Backend, str]]]"
"""Whose a call is, and what it is about there."""


async def call_tool(gateway: Gateway, call: Call) -> Answer:
    """tools/call. Counts itself among the calls in flight."""
    members = call.members
    began = perf_counter()
    exposed = bytes(members.get("name", b""))
    route: Route | None = None
    sent = False
    try:
        jsonrpc.refuse_repeated(call.params, members, b'"name"')
        route = gateway.catalog.tools.by_text.get(exposed)
        if route is None:
            route = await gateway.named("tools", local.string(members, "name"))
        backend = route.backend
        spec = backend.spec
        if spec.validate in ("arguments", "both"):
            name = local.string(members, "name")
            problem = validation.wrong_arguments(name, route.entry, members.get("arguments"))
            if problem is not None:
                wrong = local.complete(error_result(problem), call)
                gateway.ledger.refused(call, exposed, backend.name, route.name, began, wrong)
                return wrong, None
        members["name"] = route.name_raw
        members.pop("task", None)  # mcpd does not offer tasks, and who does not offer them ignores the wish
        sent = True
        gateway.in_flight += 1
        try:
            answer = await backend.call(call, "tools/call", members)
        finally:
            gateway.in_flight -= 1
        result = local.result_of(backend, call, answer)
        gateway.router.learn(result, backend)
        if spec.validate in ("results", "both"):
            problem = validation.wrong_result(msgspec.json.decode(exposed, type=str), route.entry, result)
            if problem is not None:
                raise BackendMisbehaved(spec.name, problem, remedy=f"servers.{spec.name}.validate")
    except BaseException as error:
        gateway.ledger.ended(
            call, exposed, route.backend.name if route else "", route.name if route else "", began, error, sent
        )
        if (
            isinstance(error, RpcError)
            and error.code == URL_ELICITATION_REQUIRED
            and call.caller.version < Version.V2025_11_25
        ):
            return error_result(f"{error.message} {local.urls(error)}".strip()), None
        raise
    gateway.ledger.answered(call, exposed, backend.name, route.name, began, result, size_of(result))
    return down_result("tools/call", result, call.caller.version), answer.extra()


def get_prompt(gateway: Gateway, call: Call) -> Awaitable[Answer]:
    """prompts/get."""

    async def find() -> tuple[Backend, str]:
        jsonrpc.refuse_repeated(call.params, call.members, b'"name"')
        route = await gateway.named("prompts", local.string(call.members, "name"))
        call.members["name"] = route.name_raw
        return route.backend, route.name

    return _recorded(gateway, call, bytes(call.members.get("name", b"")), find)


def read_resource(gateway: Gateway, call: Call) -> Awaitable[Answer]:
    """resources/read."""

    async def find() -> tuple[Backend, str]:
        jsonrpc.refuse_repeated(call.params, call.members, b'"uri"')
        return await gateway.resource(local.string(call.members, "uri")), ""

    return _recorded(gateway, call, bytes(call.members.get("uri", b"")), find)


async def complete(gateway: Gateway, call: Call) -> Answer:
    """completion/complete."""
    ref = call.members.get("ref")
    if ref is None:
        raise RpcError(INVALID_PARAMS, "params.ref is required")
    try:
        inner = jsonrpc.members_of(ref)
    except (ProtocolError, ValueError):
        raise RpcError(INVALID_PARAMS, "params.ref is a JSON object") from None
    kind = local.string(inner, "type", "params.ref")
    if kind == "ref/prompt":
        route = await gateway.named("prompts", local.string(inner, "name", "params.ref"))
        backend = route.backend
        inner["name"] = route.name_raw
        call.members["ref"] = msgspec.Raw(jsonrpc.encode_members(inner))
    elif kind == "ref/resource":
        await gateway.settled()
        backend = gateway.router.template(local.string(inner, "uri", "params.ref"))
    else:
        raise RpcError(INVALID_PARAMS, f"params.ref.type is ref/prompt or ref/resource, not {kind!r}")
    hello = backend.hello
    if hello is not None and not hello.capabilities.completions:
        return local.complete(b'{"completion":{"values":[]}}', call), None
    if hello is not None and hello.version < Version.V2025_06_18:
        call.members.pop("context", None)
    return await relay(backend, call)


async def relay(backend: Backend, call: Call) -> Answer:
    """A call as it is, for the backend that it is known to be for."""
    answer = await backend.call(call, call.method, call.members)
    result = local.result_of(backend, call, answer)
    return down_result(call.method, result, call.caller.version), answer.extra()


async def _recorded(gateway: Gateway, call: Call, exposed: bytes, find: Find) -> Answer:
    began = perf_counter()
    backend: Backend | None = None
    name = ""
    try:
        backend, name = await find()
        result, extra = await relay(backend, call)
    except BaseException as error:
        gateway.ledger.ended(call, exposed, backend.name if backend else "", name, began, error, backend is not None)
        raise
    gateway.ledger.answered(call, exposed, backend.name, name, began, result, size_of(result))
    return result, extra


def size_of(result: Buffer) -> int:
    """In bytes."""
    return len(result) if type(result) is bytes else memoryview(result).nbytes
