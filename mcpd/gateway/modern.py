"""Requests of modern clients: each stands alone, and is one exchange of the call that it begins or goes on with.

Theory of operation. The methods that both eras have go the way of every client's (`Gateway.dispatch`);
`server/discover` is answered from what is known. A request that brings a `requestState` of mcpd's own joins the call
that it is of (`inputs`); every other state is between the client and a modern backend.

Rules.
1. Nothing waits for a slow backend to answer `server/discover`.
2. What 2026-07-28 took away is no method here, and neither is what listens (`listens`).
3. A call with a state that nobody knows is not made: its tool would run once more. Answers without a state mean nothing
   to a legacy backend, and are dropped.
4. A legacy backend's "open this URL first" (-32042) is asked of the client like any other input; then the call is made
   again, as that backend wants.

Source: 2026-07-28 "Discovery", "Base protocol", "Multi Round-Trip Requests"; 2025-11-25 "URL Elicitation Required".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.backends.questions import labelled
from mcpd.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    URL_ELICITATION_REQUIRED,
    MissingCapability,
    ProtocolError,
    RpcError,
)
from mcpd.gateway import local, tasks
from mcpd.gateway.rounds import Rounds, nothing
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Call
from mcpd.protocol.capabilities import (
    ASKABLE,
    ClientCapability,
    encode_client_capabilities,
    encode_gateway_capabilities,
)
from mcpd.protocol.discover import discover_result
from mcpd.protocol.edits import text
from mcpd.protocol.inputs import INPUTS_MAX
from mcpd.protocol.meta import progress_token
from mcpd.protocol.methods import ASKING
from mcpd.protocol.modern import data_of, error_for_modern
from mcpd.protocol.outcome import error_result
from mcpd.protocol.sequence import split_array
from mcpd.protocol.versions import MODERN
from mcpd.supervisor.states import USABLE
from mcpd.types import IMPLEMENTATION

if TYPE_CHECKING:
    from mcpd.gateway.gateway import Answer, Gateway
    from mcpd.gateway.inputs import Inputs
    from mcpd.gateway.ports import Outcome, Turn
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Buffer, Members, Message

VISITS_MAX: Final = 8
"""Times that one call is made because its backend wants a URL opened first; clients give up after some ten."""

URL_NEEDED: Final = encode_client_capabilities(ClientCapability.ELICITATION_URL, MODERN)

UNKNOWN_STATE: Final = "requestState is unknown or expired; make the call again without it and without inputResponses"

RESTARTED: Final = (
    "mcpd was restarted while this call waited for input, and the call was given up; if it does no harm to begin it"
    " once more, make it without requestState and without inputResponses"
)


class Modern:
    """The gateway as modern clients see it."""

    def __init__(self, gateway: Gateway, inputs: Inputs) -> None:
        self._gateway = gateway
        self._inputs = inputs
        self.extensions: tuple[str, ...] = (tasks.EXTENSION, *gateway.config.extensions)
        """Those that go through mcpd."""

    def relayed(self, extensions: bytes | None) -> bytes | None:
        """Those of a client's declared extensions that backends are told of, a JSON object. What comes of any other
        (ids, notifications, methods) could not be brought back to the client."""
        if extensions is None:
            return None
        declared = jsonrpc.members_of(extensions)
        kept = {name: declared[name] for name in self.extensions if name in declared}
        return jsonrpc.encode_members(kept) if kept else None

    async def serve(self, caller: Caller, message: Message, members: Members, turn: Turn) -> None:
        """Work on one request, whose params are `members`, and settle its turn; the call may go on afterwards.

        Cancellation: the client left. A turn that was not settled then is its front's own affair."""
        method = message.method
        assert method is not None
        outcome: Outcome
        try:
            if method == "server/discover":
                outcome = self._discover(), None
            else:
                params: Buffer = message.params or b"{}"
                if method in ASKING:
                    self._gateway.sessions.passer_by()
                    if "requestState" in members or "inputResponses" in members:
                        try:
                            fit = await self._join(caller, message, members, turn)
                        except RpcError as error:
                            self._gateway.refuse(caller, message, error)
                            raise
                        if fit is None:
                            return
                        params = fit
                    if caller.capabilities and caller.capabilities & ASKABLE:
                        rounds = Rounds(self._inputs, caller, method, params, members, turn)
                        await rounds.run(self._work(rounds))
                        return
                call = Call(caller, method, params, members, turn.notify, _nobody, nothing, progress_token(members))
                if method in tasks.METHODS:
                    if not self._gateway.all_judged:
                        await self._gateway.settled()  # whose task it is may be about to become known
                    outcome = await self._gateway.relay(tasks.route(self._gateway.backends, call), call)
                else:
                    outcome = await self._gateway.dispatch(call)
        except RpcError as error:
            if error.code == URL_ELICITATION_REQUIRED and method in ASKING:
                error = MissingCapability(URL_NEEDED, error.message)
            outcome = error_for_modern(error, method)
        turn.settle(outcome)

    def _discover(self) -> bytes:
        gateway = self._gateway
        usable = all(backend.state in USABLE for backend in gateway.backends)
        return discover_result(
            capabilities=encode_gateway_capabilities(MODERN, self._offered()),
            server_info=IMPLEMENTATION,
            instructions=local.instructions(gateway.config.instructions, gateway.backends),
            ttl_ms=gateway.list_ttl if usable else 0,
            scope="private",
        )

    def _offered(self) -> bytes | None:
        """The extensions that a client finds behind mcpd, as a JSON object."""
        having = {name for backend in self._gateway.backends for name in tasks.extensions_of(backend)}
        offered: dict[str, Buffer] = {name: b"{}" for name in self.extensions if name in having}
        return jsonrpc.encode_members(offered) if offered else None

    async def _join(self, caller: Caller, message: Message, members: Members, turn: Turn) -> Buffer | None:
        """Go on with a call; None when it was one of the parked ones, which is settled then. Else the params for the
        backend, and `members` fit for it too. Raises: RpcError (rule 3)."""
        method, params = message.method, message.params
        assert method is not None
        assert params is not None
        state = local.optional_string(members, "requestState")
        if state is not None and await self._inputs.join(state, caller, method, members, turn):
            return None
        backend = await self._gateway.backend_for(method, members)
        if backend.hello is not None and backend.hello.version >= MODERN:
            return params
        if state is not None:
            reason = RESTARTED if self._inputs.outlived(state, caller) else UNKNOWN_STATE
            raise RpcError(INVALID_PARAMS, reason, http_status=400)
        jsonrpc.refuse_repeated(params, members, b'"name"')
        members.pop("requestState", None)
        members.pop("inputResponses", None)
        return jsonrpc.encode_members(members)

    async def _work(self, rounds: Rounds) -> Answer:
        """Carry a call out. Raises: RpcError."""
        call = rounds.call
        for _ in range(VISITS_MAX):
            try:
                return await self._gateway.dispatch(call)
            except RpcError as error:
                if error.code != URL_ELICITATION_REQUIRED:
                    raise
                required = error
            if not call.caller.capabilities & ClientCapability.ELICITATION_URL:
                raise MissingCapability(URL_NEEDED, required.message)
            if not await self._visited(rounds, required):
                reason = f"{required.message} The user did not open the URL."
                if call.method == "tools/call":
                    return local.complete(error_result(reason), call), None
                raise RpcError(INTERNAL_ERROR, reason)
            call = rounds.again()
        raise RpcError(INTERNAL_ERROR, f"its backend wanted a URL opened {VISITS_MAX} times")

    async def _visited(self, rounds: Rounds, required: RpcError) -> bool:
        """Whether the client opened what is to be opened first. Raises: RpcError, when it cannot be asked."""
        gateway, call = self._gateway, rounds.call
        questions = elicitations(required)
        if not questions:
            raise required
        if len(gateway.config.servers) > 1:
            backend = await gateway.backend_for(call.method, jsonrpc.members_of(call.params))
            questions = [labelled(params, f"[{backend.name}] ") for params in questions]
        gateway.in_flight += 1  # no backend works on it, but it is one of those that may be parked
        try:
            answers = await rounds.ask_all([("elicitation/create", params) for params in questions])
        finally:
            gateway.in_flight -= 1
        return all(text(jsonrpc.members_of(answer), "action") == "accept" for answer in answers)


def elicitations(required: RpcError) -> list[Buffer]:
    """The params of the questions that a -32042 stands for; what has not the form of one is left out."""
    try:
        raws = split_array(jsonrpc.members_of(data_of(required) or b"{}")["elicitations"])
        found = [jsonrpc.members_of(raw) for raw in raws[:INPUTS_MAX]]
    except (ProtocolError, KeyError, ValueError):
        return []
    message = msgspec.json.encode(required.message)
    return [
        jsonrpc.encode_members({"message": message, **members, "mode": b'"url"'})
        for members in found
        if text(members, "url") is not None
    ]


async def _nobody(method: str, params: Buffer) -> Buffer:
    raise RpcError(METHOD_NOT_FOUND, f"{method}: the client cannot be asked during this request")
