"""Multi-round-trip requests: a result that asks for input, and the request that comes again with it.

Theory of operation. A modern server that needs something of the client answers with `input_required`: questions by key,
a state, or both. The client sends the request again, with the answers by the same keys and the state as it was given.
The questions are those that legacy servers ask by requests of their own; both directions of the bridge are built from
the functions here.

Rules.
1. The state is the server's alone: it is carried as the JSON text it came as.
2. An answer belongs to the last result that asked for it. A retry carries no answers of earlier rounds.
3. What comes from a client is refused when its shape is wrong; a key that nobody asked for is its own affair.
4. A question is relayed without what belongs to the hop or the version it came by, and otherwise byte for byte.

Source: 2026-07-28 "Multi Round-Trip Requests"; "Elicitation", "Sampling", "Roots".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, ProtocolError, RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.convert import CANCEL
from mcpd.protocol.edits import apply, dropping, here, members_or_none, text
from mcpd.protocol.jsonrpc import Buffer, Members, encode_members, members_of
from mcpd.protocol.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

COMPLETE: Final = "complete"
INPUT_REQUIRED: Final = "input_required"

INPUTS_MAX: Final = 64
"""Questions in one result. Each is shown to a person or costs a model's time; servers ask one to three."""

KEY_MAX: Final = 64
"""Characters of a key that mcpd makes."""

REFUSED: Final[dict[str, bytes | tuple[int, str]]] = {
    "elicitation/create": CANCEL,
    "sampling/createMessage": (-1, "the client did not answer the sampling request"),
    "roots/list": (INTERNAL_ERROR, "the client did not answer the request for its roots"),
}
"""What a question is answered with when nobody will: a result, or the code and message of an error."""

_QUESTIONS: Final = frozenset(method.name for method in METHODS if method.input)
_NULL: Final = Raw(b"null")


class _Typed(msgspec.Struct):
    """A result of which nothing else is looked at: scanning costs less than any search in the text."""

    resultType: str | None = None


_type_of: Final = msgspec.json.Decoder(_Typed).decode


class InputRequired(msgspec.Struct, frozen=True):
    """What a server needs before it completes a request."""

    requests: dict[str, tuple[str, Buffer]]
    """Method and params of each question, by key."""
    state: bytes | None
    """The JSON text of `requestState`, quotes included; None when there is none."""


def refuse(method: str) -> bytes:
    """What a question is answered with when nobody will. Raises: RpcError where there is no such result."""
    answer = REFUSED[method]
    if isinstance(answer, bytes):
        return answer
    raise RpcError(*answer)


def result_type(result: Buffer) -> str:
    """The `resultType` of a result; "complete" when it has none. Raises: ProtocolError when it is no string, or the
    result no object."""
    try:
        found = _type_of(result).resultType
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # Not what it has to be, or a text that only the slow road can read.
        return _type_in(members_of(result))
    return COMPLETE if found is None else found


def read_input_required(result: Buffer) -> InputRequired | None:
    """What a result asks for; None when it is of another type. Raises: ProtocolError when it asks for nothing, for too
    much or for what nobody can be asked."""
    members = members_of(result)
    if _type_in(members) != INPUT_REQUIRED:
        return None
    requests = _given(members, "inputRequests")
    state = _given(members, "requestState")
    if state is not None and bytes(state)[:1] != b'"':
        raise _bad("requestState must be a string")
    found = {} if requests is None else _read_requests(requests)
    if not found and state is None:
        raise _bad("it has neither inputRequests nor requestState")
    return InputRequired(found, None if state is None else bytes(state))


def input_required(requests: Mapping[str, tuple[str, Buffer]], state: str | None) -> bytes:
    """The result that asks for input. Raises: ValueError when there is neither a question nor a state."""
    if not requests and state is None:
        raise ValueError("asks for nothing")
    out: dict[str, Buffer] = {"resultType": b'"input_required"'}
    if requests:
        out["inputRequests"] = encode_members(
            {key: _encode_request(method, params) for key, (method, params) in requests.items()}
        )
    if state is not None:
        out["requestState"] = msgspec.json.encode(state)
    return encode_members(out)


def key_for(method: str, params: Buffer, taken: Container[str]) -> str:
    """A key for a question, telling what it is about: `user_name` for a form with the one field `name`."""
    stem = _STEMS.get(method)
    if stem is None:
        stem = _about(params)
    key, count = stem[:KEY_MAX], 1
    while key in taken:
        count += 1
        suffix = f"_{count}"
        key = stem[: KEY_MAX - len(suffix)] + suffix
    return key


def up_ask(method: str, params: Buffer) -> Buffer:
    """The params of a legacy server's question as they stand in `inputRequests` (rule 4)."""
    return apply(params, _UP.get(method, _drop_meta))


def check_response(method: str, value: Buffer) -> None:
    """Whether a client's bare result fits the question. Raises: ProtocolError INVALID_PARAMS saying what does not."""
    try:
        members = members_of(value)
    except ProtocolError:
        raise _wrong(method, "is an object") from None
    if method == "elicitation/create":
        action = text(members, "action")
        if action not in _ACTIONS:
            raise _wrong(method, f"has an action, one of {', '.join(_ACTIONS)}")
        content = _given(members, "content")
        if content is not None and bytes(content)[:1] != b"{":
            raise _wrong(method, "has an object as content")
    elif method == "sampling/createMessage":
        if text(members, "role") not in _ROLES or text(members, "model") is None:
            raise _wrong(method, "has a role, user or assistant, and a model")
        if bytes(members.get("content", _NULL))[:1] not in (b"{", b"["):
            raise _wrong(method, "has content, a block or an array of blocks")
    elif bytes(members.get("roots", _NULL))[:1] != b"[":
        raise _wrong(method, "has an array of roots")


def read_responses(members: Members) -> dict[str, Raw]:
    """The answers in a request's params, by key. Raises: ProtocolError INVALID_PARAMS when they are no object."""
    responses = _given(members, "inputResponses")
    if responses is None:
        return {}
    try:
        return members_of(responses)
    except ProtocolError:
        raise ProtocolError(INVALID_PARAMS, "params.inputResponses must be an object") from None


def retry(members: Members, responses: Mapping[str, Buffer], state: bytes | None) -> Members:
    """A copy of params with these answers and this state in the place of any earlier ones (rule 2)."""
    out = {name: raw for name, raw in members.items() if name not in _RETRY}
    if responses:
        out["inputResponses"] = Raw(encode_members(dict(responses)))
    if state is not None:
        out["requestState"] = Raw(state)
    return out


_RETRY: Final = frozenset(("inputResponses", "requestState"))
_ACTIONS: Final = ("accept", "decline", "cancel")
_ROLES: Final = ("user", "assistant")
_STEMS: Final = {"sampling/createMessage": "model_message", "roots/list": "client_roots"}
_ANY_INPUT: Final = "user_input"
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_]")


def _drop_null_mode(params: Members) -> bool:
    if params.get("mode") != _NULL:
        return False
    del params["mode"]
    return True


_drop_meta: Final = dropping("_meta")
_UP: Final = {
    "elicitation/create": here(dropping("_meta", "task", "elicitationId"), _drop_null_mode),
    "sampling/createMessage": dropping("_meta", "task"),
}


def _about(params: Buffer) -> str:
    """The stem of an elicitation's key: its one field if it has but one."""
    schema = members_or_none(params).get("requestedSchema", _NULL)
    fields = list(members_or_none(members_or_none(schema).get("properties", _NULL)))
    if len(fields) != 1:
        return _ANY_INPUT
    name = _UNFIT.sub("_", fields[0][:KEY_MAX])
    return f"user_{name}" if name.strip("_") else _ANY_INPUT


def _read_requests(raw: Raw) -> dict[str, tuple[str, Buffer]]:
    try:
        requests = members_of(raw)
    except ProtocolError:
        raise _bad("inputRequests must be an object") from None
    if len(requests) > INPUTS_MAX:
        raise _bad(f"it asks for more than {INPUTS_MAX} inputs")
    return {key: _read_request(request) for key, request in requests.items()}


def _read_request(raw: Raw) -> tuple[str, Buffer]:
    members = members_or_none(raw)
    method = text(members, "method")
    if method not in _QUESTIONS:
        shown = "something without a method" if method is None else repr(method[: jsonrpc.METHOD_MAX])
        raise _bad(f"it asks for {shown}, which no client can be asked")
    assert method is not None
    params = _given(members, "params")
    if params is None and method == "roots/list":
        return method, b"{}"
    if params is None or bytes(params)[:1] != b"{":
        raise _bad(f"the params of {method} must be an object")
    return method, params


def _encode_request(method: str, params: Buffer) -> bytes:
    if method == "roots/list" and bytes(params) == b"{}":
        return b'{"method":"roots/list"}'
    return b'{"method":%b,"params":%b}' % (msgspec.json.encode(method), bytes(params))


def _given(members: Members, name: str) -> Raw | None:
    raw = members.get(name)
    return None if raw == _NULL else raw


def _type_in(members: Members) -> str:
    if _given(members, "resultType") is None:
        return COMPLETE
    found = text(members, "resultType")
    if found is None:
        raise ProtocolError(INVALID_REQUEST, "resultType must be a string")
    return found


def _bad(why: str) -> ProtocolError:
    return ProtocolError(INVALID_REQUEST, f"bad input_required: {why}")


def _wrong(method: str, expected: str) -> ProtocolError:
    return ProtocolError(INVALID_PARAMS, f"an answer to {method} {expected}")
