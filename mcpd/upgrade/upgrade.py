"""One upgrade in place, from the wish for it to the exec; or to the reason why the old program goes on.

Theory of operation. The new code shows that it could take over (`check`). Then requests are held back where they are
not begun, and what is in flight may finish, as long as a shutdown would let it: that is all that a client can notice.
When nothing is in flight any more, what is left is written down and handed to the new program by exec (`leap`).

Rules.
1. Whatever fails before the exec changes nothing: the old program goes on, and says why.
2. A call is never broken off for an upgrade. If one takes longer than the grace period, or waits for a person, the
   upgrade is called off.
3. What mcpd has in flight of its own is waited for no longer than SOON: one backend that hangs must not keep the others
   from being upgraded, and the new program asks again.
4. Answers and notifications pass while requests are held back: a call in flight may wait for them. While one is parked
   nothing is held back, for the answer that it waits for is a request; nor when mcpd is to stop.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from mcpd import __version__
from mcpd.gateway import handover
from mcpd.upgrade.check import UpgradeRefused, check
from mcpd.upgrade.leap import leap, signals_held
from mcpd.upgrade.state import State, encode, seal

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence

    from mcpd.gateway.gateway import Gateway
    from mcpd.roster import Roster
    from mcpd.supervisor.supervisor import Supervisor
    from mcpd.systemd.manager import Manager
    from mcpd.wire.http_server import HttpServer

log = logging.getLogger("mcpd")

LOOK: Final = 0.01
"""Seconds between two looks whether all is quiet. The end of a call tells nobody, which would cost each call something
for the sake of this one wait."""

SOON: Final = 2.0
"""Seconds for mcpd's own requests, most of which take milliseconds (rule 3)."""

TURNS: Final = 10
"""Of the scheduler, until a signal that was taken is acted upon: it passes a queue and a task."""

FAREWELL: Final = 0.5
"""Seconds for streams that cannot go on to be ended in good form."""


class Upgrade:
    """What has to pass to the new program, put together."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        roster: Roster,
        gateway: Gateway,
        server: HttpServer,
        sockets: Sequence[tuple[str, socket.socket]],
        manager: Manager,
        grace: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        self._stopping = stopping
        self._supervisor = supervisor
        self._roster = roster
        self._gateway = gateway
        self._server = server
        self._sockets = sockets
        self._manager = manager
        self._grace = grace
        self._running = False

    async def heed(self, signals: AsyncIterator[int]) -> None:
        """Upgrade whenever a signal asks for it."""
        async for _ in signals:
            try:
                await self.run()
            except UpgradeRefused as refused:
                log.error("event=upgrade_refused effect=the running program goes on reason=%s", refused)
            except Exception:
                # A crash boundary: whatever is wrong with an upgrade must not be the end of what runs.
                log.exception("event=upgrade_refused effect=the running program goes on reason=internal error")

    async def run(self) -> NoReturn:
        """Become the new program. Raises: UpgradeRefused."""
        if self._running:
            raise UpgradeRefused("an upgrade is under way already")
        self._running = True
        try:
            log.info("event=upgrade_begun step=check")
            await self._check()
            await self._pause()
        finally:
            self._running = False
        raise AssertionError("the old program goes on only with a reason")

    def capture(self) -> State:
        """Everything as it is now. Nothing of it is changed."""
        sessions = handover.capture(self._gateway)  # first: it tells clients what they have not heard yet
        self._gateway.ledger.flush()
        return State(
            pid=os.getpid(),
            version=__version__,
            left_at=time.monotonic(),
            listeners=tuple((name, sock.fileno()) for name, sock in self._sockets),
            supervisor=self._supervisor.capture(),
            backends=tuple(backend.capture() for backend in self._roster.backends),
            connections=self._server.capture(),
            sessions=sessions,
            events=self._gateway.events.capture(),
            logs=self._gateway.logs.capture(),
        )

    async def _check(self) -> None:
        """See whether the new code could take over, with the state as it is while everything runs."""
        fd = seal(encode(self.capture()))
        try:
            await check(fd)
        finally:
            os.close(fd)

    async def _pause(self) -> NoReturn:
        """Hold requests back, wait until all is quiet, and go. Raises: UpgradeRefused, with everything going on."""
        gate = self._gateway.gate
        begun = trio.current_time()
        try:
            with trio.move_on_after(self._grace()):
                while not self._stopping():
                    if self._gateway.inputs.parked:
                        gate.open()
                    else:
                        gate.close()
                        if not self._at_work():
                            break
                    await trio.sleep(LOOK)
            self._require_quiet()
            with trio.move_on_after(SOON):
                while not all(each.inheritance.quiet for each in self._roster.backends):  # noqa: ASYNC110 - the same
                    await trio.sleep(LOOK)
            self._require_quiet()
            self._gateway.part()
            with trio.move_on_after(FAREWELL):
                while self._server.part():  # noqa: ASYNC110 - the same
                    await trio.sleep(LOOK)
            with signals_held() as came:
                for _ in range(TURNS):  # a signal that came before is acted upon
                    await trio.lowlevel.checkpoint()
                self._require_quiet()
                log.info("event=upgrade step=exec waited=%.3f", trio.current_time() - begun)
                # No await from here on: what is captured is how it is.
                leap(self.capture, came, self._manager.environ(os.getpid()))
        finally:
            gate.open()

    def _require_quiet(self) -> None:
        reasons = self._at_work()
        if reasons:
            raise UpgradeRefused(f"{reasons} after {self._grace():g} s (shutdown.grace); try again later")

    def _at_work(self) -> str:
        """What cannot pass to another program, in words; empty when that is nothing."""
        gateway = self._gateway
        if self._stopping():
            return "mcpd is stopping"
        if gateway.inputs.parked:
            return f"{gateway.inputs.parked} calls wait for input"
        if gateway.in_flight:
            return f"{gateway.in_flight} calls are still in flight"
        if busy := self._server.busy():
            return f"{busy} requests are still being answered"
        if asked := sum(bool(each.calls or each.questions) for each in gateway.sessions):
            return f"{asked} clients have calls or questions open"
        return "a process is just being started" if self._supervisor.making else ""
