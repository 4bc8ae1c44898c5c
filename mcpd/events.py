"""What happens while mcpd runs: kept for a while, and handed to whoever follows it.

Theory of operation. Whoever has something to tell calls `emit`, which appends to one of two rings and wakes those who
wait. Calls have a ring of their own: a busy second of them must not push out that a server was lost an hour ago. A
reader keeps no place here, but says with each `read` how far it has come; so nobody can be held up by one that is slow.

Rules.
1. To emit never waits, and costs next to nothing: a thing that is to be described is described when it is read.
2. A cursor names the run and a number in it. Numbers grow by one; those of another run mean nothing, and the reader is
   told of a gap instead of missing silently what that run told last.
3. Whoever reads more slowly than a ring is overwritten is told of a gap too, and goes on with the oldest that is left.
4. An upgrade in place is no end of the run: the next program goes on counting.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from heapq import merge
from itertools import islice, takewhile
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

CALL: Final = "call"
"""The kind that has a ring of its own."""

GAP: Final = "gap"
"""What readers are told of what they missed; it is never emitted."""

KINDS: Final[Mapping[str, str]] = {
    CALL: "a call ended: who, what, how and how long; never what was in it",
    "state": "a server changed its state",
    "restart": "a server failed, and when it is tried again",
    "list_changed": "lists that clients see changed",
    "session": "a session of a client was opened, or ended",
    "reload": "the configuration was read anew, or could not be",
    "operation": "an operator had something done, or was refused",
    "mcpd": "mcpd is ready, was upgraded, or is about to stop",
}
"""Everything that is emitted, and what it means."""

CALLS_KEPT: Final = 2048
OTHERS_KEPT: Final = 1024
"""Events that are kept: a reader that was away finds the last hours of a quiet machine. About 2 MiB when full."""

READ_MAX: Final = 256
"""Events that one `read` returns: as many as are described within a few milliseconds."""

RUN_BYTES: Final = 6
"""Of randomness in the name of a run: two runs whose readers meet are told apart."""


class Describable(Protocol):
    """What can say later what it is about."""

    def describe(self) -> dict[str, object]:
        """The fields of the event, as JSON has them."""


class Call(Describable, Protocol):
    """A call that has ended, when `perf_counter` said so."""

    @property
    def ended(self) -> float: ...


class Event(NamedTuple):
    """One thing that happened. `at` is in seconds since the epoch."""

    number: int
    at: float
    kind: str
    about: Describable | dict[str, object]

    def details(self) -> dict[str, object]:
        """What there is to say of it."""
        return self.about if isinstance(self.about, dict) else self.about.describe()

    def describe(self) -> dict[str, object]:
        """As JSON has it."""
        return {"at": round(self.at, 3), "kind": self.kind, **self.details()}


class Reading(NamedTuple):
    """What a reader gets: perhaps a gap, then events, the oldest first; and its cursor after them."""

    gap: str
    """Why something was missed; empty when nothing was."""
    events: list[Event]
    cursor: str


class EventsState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, for the next program in the same process."""

    run: str
    last: int
    lost: tuple[int, int]
    upgrades: int = 0
    events: tuple[tuple[int, float, str, dict[str, object]], ...]


class BadCursor(ValueError):
    """This is no cursor."""


class Events:
    """The rings, and the way to wait for more."""

    def __init__(
        self, *, calls: int = CALLS_KEPT, others: int = OTHERS_KEPT, clock: Callable[[], float] = time.time
    ) -> None:
        self.run = secrets.token_hex(RUN_BYTES)
        self.last = 0
        """The number of the newest event."""
        self._clock = clock
        self._calls: deque[tuple[int, Call | Event]] = deque(maxlen=calls)
        self._others: deque[Event] = deque(maxlen=others)
        self._calls_lost = self._others_lost = 0
        """The number of the newest event that was pushed out of a ring; 0 while none was."""
        self.upgrades = 0
        """How often another program took over in this process."""
        self.partings = 0
        """How often `part` was called."""
        self._more: trio.Event | None = None

    def emit(self, kind: str, **about: object) -> None:
        """Tell of something that happened now."""
        self.last += 1
        self._keep(Event(self.last, self._clock(), kind, about))
        self.wake()

    def note_call(self, call: Call) -> None:
        """A call ended. It is all on the way of the next one, so the event is made when somebody reads it."""
        self.last = number = self.last + 1
        calls = self._calls
        if len(calls) == calls.maxlen:
            self._calls_lost = calls[0][0]
        calls.append((number, call))
        if self._more is not None:
            self.wake()

    def part(self) -> None:
        """mcpd is about to stop, or to become another program: whoever follows is to come to an end."""
        self.partings += 1
        self.wake()

    def _keep(self, event: Event) -> None:
        others = self._others
        if len(others) == others.maxlen:
            self._others_lost = others[0].number
        others.append(event)

    def wake(self) -> None:
        """Have those who wait look."""
        if self._more is not None:
            self._more.set()
            self._more = None

    # ---- reading -------------------------------------------------------------------------------------------

    @property
    def cursor(self) -> str:
        """After everything that has happened."""
        return f"{self.run}.{self.last}"

    def read(self, cursor: str, kinds: Collection[str] = ()) -> Reading:
        """What came after `cursor`, of these kinds if any are named; `0` stands for the beginning.

        Raises: BadCursor."""
        run, number = split_cursor(cursor)
        gap = ""
        if run and (run != self.run or number > self.last):
            gap, number = "mcpd was started anew", 0
        calls, others = not kinds or CALL in kinds, not kinds or any(kind != CALL for kind in kinds)
        # Whoever begins at the beginning wants what there is; the first gap that is told is not told again.
        lost = max(self._calls_lost if calls else 0, self._others_lost if others else 0)
        if run and not gap and number < lost:
            gap = "events came faster than they were read"
        merged = merge(self._calls_since(number) if calls else (), self._others_since(number) if others else ())
        found = list(islice((event for event in merged if not kinds or event.kind in kinds), READ_MAX))
        return Reading(gap, found, self.cursor if len(found) < READ_MAX else f"{self.run}.{found[-1].number}")

    def _calls_since(self, number: int) -> list[Event]:
        offset = self._clock() - perf_counter()
        found = []
        for own, call in reversed(self._calls):
            if own <= number:
                break
            found.append(call if isinstance(call, Event) else Event(own, call.ended + offset, CALL, call))
        return found[::-1]

    def _others_since(self, number: int) -> list[Event]:
        return list(takewhile(lambda event: event.number > number, reversed(self._others)))[::-1]

    def calls_since(self, when: float) -> list[Call]:
        """Calls of this program that ended later than that, by `perf_counter`, the oldest first."""
        recent = takewhile(
            lambda call: not isinstance(call, Event) and call.ended > when, (call for _, call in reversed(self._calls))
        )
        return [call for call in recent if not isinstance(call, Event)][::-1]

    def keeps_since(self, when: float) -> bool:
        """Whether all calls are kept that ended later than that."""
        if len(self._calls) < (self._calls.maxlen or 0):
            return True
        oldest = self._calls[0][1]
        return isinstance(oldest, Event) or oldest.ended <= when

    async def wait_more(self, cursor: str) -> None:
        """Return when something has happened since `cursor`, or when all are to look (`part`)."""
        if cursor == self.cursor:
            if self._more is None:
                self._more = trio.Event()
            await self._more.wait()

    # ---- from one program to the next ----------------------------------------------------------------------

    def capture(self) -> EventsState:
        """Everything as it is now. Changes nothing."""
        kept = merge(self._calls_since(0), self._others)
        events = tuple((event.number, event.at, event.kind, event.details()) for event in kept)
        return EventsState(
            run=self.run,
            last=self.last,
            lost=(self._calls_lost, self._others_lost),
            events=events,
            upgrades=self.upgrades,
        )

    def inherit(self, state: EventsState) -> None:
        """Go on where another program was (rule 4). What was told here already comes after it."""
        own = list(self._others)
        self.run, self.last = state.run, state.last
        self.upgrades = state.upgrades + 1
        self._others.clear()
        self._calls_lost, self._others_lost = state.lost
        for number, at, kind, about in state.events:
            event = Event(number, at, kind, about)
            if kind == CALL:
                self._calls.append((number, event))
            else:
                self._others.append(event)
        for event in own:
            self.last += 1
            self._keep(event._replace(number=self.last))


def split_cursor(cursor: str) -> tuple[str, int]:
    """The run and the number that a cursor names; "" and 0 for the beginning. Raises: BadCursor."""
    run, dot, number = cursor.rpartition(".")
    if cursor != "0" and not (run.isalnum() and dot and len(run) <= 32):
        raise BadCursor("a cursor is what an event had as its id, or 0 for everything that is kept")
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise BadCursor("a cursor is what an event had as its id, or 0 for everything that is kept")
    return run, int(number)
