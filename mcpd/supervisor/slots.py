"""How many children may be starting up at the same time, and which of them goes first.

A hundred servers started at once on two cores all miss their handshake's deadline; one after the other, none
does. A slot is taken before the process is made, so waiting for it burns nobody's deadline, and is held
until the child first speaks, ends, or START_SLOT_HOLD is over: a child that hangs delays the others by that
much at most.

Who waits stands in a line, by how urgent it is, and among equals by when it asked. How urgent it is may change while
it waits: a call comes for a server that was only being started because mcpd was.
"""

from __future__ import annotations

import enum
import itertools
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

START_SLOT_HOLD = 5.0
"""Seconds; a Node or Python server loads its modules in less on a busy machine."""


class Urgency(enum.IntEnum):
    """What a child is started for, the most urgent first."""

    CALL = 0
    """Somebody waits for it."""
    BACKGROUND = 1
    """It is to run."""
    SPARE = 2
    """It may be of use."""


class Claim:
    """To a slot. One after the other, several children may be started with it. `moved` is told when it gets into the
    line, or out of it.
    """

    __slots__ = ("_moved", "_turn", "number", "slot", "urgency")

    def __init__(self, urgency: Urgency = Urgency.BACKGROUND, *, moved: Callable[[], None] | None = None) -> None:
        self.urgency = urgency
        self.number = 0
        """When it asked; of those that wait only."""
        self.slot: Slot | None = None
        """What it was given, until it is taken."""
        self._moved = moved
        self._turn: trio.Event | None = None

    @property
    def waiting(self) -> bool:
        """Whether it stands in a line."""
        return self._turn is not None

    def hurry(self) -> None:
        """Somebody waits for it now."""
        self.urgency = Urgency.CALL

    def enter(self, number: int) -> None:
        """It is in the line now."""
        self.number, self._turn = number, trio.Event()
        self._tell()

    async def wait_turn(self) -> None:
        """Return when it was given a slot."""
        assert self._turn is not None, "it stands in a line"
        await self._turn.wait()

    def grant(self, slot: Slot) -> None:
        """It has a slot."""
        self.slot = slot
        if self._turn is not None:
            self._turn.set()

    def leave(self) -> None:
        """It is out of the line, with a slot or without."""
        self._turn = None
        self._tell()

    def _tell(self) -> None:
        if self._moved is not None:
            self._moved()


class Slot:
    """One child's place. `release` may be called more than once."""

    __slots__ = ("_slots", "expires")

    def __init__(self, slots: StartSlots, expires: float) -> None:
        self._slots = slots
        self.expires = expires

    def release(self) -> None:
        self._slots.release(self)


class StartSlots:
    """Hands out `total` slots, in the order of the line."""

    def __init__(self, total: int, *, hold: float = START_SLOT_HOLD) -> None:
        self.total = total
        self._hold = hold
        self._held: set[Slot] = set()
        self._line: set[Claim] = set()
        self._numbers = itertools.count(1)

    def adjust(self, total: int) -> None:
        """Hand out so many from now on; those that are held stay so."""
        self.total = total
        self._serve()

    @property
    def held(self) -> int:
        return len(self._held)

    @property
    def waiting(self) -> int:
        """How many stand in the line."""
        return len(self._line)

    async def acquire(self, claim: Claim | None = None) -> Slot:
        """Wait for a free slot, or for the oldest holder's time to be over."""
        claim = claim or Claim()
        assert not claim.waiting, "one child at a time is started with a claim"
        claim.enter(next(self._numbers))
        self._line.add(claim)
        try:
            self._serve()
            await trio.lowlevel.checkpoint()
            while claim.slot is None:
                with trio.move_on_at(min(slot.expires for slot in self._held)):
                    await claim.wait_turn()
                self._serve()
        except BaseException:
            if claim.slot is not None:
                claim.slot.release()
            raise
        finally:
            self._line.discard(claim)
            slot, claim.slot = claim.slot, None
            claim.leave()
        return slot

    def release(self, slot: Slot) -> None:
        self._held.discard(slot)
        self._serve()

    def _serve(self) -> None:
        """Give what is free to whose turn it is."""
        now = trio.current_time()
        while self._line:
            if len(self._held) >= self.total:
                oldest = min(self._held, key=lambda slot: slot.expires)
                if oldest.expires > now:
                    return
                self._held.discard(oldest)
            first = min(self._line, key=lambda claim: (claim.urgency, claim.number))
            self._line.discard(first)
            slot = Slot(self, now + self._hold)
            self._held.add(slot)
            first.grant(slot)
