"""Clients of both eras at the gateway's own door, and the model of what each must hear.

Every call has a mark. Whatever reaches a client bears a mark of its own, or somebody got what was another's; a call
that nobody cancelled ends exactly once; its result tells the answers that this client gave.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import trio

from mcpd.errors import RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Caller
from mcpd.protocol.capabilities import ClientCapability
from mcpd.protocol.handshake import ClientHello, Event
from mcpd.protocol.versions import LATEST_HANDSHAKE, MODERN
from mcpd.types import SessionKey

if TYPE_CHECKING:
    import random

    from mcpd.gateway.gateway import Gateway

JSON = dict[str, Any]

FORM = ClientCapability.ELICITATION_FORM
PATIENCE = 2000.0
"""Seconds after which a call without an outcome is lost: longer than every timeout."""

_marks = itertools.count(1)
_keys = itertools.count(1)


class Ledger:
    """One call as its client knows it."""

    def __init__(self, client: str, plan: JSON) -> None:
        self.client = client
        self.mark = f"{client}#{next(_marks)}"
        self.plan = {**plan, "mark": self.mark}
        self.given: dict[str, str] = {}
        """What was asked, and the answer that was given."""
        self.outcomes: list[Any] = []
        self.cancelled = False
        self.abandoned = False
        """The client does not come back with answers."""

    def params(self, tool: str) -> bytes:
        return json.dumps({"name": tool, "arguments": self.plan}).encode()

    def asked(self, params: Any) -> str:
        """A question came: it must be this call's, or one of its client's on the same connection."""
        text: str = json.loads(bytes(params))["message"]
        assert text.rpartition("/")[0].startswith(f"{self.client}#"), f"{self.mark} was asked {text}"
        return text

    def ended(self, outcome: Any) -> None:
        self.outcomes.append(outcome)
        assert len(self.outcomes) == 1, f"{self.mark} ended twice: {self.outcomes}"
        assert not self.cancelled or isinstance(outcome, RpcError), f"{self.mark} was cancelled and answered"
        if isinstance(outcome, RpcError):
            return
        result = json.loads(bytes(outcome[0]))
        if result.get("isError"):
            return
        told = json.loads(result["content"][0]["text"])
        assert told["mark"] == self.mark, f"{self.mark} got the result of {told['mark']}"
        for number, answer in enumerate(told["answers"]):
            given = self.given.get(f"{self.mark}/{number}")
            if answer.get("action") == "accept":
                assert answer["content"]["answer"] == given, f"{self.mark}: {answer} was not given"


class LegacyClient:
    """A session. Questions are asked live, each in the task of whoever asks."""

    def __init__(self, name: str, gateway: Gateway, random: random.Random, *, can_answer: bool) -> None:
        self.name = name
        self.gateway = gateway
        self.random = random
        hello = ClientHello(LATEST_HANDSHAKE, FORM if can_answer else ClientCapability(0), name)
        self.session = gateway.sessions.begin(hello, "")
        self.session.handshake(Event.INITIALIZED)
        self.ledgers: dict[str, Ledger] = {}

    async def call(self, tool: str, plan: JSON, cancel_after: float) -> None:
        ledger = Ledger(self.name, plan)
        self.ledgers[ledger.mark] = ledger
        message = jsonrpc.decode_from_client(
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % ledger.params(tool)
        )

        def emit(method: str, params: Any) -> None:
            assert json.loads(bytes(params)).get("message", ledger.mark) == ledger.mark

        async def ask(method: str, params: Any) -> bytes:
            text = ledger.asked(params)
            await trio.sleep(self.random.uniform(0, 0.2))
            answer = f"yes {text}"
            owner = self.ledgers[text.rpartition("/")[0]]
            owner.given[text] = answer
            return json.dumps({"action": "accept", "content": {"answer": answer}}).encode()

        outcome: Any = None
        with trio.move_on_after(cancel_after) as scope, trio.fail_after(PATIENCE):
            try:
                outcome = await self.gateway.serve(self.session, message, emit, ask, lambda: None)
            except RpcError as error:
                outcome = error
        if scope.cancelled_caught:
            ledger.cancelled = True
        else:
            ledger.ended(outcome)


class Exchange:
    """One request of a modern client. Implements `Turn`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.settled = trio.Event()
        self.outcome: Any = None
        self.scope = trio.CancelScope()

    def notify(self, method: str, params: Any) -> None:
        assert not self.settled.is_set(), f"{self.ledger.mark} heard of its call after the answer"
        assert json.loads(bytes(params)).get("message", self.ledger.mark) == self.ledger.mark

    def settle(self, outcome: Any) -> None:
        assert not self.settled.is_set(), f"{self.ledger.mark} was answered twice"
        self.outcome = outcome
        self.settled.set()

    def cancel(self) -> None:
        self.scope.cancel()


class ModernClient:
    """Requests that stand alone; answers are given by calling again."""

    def __init__(
        self, name: str, gateway: Gateway, random: random.Random, nursery: trio.Nursery, *, can_answer: bool
    ) -> None:
        self.name = name
        self.gateway = gateway
        self.random = random
        self.capabilities = FORM if can_answer else ClientCapability(0)
        # The tasks of parked calls outlive the exchange they began in, as those of a server's connections do.
        self.nursery = nursery
        self.ledgers: dict[str, Ledger] = {}

    async def call(self, tool: str, plan: JSON, cancel_after: float) -> None:
        ledger = Ledger(self.name, plan)
        self.ledgers[ledger.mark] = ledger
        members: JSON = json.loads(ledger.params(tool))
        deadline = trio.current_time() + cancel_after
        while True:
            twice = self.random.random() < 0.1 and "inputResponses" in members
            exchanges = [Exchange(ledger) for _ in range(2 if twice else 1)]
            for exchange in exchanges:
                self.nursery.start_soon(self._serve, exchange, members)
            with trio.move_on_at(min(deadline, trio.current_time() + PATIENCE)):
                for exchange in exchanges:
                    await exchange.settled.wait()
            if not all(exchange.settled.is_set() for exchange in exchanges):
                assert trio.current_time() >= deadline, f"{ledger.mark} has no outcome"
                ledger.cancelled = True
                for exchange in exchanges:
                    exchange.scope.cancel()
                return
            first = exchanges[0].outcome
            for exchange in exchanges[1:]:
                self._same(ledger, first, exchange.outcome)
            needed = {} if isinstance(first, RpcError) else json.loads(bytes(first[0]))
            if needed.get("resultType") != "input_required":
                ledger.ended(first)
                return
            if self.random.random() < 0.15:
                ledger.abandoned = True
                return
            members = self._retry(ledger, members, needed)
            await trio.sleep(self.random.uniform(0, 0.3))

    def _same(self, ledger: Ledger, first: Any, second: Any) -> None:
        """The same request with the same answers twice gets the same outcome, or one of them an error."""
        if not isinstance(first, RpcError) and not isinstance(second, RpcError):
            one, other = (json.loads(bytes(outcome[0])) for outcome in (first, second))
            assert one == other, f"{ledger.mark}: {one} and {other}"

    def _retry(self, ledger: Ledger, members: JSON, needed: JSON) -> JSON:
        responses: JSON = {}
        for key, request in needed.get("inputRequests", {}).items():
            text = ledger.asked(json.dumps(request["params"]).encode())
            assert text.rpartition("/")[0] == ledger.mark, f"{ledger.mark} was asked {text}"
            if self.random.random() < 0.1 and len(responses) + 1 < len(needed["inputRequests"]):
                continue  # it answers the rest only when it is asked again
            answer = f"yes {text}"
            ledger.given[text] = answer
            responses[key] = {"action": "accept", "content": {"answer": answer}}
        retried = {**members, "inputResponses": responses}
        if "requestState" in needed:
            retried["requestState"] = needed["requestState"]
        return retried

    async def _serve(self, exchange: Exchange, members: JSON) -> None:
        caller = Caller(SessionKey(f"m{next(_keys)}"), "", MODERN, self.capabilities)
        params = json.dumps(members).encode()
        message = jsonrpc.decode_from_client(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params)
        assert message.params is not None
        with exchange.scope:
            await self.gateway.modern.serve(caller, message, jsonrpc.members_of(message.params), exchange)
