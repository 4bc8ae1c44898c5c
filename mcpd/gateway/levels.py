"""The log levels that clients want, told to the backends: the lowest of all, and each client's own.

Theory of operation. A backend that serves many clients gets one level, that of the client who wants most;
what is too little for a client is filtered where a message is attributed. Each backend has a task that tells
it of one change after the other, so a slow one is not given up on and delays nobody. When a client leaves,
the level follows.

Source: "Logging" of 2024-11-05 to 2025-11-25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.protocol.calls import LOG_LEVELS
from mcpd.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcpd.backends.base import Backend
    from mcpd.gateway.sessions import Session, Sessions

LEVEL_WAIT: Final = 1.0
"""Seconds that setLevel waits for backends to take the level, so that it holds for the client's next call."""

RESTING: Final = LOG_LEVELS.index("info")
"""The level when the last client that wanted one has left. MCP cannot take a level back; most servers
start at this one."""

NOBODY: Final = SessionKey("")
"""Stands for the client that left, whose own level concerns no link any more."""


class Levels:
    """What clients want to hear of the backends' logs."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._counts = [0] * len(LOG_LEVELS)
        self._followers: list[Follower] = []
        # Followers come and go with the backends: `run` opens the nursery and outlives them all.
        self._nursery: trio.Nursery | None = None

    def use(self, backends: Sequence[Backend]) -> None:
        """Take the backends. One that is new is told of every client; one that is not among them hears no more."""
        former = {follower.backend: follower for follower in self._followers}
        self._followers = [former.pop(b) if b in former else self._follow(b) for b in backends]
        for follower in former.values():
            follower.end()

    async def run(self) -> None:
        """Tell the backends, for ever."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for follower in self._followers:
                nursery.start_soon(follower.run)
            await trio.sleep_forever()

    def _follow(self, backend: Backend) -> Follower:
        follower = Follower(backend, self)
        for session in self._sessions:
            if session.caller.log_level is not None:
                follower.note(session.caller.key)
        if self._nursery is not None:
            self._nursery.start_soon(follower.run)
        return follower

    @property
    def lowest(self) -> int:
        """Index into LOG_LEVELS of what the client wants who wants most."""
        return next((level for level, count in enumerate(self._counts) if count), RESTING)

    async def set(self, session: Session, level: int) -> None:
        """A client wants this level; returns when the backends know, or after LEVEL_WAIT."""
        if session.left:
            return
        self.note(session, level)
        with trio.move_on_after(LEVEL_WAIT):
            for follower in self._followers:
                await follower.wait_quiet()

    def note(self, session: Session, level: int) -> None:
        """`set`, for a client that does not wait until the backends know."""
        former = session.caller.log_level
        if former is not None:
            self._counts[former] -= 1
        self._counts[level] += 1
        session.caller = msgspec.structs.replace(session.caller, log_level=level)
        for follower in self._followers:
            follower.note(session.caller.key)

    def left(self, session: Session) -> None:
        """A session ended or left memory: what only it wanted is not wanted any more."""
        level = session.caller.log_level
        if level is None:
            return
        before = self.lowest
        self._counts[level] -= 1
        for follower in self._followers:
            follower.drop(session.caller.key)
            if self.lowest != before:
                follower.note(NOBODY)

    def news(self, key: SessionKey) -> tuple[str, SessionKey, str]:
        """What a backend is to be told now about this client: the lowest level, whose own, and that."""
        session = self._sessions.by_key(key)
        lowest = self.lowest
        if session is None or session.caller.log_level is None:
            return LOG_LEVELS[lowest], NOBODY, LOG_LEVELS[lowest]
        return LOG_LEVELS[lowest], key, LOG_LEVELS[session.caller.log_level]


class Follower:
    """Keeps one backend informed."""

    def __init__(self, backend: Backend, levels: Levels) -> None:
        self.backend = backend
        self._levels = levels
        self._scope = trio.CancelScope()
        self._due: dict[SessionKey, None] = {}
        self._noted = trio.Event()
        self._quiet = trio.Event()
        self._quiet.set()

    def note(self, key: SessionKey) -> None:
        """This client's level changed."""
        self._due[key] = None
        self._noted.set()
        if self._quiet.is_set():
            self._quiet = trio.Event()

    def drop(self, key: SessionKey) -> None:
        """This client left."""
        self._due.pop(key, None)

    async def wait_quiet(self) -> None:
        """Return when the backend knows everything."""
        await self._quiet.wait()

    def end(self) -> None:
        """The backend is one no more; nobody waits for it to know anything."""
        self._scope.cancel()
        self._quiet.set()

    async def run(self) -> None:
        """Tell the backend what is due, until `end`."""
        with self._scope:
            while True:
                await self._noted.wait()
                self._noted = trio.Event()
                while self._due:
                    key = next(iter(self._due))
                    del self._due[key]
                    await self.backend.set_level(*self._levels.news(key))
                self._quiet.set()
