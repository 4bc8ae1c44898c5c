"""How many children may be starting up at the same time.

A hundred servers started at once on two cores all miss their handshake's deadline; one after the other, none
does. A slot is taken before the process is made, so waiting for it burns nobody's deadline, and is held
until the child first speaks, ends, or START_SLOT_HOLD is over: a child that hangs delays the others by that
much at most.
"""

from __future__ import annotations

import trio

START_SLOT_HOLD = 5.0
"""Seconds; a Node or Python server loads its modules in less on a busy machine."""


class Slot:
    """One child's place. `release` may be called more than once."""

    __slots__ = ("_slots", "expires")

    def __init__(self, slots: StartSlots, expires: float) -> None:
        self._slots = slots
        self.expires = expires

    def release(self) -> None:
        self._slots.release(self)


class StartSlots:
    """Hands out `total` slots, in the order of asking."""

    def __init__(self, total: int, *, hold: float = START_SLOT_HOLD) -> None:
        self.total = total
        self._hold = hold
        self._held: set[Slot] = set()
        self._turn = trio.Lock()
        self._freed = trio.Event()

    @property
    def held(self) -> int:
        return len(self._held)

    async def acquire(self) -> Slot:
        """Wait for a free slot, or for the oldest holder's time to be over."""
        # Only the first in the line looks for a slot; the lock is fair and keeps the order.
        async with self._turn:
            while len(self._held) >= self.total:
                oldest = min(self._held, key=lambda slot: slot.expires)
                self._freed = trio.Event()
                with trio.move_on_at(oldest.expires):
                    await self._freed.wait()
                if trio.current_time() >= oldest.expires:
                    self._held.discard(oldest)
            slot = Slot(self, trio.current_time() + self._hold)
            self._held.add(slot)
            return slot

    def release(self, slot: Slot) -> None:
        self._held.discard(slot)
        self._freed.set()
