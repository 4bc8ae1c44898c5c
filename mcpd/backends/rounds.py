"""A call of a legacy client to a backend that asks by its answers: sent, and sent again with what the client answered.

Theory of operation. The backend does not complete a call that needs input, but says what it needs, and what of its own
state it wants back. All that it needs is asked of the client at once, by requests on the way of the call, each made fit
for the client's version. Then the call is sent as a new request, with the answers and the state, until it is complete.

Rules.
1. A question for which the client declared no capability ends the call: the backend broke its word, and nobody is
   asked.
2. A form or page that the client refuses, or cannot show, is answered as cancelled; any other question that fails ends
   the call: there is no answer that says so.
3. However often a call is sent, and whoever is asked meanwhile: `timeouts.call_max` is for the whole, and the end of
   the link ends the questions too.
4. A tool call that ends for want of input has a result that says so, for the model to read; anything else is an error.

Source: 2026-07-28 "Multi Round-Trip Requests"; "Elicitation", "Sampling", "Roots" of the client's version.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import trio

from mcpd.backends.questions import allowed, labelled
from mcpd.errors import (
    INTERNAL_ERROR,
    MISSING_CAPABILITY,
    BackendError,
    BackendMisbehaved,
    ProtocolError,
    RpcError,
)
from mcpd.protocol import convert, edits, inputs, jsonrpc
from mcpd.protocol.capabilities import TASKS_EXTENSION, declares
from mcpd.protocol.inputs import COMPLETE, INPUT_REQUIRED
from mcpd.protocol.jsonrpc import Message
from mcpd.protocol.methods import ASKING
from mcpd.protocol.modern import error_for_legacy
from mcpd.protocol.outcome import error_result
from mcpd.protocol.versions import ELICITATION_COMPLETE, has

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer, Members

log = logging.getLogger("mcpd.backends")

Send: TypeAlias = "Callable[[Waiter, Members], Awaitable[Message]]"

ROUNDS_MAX: Final = 10
"""Times that one call is sent to a backend that goes on asking. The official clients give up then too."""

PAUSE: Final = 0.05
"""Seconds before a call is sent again to a backend that asked for nothing but that; doubled each time."""

PAUSE_MAX: Final = 0.25

TASK: Final = "task"


class InputFailed(Exception):
    """The client gave no answer that the backend could be given."""


async def carry_out(link: Link, send: Send, call: Call, method: str, members: Members) -> Message:
    """A legacy client's call; its result has nothing of 2026-07-28. Raises: RpcError, BackendError."""
    idle, final = link.timeouts.call_idle, trio.current_time() + link.timeouts.call_max
    sent, pause = members, PAUSE
    try:
        for _round in range(ROUNDS_MAX):
            answer = await send(link.waiter(method, call, idle, final - trio.current_time()), sent)
            result = answer.members["result"]
            if kind_of(result, call, method, link.name) == COMPLETE:
                answer.members["result"] = msgspec.Raw(convert.drop_modern(result))
                return answer
            try:
                needed = inputs.read_input_required(result)
            except ProtocolError as error:
                raise invalid(link.name, method, error.message) from None
            assert needed is not None
            responses: dict[str, Buffer] = {}
            if needed.requests:
                link.asking += 1
                try:
                    await _ask_all(link, call, needed.requests, responses, final)
                finally:
                    link.asking -= 1
            else:
                await trio.sleep(pause)
                pause = min(2 * pause, PAUSE_MAX)
            sent = inputs.retry(members, responses, needed.state)
        raise InputFailed(f"it asked for input {ROUNDS_MAX} times")
    except InputFailed as failed:
        return _gave_up(method, f"backend '{link.name}' needs input that it did not get: {failed}")
    except BackendError:
        raise
    except RpcError as error:
        known = error_for_legacy(error, method)
        if error.code == MISSING_CAPABILITY:
            return _gave_up(method, known.message)
        raise known from None


def kind_of(result: Buffer, call: Call, method: str, backend: str) -> str:
    """The type of a result. Raises: BackendMisbehaved for one that may not come in answer to this call."""
    if bytes(memoryview(result)[:1]) != b"{":
        raise invalid(backend, method, "it is not a JSON object")
    try:
        kind = inputs.result_type(result)
    except ProtocolError as error:
        raise invalid(backend, method, error.message) from None
    if kind == COMPLETE or (kind == INPUT_REQUIRED and method in ASKING):
        return kind
    if kind == TASK and declares(call.caller.extensions, TASKS_EXTENSION):
        return kind
    raise invalid(backend, method, f"its resultType is {kind[:40]!r}")


def invalid(backend: str, method: str, why: str) -> BackendMisbehaved:
    """What a backend answered is no result of that method."""
    return BackendMisbehaved(backend, f"invalid result of {method}: {why}", remedy="see the server's own log")


async def _ask_all(
    link: Link, call: Call, requests: Mapping[str, tuple[str, Buffer]], responses: dict[str, Buffer], final: float
) -> None:
    """Ask the client everything at once. Raises: InputFailed; why the link is lost, if it is meanwhile."""
    failures: list[Exception] = []

    async def ask(key: str, method: str, params: Buffer) -> None:
        try:
            responses[key] = await _ask(link, call, method, params)
        except RpcError as error:
            failures.append(InputFailed(reason_of(error, method)))
        if failures or len(responses) == len(requests):
            nursery.cancel_scope.cancel()

    async def watch() -> None:
        await link.lost.wait()
        failures.append(link.reason or InputFailed("its connection was lost"))
        nursery.cancel_scope.cancel()

    with trio.move_on_at(final) as limit:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for key, (method, params) in requests.items():
                nursery.start_soon(ask, key, method, params)
    if failures:
        raise failures[0].with_traceback(None)
    if limit.cancelled_caught:
        seconds = link.timeouts.call_max
        raise InputFailed(f"it took more than {seconds:g} s in all (servers.{link.name}.timeouts.call_max)")


def reason_of(error: RpcError, method: str) -> str:
    """Why a question was not answered: the client's own words, if it gave any."""
    own = edits.text(edits.members_or_none(error.raw), "message") if error.raw is not None else None
    words = own or error.message
    return words if words.startswith(method) else f"{method}: {words}"


async def _ask(link: Link, call: Call, method: str, params: Buffer) -> Buffer:
    """One answer of the client, bare. Raises: RpcError: there is none that the backend could be given."""
    allowed(method, params, call.caller.capabilities)
    elicitation = method == "elicitation/create"
    if elicitation:
        if link.label.text:
            params = labelled(params, link.label.text)
        params = with_elicitation_id(params, call)
    timeout = link.timeouts.ask
    try:
        params = convert.down_request(method, params, call.caller.version)
        with trio.fail_after(timeout):
            return await call.ask(method, params)
    except trio.TooSlowError:
        raise RpcError(INTERNAL_ERROR, f"the client did not answer in {timeout:g} s") from None
    except RpcError as error:  # the client's, or that the question has no form in its version
        if not elicitation:
            raise
        log.info("backend=%s event=elicitation_cancelled reason=%s", link.name, error.message)
        return convert.CANCEL


def relabelled(result: Buffer, label: str) -> bytes:
    """An `input_required` whose elicitations say which server asks; nothing else in it changes."""
    members: dict[str, Buffer] = dict(jsonrpc.members_of(result))
    try:
        requests: dict[str, Buffer] = dict(jsonrpc.members_of(members["inputRequests"]))
        for key, raw in requests.items():
            request: dict[str, Buffer] = dict(jsonrpc.members_of(raw))
            if bytes(request.get("method", b"")) == b'"elicitation/create"' and "params" in request:
                request["params"] = labelled(request["params"], label)
                requests[key] = jsonrpc.encode_members(request)
    except (ProtocolError, KeyError):
        return bytes(result)
    members["inputRequests"] = jsonrpc.encode_members(requests)
    return jsonrpc.encode_members(members)


def with_elicitation_id(params: Buffer, call: Call) -> Buffer:
    """An elicitation by URL with the id that 2025-11-25 wants; mcpd makes it, for the backend has none."""
    if not has(call.caller.version, ELICITATION_COMPLETE):
        return params
    members: dict[str, Buffer] = dict(jsonrpc.members_of(params))
    if bytes(members.get("mode", b"")) != b'"url"':
        return params
    members["elicitationId"] = b'"%b"' % str(uuid.uuid4()).encode()
    return jsonrpc.encode_members(members)


def _gave_up(method: str, text: str) -> Message:
    """The end of a call that the backend could not be helped with (rule 4). Raises: RpcError but for a tool."""
    if method != "tools/call":
        raise RpcError(INTERNAL_ERROR, text)
    return Message({"result": msgspec.Raw(error_result(text))}, None, None)
