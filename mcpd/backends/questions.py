"""What a backend asks of clients on one link: to whom each question goes, and how it ends.

Rules.
1. A question on a request's own stream belongs to that request; on a shared channel to the only client that
   it can belong to.
2. Its answer goes back even when the client failed to give one, as an error: a backend must not wait for
   nothing.
3. A question ends with the request that caused it: nobody answers for a call that was cancelled or timed out.

Source: "Sampling", "Elicitation", "Roots" of each version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import trio

from mcpd.backends.waiter import Waiter
from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, ProtocolError, RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import ASKED_FOR, ClientCapability
from mcpd.protocol.convert import Untranslatable, down_request

if TYPE_CHECKING:
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.protocol.peer import Peer
    from mcpd.types import SessionKey

QUESTIONS_MAX: Final = 2048
"""Questions of one backend connection that wait for clients: as many as calls may be in flight. Each may wait for a
person; more than this is a runaway server."""

ELICITATIONS_MAX: Final = 64
"""URL elicitations whose end may still be announced; the oldest is forgotten first."""


class Asker(Protocol):
    """Asks what belongs to no call."""

    async def ask_owner(self, owner: SessionKey | None, method: str, params: Buffer) -> Buffer: ...


class Question:
    """One that is open. `waiter` is the request it belongs to, once that is known."""

    __slots__ = ("scope", "waiter", "withdrawn")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.waiter: Waiter | None = None
        self.withdrawn = False


class Label:
    """What is put before an elicitation's message: where several servers may ask, a person must see which one does.
    Empty while there is only one; all links of a server have the same."""

    __slots__ = ("text",)

    def __init__(self, text: str = "") -> None:
        self.text = text


class Questions:
    """The open questions of one link. `timeout` is in seconds, for one answer."""

    def __init__(
        self,
        name: str,
        *,
        peer: Peer,
        owner: SessionKey | None,
        asker: Asker,
        timeout: float,
        label: Label | None = None,
    ) -> None:
        self._name = name
        self._label = label or Label()
        self._peer = peer
        self._owner = owner
        self._asker = asker
        self._timeout = timeout
        self._open: dict[bytes, Question] = {}
        self._elicitations: dict[bytes, Call] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def answer(self, message: Message, related: Waiter | None) -> tuple[Buffer, ...] | None:
        """Have a question answered; the response to send, or None when the backend took the question back."""
        id = message.id
        assert id is not None
        if len(self._open) >= QUESTIONS_MAX or id in self._open:
            refusal = RpcError(INTERNAL_ERROR, f"more than {QUESTIONS_MAX} questions are open, or this id is in use")
            return jsonrpc.error(id, refusal.encode())
        question = self._open[id] = Question()
        try:
            with question.scope:
                try:
                    return jsonrpc.result(id, await self._ask(message, related, question))
                except RpcError as error:
                    return jsonrpc.error(id, error.encode())
            if question.withdrawn:
                return jsonrpc.error(id, RpcError(INTERNAL_ERROR, "the call that this belongs to is over").encode())
            if trio.current_time() >= question.scope.deadline:
                late = RpcError(INTERNAL_ERROR, f"the client did not answer {message.method} in {self._timeout:g} s")
                return jsonrpc.error(id, late.encode())
            return None
        finally:
            del self._open[id]

    def cancel(self, id: bytes) -> None:
        """The backend takes a question back; an unknown id is ignored."""
        question = self._open.get(id)
        if question is not None:
            question.scope.cancel()

    def withdraw(self, waiter: Waiter) -> None:
        """A request was given up: what was asked on its behalf is answered with an error."""
        for question in self._open.values():
            if question.waiter is waiter:
                question.withdrawn = True
                question.scope.cancel()

    def remember(self, call: Call, elicitation: Buffer) -> None:
        """Know whose a URL elicitation is, for when its end is announced."""
        while len(self._elicitations) >= ELICITATIONS_MAX:
            self._elicitations.pop(next(iter(self._elicitations)))
        self._elicitations[bytes(elicitation)] = call

    def completed(self, elicitation: Buffer) -> SessionKey | None:
        """Whose URL elicitation has come to its end; None when nobody knows."""
        call = self._elicitations.pop(bytes(elicitation), None)
        return call.caller.key if call is not None else self._owner

    async def _ask(self, message: Message, related: Waiter | None, question: Question) -> Buffer:
        """The client's answer. Raises: RpcError to send back to the backend."""
        method = message.method
        assert method is not None
        params: Buffer = message.params or b"{}"
        needed = needed_for(method, params)
        if method == "elicitation/create" and self._label.text:
            params = labelled(params, self._label.text)
        waiter = related
        if waiter is None:
            pending, candidates = self._peer.whose_question()
            if candidates > 1:
                raise RpcError(
                    INTERNAL_ERROR,
                    f"{method}: {candidates} clients have a call in flight and nothing says which of them"
                    f" caused it; set servers.{self._name}.instances to leased or per-session",
                )
            if isinstance(pending, Waiter):
                waiter = pending
        if waiter is None or waiter.call is None:
            return await self._asker.ask_owner(self._owner, method, params)
        call = waiter.call
        try:
            allowed(method, params, call.caller.capabilities)
        except RpcError:
            waiter.refused |= needed
            raise
        try:
            params = down_request(method, params, call.caller.version)
        except Untranslatable as refusal:
            if method == "elicitation/create":
                return b'{"action":"cancel"}'
            raise RpcError(INVALID_PARAMS, str(refusal)) from None
        if method == "elicitation/create":
            elicitation = jsonrpc.members_of(params).get("elicitationId")
            if elicitation is not None:
                self.remember(call, elicitation)
        question.waiter = waiter
        waiter.questions += 1
        question.scope.deadline = trio.current_time() + self._timeout
        try:
            return await call.ask(method, params)
        finally:
            waiter.questions -= 1
            waiter.alive()


def needed_for(method: str, params: Buffer) -> ClientCapability:
    """The capabilities that a question needs, elicitation by its mode, sampling by whether it brings tools.

    Raises: RpcError for what is no question.
    """
    if method not in ASKED_FOR:
        raise RpcError(METHOD_NOT_FOUND, f"mcpd does not know the request {method}")
    if method == "roots/list":
        return ClientCapability.ROOTS
    try:
        members = jsonrpc.members_of(params)
    except ProtocolError:
        raise RpcError(INVALID_PARAMS, "params is a JSON object") from None
    if method == "elicitation/create":
        url = bytes(members.get("mode", b"")) == b'"url"'
        return ClientCapability.ELICITATION_URL if url else ClientCapability.ELICITATION_FORM
    if any(bytes(members.get(name, b"null")) != b"null" for name in ("tools", "toolChoice")):
        return ClientCapability.SAMPLING | ClientCapability.SAMPLING_TOOLS
    return ClientCapability.SAMPLING


def labelled(params: Buffer, label: str) -> Buffer:
    """An elicitation's params whose message begins with `label`; anything but text stays as it is."""
    members: dict[str, Buffer] = dict(jsonrpc.members_of(params))
    try:
        message = msgspec.json.decode(members["message"], type=str)
    except (KeyError, ValueError):
        return params
    members["message"] = msgspec.json.encode(label + message)
    return jsonrpc.encode_members(members)


def allowed(method: str, params: Buffer, capabilities: ClientCapability) -> None:
    """Refuse a question that the client did not declare. Raises: RpcError as a client itself would answer."""
    needed = needed_for(method, params)
    if not capabilities & ASKED_FOR[method]:
        raise RpcError(METHOD_NOT_FOUND, f"the client did not declare the capability for {method}")
    missing = needed & ~capabilities
    if missing:
        raise RpcError(INVALID_PARAMS, f"the client did not declare {_WORDS[missing]}")


_WORDS: Final = {
    ClientCapability.ELICITATION_FORM: "elicitation in form mode",
    ClientCapability.ELICITATION_URL: "elicitation in url mode",
    ClientCapability.SAMPLING_TOOLS: "sampling with tools",
}


def elicitations_of(error: Buffer) -> list[msgspec.Raw]:
    """The ids that a -32042 names, as JSON text; whatever is not as the specification has it counts for
    nothing.
    """
    try:
        named = msgspec.json.decode(error, type=_UrlRequired).data.elicitations
    except (ValueError, RecursionError):
        return []
    return [each.elicitationId for each in named]


class _Elicitation(msgspec.Struct):
    elicitationId: msgspec.Raw


class _Elicitations(msgspec.Struct):
    elicitations: list[_Elicitation]


class _UrlRequired(msgspec.Struct):
    data: _Elicitations
