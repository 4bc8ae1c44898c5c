"""Calls of modern clients that wait for input: found again by the state that their clients send back.

Theory of operation. The first question of its backend puts a call (`rounds`) into the table, under a name that nobody
can guess; each time the client is asked, it gets the name in a sealed ticket, `requestState`. A request that brings the
ticket back is joined to the call. One sweep looks at all of them: who does not come back in time is not waited for.

Rules.
1. A ticket opens the call of its own principal only, for the same method, name and arguments, until it expires. To
   anybody else it is as unknown as one that mcpd never made.
2. What a call ended with while nobody waited is kept for its client until the ticket expires; what a client was told is
   kept for REPEAT_TIME, for a client that lost the answer and sends the same again. What does not fit goes first.
3. Parked calls are bounded, in all and for each principal that has a name. Where there is no room for a call, nothing
   is asked: its backend gets an error.

Source: 2026-07-28 "Multi Round-Trip Requests".
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, RpcError
from mcpd.gateway.rounds import USED, Rounds
from mcpd.gateway.seal import Ticket, principal_digest
from mcpd.protocol import jsonrpc
from mcpd.wire.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.config.model import Limits
    from mcpd.gateway.ports import Outcome, Turn
    from mcpd.gateway.seal import StateSeal
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Buffer, Members

log = logging.getLogger("mcpd.gateway")

EARLY: Final = 1.0
"""Seconds by which a call is given up before its backend's question would time out by itself: a refusal in time is
worth more to a backend than an error after it."""

SHARE: Final = 4
"""One principal may have this share of all parked calls. Those without a name are whoever reaches the port, and share
everything."""

REPEAT_TIME: Final = 60.0
"""Seconds in which an exchange whose answer was lost may be sent again: clients notice within one of their timeouts."""

KEPT_MAX: Final = 4096
KEPT_BYTES: Final = 32 * 1024 * 1024
"""Outcomes that are kept, and their bytes: a hundred large results, or thousands of small ones."""

CANONICAL_MAX: Final = 64 * 1024
"""Bytes of a JSON text up to which another spelling of it counts as the same. Clients spell a request the same way each
time; a larger one is not worth decoding."""


class Kept:
    """What a call ended with. `answers` is the digest of what came with the state, None if nobody has come yet."""

    __slots__ = ("_table", "answers", "deadline", "id", "outcome", "principal", "round", "size")

    def __init__(self, table: Inputs, rounds: Rounds, round: int, answers: bytes | None, outcome: Outcome) -> None:
        self._table = table
        self.id = rounds.id
        self.principal = rounds.principal
        self.deadline = rounds.deadline if answers is None else trio.current_time() + REPEAT_TIME
        self.round = round
        self.answers = answers
        self.outcome, self.size = _copied(outcome)

    async def join(self, round: int, answers: bytes, caller: Caller, members: Members, turn: Turn) -> None:
        """One more exchange, with a state of the call. Raises: RpcError INVALID_PARAMS."""
        if round != self.round or self.answers not in (None, answers):
            raise RpcError(INVALID_PARAMS, USED, http_status=400)
        if self.answers is None:
            self.answers = answers
            self.deadline = min(self.deadline, trio.current_time() + REPEAT_TIME)
            self._table.watch(self)
        turn.settle(self.outcome)

    def expire(self) -> None:
        """It is not needed any more."""
        self._table.drop(self)


class Inputs:
    """The table. `ask_time` says how many seconds a question of a call may take, by the call's method and params."""

    def __init__(
        self,
        limits: Limits,
        seal: StateSeal,
        *,
        clock: Callable[[], float],
        ask_time: Callable[[str, Members], float],
    ) -> None:
        self.limits = limits
        self._seal = seal
        self._clock = clock
        self._ask_time = ask_time
        self._rounds: dict[bytes, Rounds] = {}
        self._shares: dict[str, int] = {}
        self._kept: dict[bytes, Kept] = {}
        self._kept_bytes = 0
        self._deadlines = Deadlines()
        self.closed = False
        """mcpd stops: nobody could bring an answer any more."""
        self._began = int(clock())
        self.parked = 0
        """Calls that go on without an exchange that waits for them."""

    def __len__(self) -> int:
        """Calls that asked for input and go on."""
        return len(self._rounds)

    def awaited(self, since: float) -> bool:
        """Whether a client was asked after `since` that has not come back yet."""
        return any(each.parked and each.asked > since for each in self._rounds.values())

    async def run(self) -> None:
        """Give up those whose client does not come back, for ever."""
        await self._deadlines.run()

    def close(self) -> None:
        """mcpd stops: parked calls are given up now, and no more are parked."""
        self.closed = True
        for rounds in list(self._rounds.values()):
            if rounds.parked:
                rounds.expire()

    async def join(self, state: str, caller: Caller, method: str, members: Members, turn: Turn) -> bool:
        """Join a request to the call that its state is of, until it is settled. False when there is no such call.

        Raises: RpcError INVALID_PARAMS: the call is another, or the state was used. Cancellation: the client left."""
        ticket = self._seal.open(state)
        if ticket is None or ticket.expiry < self._clock() or ticket.principal != principal_digest(caller.principal):
            return False
        found = self._rounds.get(ticket.park) or self._kept.get(ticket.park)
        if found is None or found.principal != caller.principal:
            return False
        if ticket.call != digest(method, members):
            reason = "this requestState is of another request: its method, name, uri or arguments differ"
            raise RpcError(INVALID_PARAMS, reason, http_status=400)
        answers = hashlib.sha256(canonical(members.get("inputResponses"))).digest()
        await found.join(ticket.round, answers, caller, members, turn)
        return True

    def outlived(self, state: str, caller: Caller) -> bool:
        """Whether the state is of a call that was parked in an earlier run of mcpd: its task could not be moved."""
        ticket = self._seal.open(state)
        return (
            ticket is not None
            and ticket.issued < self._began
            and ticket.principal == principal_digest(caller.principal)
        )

    # ---- what calls do with it -----------------------------------------------------------------------------

    def admit(self, rounds: Rounds) -> None:
        """Take a call in, unless it is in. Raises: RpcError INTERNAL_ERROR: no room for it, or mcpd stops."""
        if self.closed:
            raise RpcError(INTERNAL_ERROR, "mcpd is stopping: nobody can be asked any more")
        if rounds.id:
            return
        limit, principal = self.limits.parks, rounds.principal
        if len(self._rounds) >= limit or (principal and self._shares.get(principal, 0) >= max(1, limit // SHARE)):
            log.info("event=park_refused limit=%d", limit)
            raise RpcError(INTERNAL_ERROR, f"too many calls wait for their client's input (limits.parks: {limit})")
        call = rounds.call
        members = jsonrpc.members_of(call.params)
        rounds.id = secrets.token_bytes(8)
        rounds.digest = digest(call.method, members)
        patience = self._ask_time(call.method, members)
        rounds.patience = min(self.limits.park_time, patience - min(EARLY, patience / 10))
        self._rounds[rounds.id] = rounds
        self._shares[principal] = self._shares.get(principal, 0) + 1

    def park(self, rounds: Rounds, round: int) -> str:
        """From now on nobody waits for the call; returns the state that finds it."""
        self.parked += 1
        self._deadlines.add(rounds)
        now = self._clock()
        wait = rounds.deadline - trio.current_time()
        ticket = Ticket(
            rounds.id, principal_digest(rounds.principal), rounds.digest, round, int(now), int(now + wait) + 1
        )
        return self._seal.make(ticket)

    def resume(self, rounds: Rounds) -> None:
        """Somebody waits for the call again."""
        self.parked -= 1
        self._deadlines.discard(rounds)

    def leave(self, rounds: Rounds, *, parked: bool) -> None:
        """The call is over, or is not to be found any more; `parked`: it was just now."""
        if self._rounds.pop(rounds.id, None) is None:
            return
        if parked:
            self.resume(rounds)
        self._shares[rounds.principal] -= 1
        if not self._shares[rounds.principal]:
            del self._shares[rounds.principal]

    def keep(self, rounds: Rounds, round: int, answers: bytes | None, outcome: Outcome) -> None:
        """Keep what a call ended with; `answers`: what those came with who were told, None when nobody was."""
        kept = Kept(self, rounds, round, answers, outcome)
        if kept.size > KEPT_BYTES:
            return
        self._kept[kept.id] = kept
        self._kept_bytes += kept.size
        self.watch(kept)
        while len(self._kept) > KEPT_MAX or self._kept_bytes > KEPT_BYTES:
            self.drop(next(iter(self._kept.values())))

    def watch(self, kept: Kept) -> None:
        """Its deadline was set, or moved."""
        self._deadlines.add(kept)

    def drop(self, kept: Kept) -> None:
        """Forget what was kept."""
        if self._kept.pop(kept.id, None) is kept:
            self._kept_bytes -= kept.size
            self._deadlines.discard(kept)


def _copied(outcome: Outcome) -> tuple[Outcome, int]:
    """An outcome that holds nothing but itself, and its size: a result is made of views into the backend's message, and
    an error remembers how it was raised, and with that the client's whole request."""
    if isinstance(outcome, RpcError):
        status = outcome.http_status
        error = RpcError(outcome.code, outcome.message, data=outcome.data, raw=outcome.raw, http_status=status)
        return error, len(error.encode())
    result = bytes(outcome[0])
    if outcome[1] is None:
        return (result, None), len(result)
    extra = jsonrpc.encode_members(outcome[1])
    return (result, jsonrpc.members_of(extra)), len(result) + len(extra)


def digest(method: str, members: Members) -> bytes:
    """What a call is, however it is spelled: its method, whom it calls, and with which arguments."""
    whom = canonical(members.get("uri" if method == "resources/read" else "name"))
    arguments = canonical(members.get("arguments"))
    if arguments in (b"null", b"{}"):
        arguments = b""  # three ways to say that there are none
    return hashlib.sha256(b"%b\n%d\n%b%b" % (method.encode(), len(whom), whom, arguments)).digest()


def canonical(raw: Buffer | None) -> bytes:
    """A JSON text in the one spelling of its value, up to CANONICAL_MAX; a larger one as it is."""
    if raw is None:
        return b""
    text = bytes(raw)
    if len(text) > CANONICAL_MAX:
        return text
    try:
        return msgspec.json.encode(msgspec.json.decode(text), order="sorted")
    except (ValueError, RecursionError):
        return text  # what only the scanner reads
