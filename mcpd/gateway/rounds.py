"""One call of a modern client that a backend may ask for input: its exchanges, its open questions, its end.

Theory of operation. The call runs in the task of the exchange that began it. A question of the backend ends that
exchange, with `input_required`; the call stays where it is, waiting for the backend, and the question in the backend's
own task, waiting for its answer: the call is parked. A later exchange of the client joins it with the answers, and
waits for what comes next: more questions, or the outcome.

Rules.
1. Questions that come within ASK_WINDOW are asked together. Nobody needs a timer for that: those who wait for the
   answers wait for the end of the window first.
2. An exchange is settled once. What the backend notifies goes to the exchanges that wait, else to the next one: the
   last few, since nobody may come.
3. A state is good for one round. The same answers again get what the first ones got, other answers are refused.
4. What was not answered is asked again, with whatever was asked meanwhile. No key is used twice in a call.
5. A call that nobody wants any more ends. When its client leaves an exchange that waits, and no other one does, it is
   cancelled; when the client does not come back in time, what is open is first refused as a client would refuse it.

Source: 2026-07-28 "Multi Round-Trip Requests".
"""

from __future__ import annotations

import enum
import logging
import math
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends.questions import allowed
from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, RpcError
from mcpd.protocol import inputs as rules
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Call
from mcpd.protocol.meta import progress_token
from mcpd.protocol.modern import error_for_modern, own_server_info

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from mcpd.gateway.inputs import Inputs
    from mcpd.gateway.ports import Outcome, Turn
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Buffer, Members

log = logging.getLogger("mcpd.gateway")

ASK_WINDOW: Final = 0.02
"""Seconds in which further questions join the first one: servers that ask for several things ask at once, and each
round costs the client a request."""

ASKS_MAX: Final = 256
"""Questions of one call in all. Each took an exchange with a client, which gives up after some ten."""

MISSED_MAX: Final = 16
MISSED_BYTES: Final = 4096
"""Notifications that wait for the next exchange, and the size of one: progress and log lines while a client answers. A
parked call stays small by it."""

USED: Final = "this requestState was used already, with other answers or for an earlier round"

PROGRESS: Final = "notifications/progress"


class Phase(enum.Enum):
    """How much is left of a call."""

    OPEN = enum.auto()
    LEFT = enum.auto()
    """Nobody wants it any more: it is, or will be, cancelled."""
    OVER = enum.auto()


class Ask:
    """One question of the backend that is open."""

    __slots__ = ("answer", "answered", "begun", "key", "method", "params")

    def __init__(self, key: str, method: str, params: Buffer) -> None:
        self.key = key
        self.method = method
        self.params = params
        self.begun = trio.current_time()
        self.answered = trio.Event()
        self.answer: Buffer | None = None
        """The client's; None when there will be none."""

    def close(self, answer: Buffer | None) -> None:
        """It was answered, or never will be."""
        self.answer = answer
        self.answered.set()


class Attached:
    """An exchange that waits for the call. `settled` is for the task of one that joined."""

    __slots__ = ("settled", "token", "turn")

    def __init__(self, turn: Turn, token: bytes | None, settled: trio.Event | None = None) -> None:
        self.turn = turn
        self.token = token
        self.settled = settled

    def settle(self, outcome: Outcome) -> None:
        """Tell the client, and the task that waits for it."""
        self.turn.settle(outcome)
        if self.settled is not None:
            self.settled.set()

    def notify(self, method: str, params: Buffer, token: bytes | None) -> None:
        """A notification of the call, in which progress has `token`."""
        if method == PROGRESS and token != self.token:
            if self.token is None:
                return
            members: dict[str, Buffer] = dict(jsonrpc.members_of(params))
            members["progressToken"] = self.token
            params = jsonrpc.encode_members(members)
        self.turn.notify(method, params)


class Rounds:
    """One call. `call` is what the backend is given; its `emit` and `ask` are this object's."""

    __slots__ = (
        "_answered",
        "_asking",
        "_asks",
        "_attached",
        "_before",
        "_due",
        "_first",
        "_inputs",
        "_keys",
        "_missed",
        "_phase",
        "_round",
        "call",
        "deadline",
        "digest",
        "id",
        "patience",
    )

    def __init__(
        self, inputs: Inputs, caller: Caller, method: str, params: Buffer, members: Members, turn: Turn
    ) -> None:
        token = progress_token(members)
        self.call = Call(caller, method, params, members, self.emit, self.ask, nothing, token)
        self.id = b""
        """Names the call in request states; empty until its backend asks."""
        self.digest = b""
        """Binds its states to what the call is."""
        self.patience = math.inf
        """Seconds that a question may wait for its answer."""
        self.deadline = math.inf
        self._inputs = inputs
        self._first = turn
        self._attached: tuple[Attached, ...] = (Attached(turn, token),)
        self._phase = Phase.OPEN
        self._asks: dict[str, Ask] = {}
        """Open questions by key."""
        self._asking = 0
        """Tasks that wait for answers."""
        self._keys: tuple[str, ...] = ()
        self._missed: tuple[tuple[str, bytes], ...] = ()
        """What was notified while nobody waited."""
        self._due = math.inf
        """When the window ends, while it is open."""
        self._round = 0
        """The last state that was given out; 0 before the first."""
        self._answered: bytes | None = None
        """What that one came back with, by its digest; None as long as it did not."""
        self._before: tuple[bytes, bytes] | None = None
        """The same of the state before, and the result that it led to."""

    @property
    def principal(self) -> str:
        """Whose call it is."""
        return self.call.caller.principal

    @property
    def asked(self) -> float:
        """When the first of its open questions was asked."""
        return self.deadline - self.patience

    @property
    def parked(self) -> bool:
        """Whether it goes on without an exchange that waits for it."""
        return not self._attached and self._phase is Phase.OPEN

    # ---- the call, in its own task -------------------------------------------------------------------------

    async def run(self, work: Awaitable[tuple[Buffer, Members | None]]) -> None:
        """Do the work and settle whoever waits for its outcome then.

        Cancellation: the exchanges that joined are told; the one that began the call is its front's own affair."""
        outcome: Outcome
        try:
            outcome = await work
        except RpcError as error:
            outcome = error_for_modern(error, self.call.method)
        except Exception:
            log.exception("event=internal_error method=%s", self.call.method)
            outcome = RpcError(INTERNAL_ERROR, "internal error in mcpd; its log has the details")
        except BaseException:
            self._end(RpcError(INTERNAL_ERROR, "the call was cancelled", http_status=503), cancelled=True)
            raise
        self._end(outcome)

    def again(self) -> Call:
        """The call as the client sent it, to be made once more."""
        members = jsonrpc.members_of(self.call.params)
        token = self._attached[-1].token if self._attached else None
        self.call = msgspec.structs.replace(self.call, members=members, token=token)
        return self.call

    def _end(self, outcome: Outcome, *, cancelled: bool = False) -> None:
        kept = self._round > 0 and self._phase is Phase.OPEN and not cancelled
        attached, self._attached = self._attached, ()
        self._inputs.leave(self, parked=not attached and self._phase is Phase.OPEN)
        self._phase = Phase.OVER
        self._refuse(self._asks)
        for each in attached:
            if not (cancelled and each.turn is self._first):
                each.settle(outcome)
        if kept:
            self._inputs.keep(self, self._round, self._answered, outcome)
        del self.call  # it refers to this object, and both to the client's whole request

    # ---- what the backend does with it ---------------------------------------------------------------------

    def emit(self, method: str, params: Buffer) -> None:
        """A notification of the call."""
        for each in self._attached:
            each.notify(method, params, self.call.token)
        if self.parked and len(kept := bytes(params)) <= MISSED_BYTES:
            self._missed = (*self._missed, (method, kept))[-MISSED_MAX:]

    async def ask(self, method: str, params: Buffer) -> Buffer:
        """Ask the client. Raises: RpcError, when it gives no answer. Cancellation: the question is taken back."""
        return await self._wait(self._put(method, params))

    async def ask_all(self, questions: Iterable[tuple[str, Buffer]]) -> list[Buffer]:
        """Ask several things at once. Raises: RpcError, when one of them is not answered."""
        return [await self._wait(ask) for ask in [self._put(method, params) for method, params in questions]]

    def _put(self, method: str, params: Buffer) -> Ask:
        if self._phase is not Phase.OPEN:
            raise RpcError(INTERNAL_ERROR, f"{method}: the call is over")
        if len(self._keys) >= ASKS_MAX:
            raise RpcError(INTERNAL_ERROR, f"{method}: the call has asked for more than {ASKS_MAX} inputs")
        self._inputs.admit(self)
        key = rules.key_for(method, params, self._keys)
        self._keys = (*self._keys, key)
        ask = self._asks[key] = Ask(key, method, rules.up_ask(method, params))
        if self._attached and self._due == math.inf:
            self._due = ask.begun + ASK_WINDOW
        return ask

    async def _wait(self, ask: Ask) -> Buffer:
        self._asking += 1
        try:
            if self._due < math.inf:
                with trio.CancelScope(deadline=self._due):
                    await ask.answered.wait()
                if not ask.answered.is_set():
                    self._offer()
            await ask.answered.wait()
        finally:
            self._asking -= 1
            self._asks.pop(ask.key, None)
            if not self._asks:
                self._due = math.inf  # what was to be asked was taken back: the next question has a window of its own
            if self._phase is Phase.LEFT and not self._asking:
                self._first.cancel()
        return rules.refuse(ask.method) if ask.answer is None else ask.answer

    # ---- what the client does with it ----------------------------------------------------------------------

    def _offer(self) -> None:
        """Settle the exchanges that wait with what is asked, and park."""
        self._due = math.inf
        if not self._asks or not self._attached:
            return
        if self._inputs.closed:
            self._refuse(self._asks)  # the mcpd that the answers would be brought to knows nothing of the call
            return
        self.deadline = min(ask.begun for ask in self._asks.values()) + self.patience
        state = self._inputs.park(self, self._round + 1)
        shown = {ask.key: (ask.method, ask.params) for ask in islice(self._asks.values(), rules.INPUTS_MAX)}
        result = bytes(own_server_info(rules.input_required(shown, state)))
        self._before = (self._answered, result) if self._answered is not None else None
        self._round += 1
        self._answered = None
        attached, self._attached = self._attached, ()
        for each in attached:
            each.settle((result, None))

    async def join(self, round: int, answers: bytes, caller: Caller, members: Members, turn: Turn) -> None:
        """One more exchange, with a state of this call: returns when it is settled. `answers` is their digest.

        Raises: RpcError INVALID_PARAMS. Cancellation: the client left (rule 5)."""
        responses = rules.read_responses(members)
        if self._before is not None and (round, answers) == (self._round - 1, self._before[0]):
            turn.settle((self._before[1], None))
            return
        if round != self._round or self._answered not in (None, answers):
            raise RpcError(INVALID_PARAMS, USED, http_status=400)
        given = {key: raw for key, raw in responses.items() if key in self._asks}
        for key, raw in given.items():
            rules.check_response(self._asks[key].method, raw)
        settled = trio.Event()
        attached = Attached(turn, progress_token(members), settled)
        if not self._attached:
            self._inputs.resume(self)
        self._attached = (*self._attached, attached)
        missed, self._missed = self._missed, ()
        for method, params in missed:
            attached.notify(method, params, self.call.token)
        if self._answered is None:
            self._answered = answers
            for key, raw in given.items():
                self._asks.pop(key).close(bytes(raw))
            self._adopt(caller)
            self._offer()
        try:
            await settled.wait()
        except trio.Cancelled:
            self._detach(attached)
            raise

    def _adopt(self, caller: Caller) -> None:
        """What this exchange says of its client holds from now on. The key stays: the backend knows the call by it."""
        call = self.call
        if caller.capabilities != call.caller.capabilities:
            self._refuse([key for key, ask in self._asks.items() if not _may_ask(ask, caller)])
        call.caller = msgspec.structs.replace(caller, key=call.caller.key)

    def _detach(self, attached: Attached) -> None:
        if attached not in self._attached:
            return  # it was settled just now
        self._attached = tuple(each for each in self._attached if each is not attached)
        if self._attached or self._phase is not Phase.OPEN:
            return
        self._phase = Phase.LEFT
        self._inputs.leave(self, parked=False)
        self._first.cancel()

    def expire(self) -> None:
        """The client did not come back in time, or mcpd stops (rule 5)."""
        log.info("event=call_given_up method=%s questions=%d", self.call.method, len(self._asks))
        self._phase = Phase.LEFT
        self._inputs.leave(self, parked=True)
        self._refuse(self._asks)
        if not self._asking:
            self._first.cancel()
        # else the last of them cancels: a question whose call is cancelled already would be answered with an error.

    def _refuse(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._asks.pop(key).close(None)


def nothing() -> None:
    """A modern client is not let go when the backend lets go of its stream: nobody may resume one."""


def _may_ask(ask: Ask, caller: Caller) -> bool:
    try:
        allowed(ask.method, ask.params, caller.capabilities)
    except RpcError:
        return False
    return True
