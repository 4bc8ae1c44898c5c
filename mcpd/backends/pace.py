"""When a server that failed is tried again, and what its callers are told meanwhile.

The policy is `supervisor.restart`; here it meets the errors of links. A `ManagedBackend` has one for the link that it
keeps, and `Instances` and `Leases` have theirs for the links that calls open: without it a server that dies at once
would be started by every call.

Rules.
1. A link that calls open is opened again at once after a single failure; after more of them as late as the policy says.
   A call waits for that moment if it is near (NEAR), and is refused with the last failure if it is not.
2. Refused or not, now and then a call makes an attempt happen before its time, as the policy allows (`wake`).
3. `never` and `on-failure` are about restarts of mcpd's own accord; a call that needs a link asks for one.
"""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from mcpd.errors import BackendError, BackendUnavailable, RpcError
from mcpd.supervisor.restart import History, Mode, RestartPolicy, Restarts
from mcpd.supervisor.states import Event

if TYPE_CHECKING:
    from mcpd.config.model import Restart

log = logging.getLogger("mcpd.backends")

NEAR: Final = 2.0
"""Seconds that a call waits for the next attempt to begin; with the default policy the first four failures in a row are
waited for, and only a server that keeps failing is seen by callers."""


class Pace:
    """The history of failures of one server's links of one sort."""

    def __init__(self, name: str, policy: RestartPolicy) -> None:
        self.name = name
        self.error: RpcError | None = None
        """Why it failed the last time; None while all is well."""
        self.held: BackendUnavailable | None = None
        """Why there is no next time, for now."""
        self._restarts = Restarts(policy)
        self._looping = False

    @classmethod
    def for_calls(cls, name: str, restart: Restart) -> Pace:
        """For links that only calls open (rule 3)."""
        return cls(name, replace(RestartPolicy.of(restart), mode=Mode.ALWAYS))

    def failed(self, failure: RpcError, *, uptime: float = 0.0, wanted: bool = False) -> float | None:
        """Seconds until the next attempt, None for no more. `uptime`: for how long it had been ready, 0 if it never
        was; `wanted`: it worked, and then ended as it wanted to.
        """
        self.error = failure
        delay = self._restarts.next_delay(
            now=trio.current_time(),
            failed=not wanted,
            uptime=uptime,
            random=random.random(),
            retry_after=getattr(failure, "retry_after", None),
            slow=getattr(failure, "needs_operator", False),
        )
        if self.looping and not self._looping:
            log.error("backend=%s event=crash_looping kind=%s reason=%s", self.name, kind_of(failure), failure)
        self._looping = self.looping
        return delay

    def judge(self, failure: RpcError, *, uptime: float, was_ready: bool, wanted: bool) -> tuple[Event, float | None]:
        """What a failure of the link that is kept means for the server, and `failed`'s delay."""
        delay = self.failed(failure, uptime=uptime, wanted=wanted)
        event, level, shown = Event.LOST if was_ready else Event.FAILED, logging.WARNING, "backing-off"
        if getattr(failure, "needs_operator", False):
            event, level, shown = Event.NEEDS_OPERATOR, logging.ERROR, "needs_operator"
        elif delay is None:
            event, level, shown = Event.ENDED, logging.ERROR, "ended"
        retry = f" retry_in={delay:.1f}" if delay is not None else ""
        log.log(level, "backend=%s event=%s kind=%s%s reason=%s", self.name, shown, kind_of(failure), retry, failure)
        return event, delay

    def worked(self) -> None:
        """It is usable; whether it stays so is judged by its uptime when it fails."""
        self.error = None

    def answered(self) -> None:
        """It did what it is for, and that is forgiven which came before."""
        if self.error is not None:
            self.error = None
            self._restarts.reset()

    def capture(self) -> History:
        """What another program needs to know of it. Changes nothing."""
        return self._restarts.history(now=trio.current_time())

    def inherit(self, history: History) -> None:
        """Go on from where another program was: an attempt is made at once, and what comes of it counts as before."""
        self._restarts.remember(history, now=trio.current_time())
        self._looping = self.looping

    def wake(self) -> bool:
        """Whether a call may make an attempt happen before its time."""
        return self._restarts.wake(now=trio.current_time())

    def patience(self) -> float:
        """How long a call that needs a link now waits before it opens one, in seconds (rule 1).

        Raises: BackendUnavailable, when the next attempt is too far away.
        """
        due = self.due_in
        if due <= NEAR:
            return due
        if self.wake():
            return 0.0
        raise self.unavailable("backing-off")

    @property
    def due_in(self) -> float:
        """Seconds until the next attempt; 0 when it is due, or when nothing is the matter."""
        next_at = self._restarts.next_at
        return 0.0 if next_at is None or self.error is None else max(0.0, next_at - trio.current_time())

    @property
    def looping(self) -> bool:
        """Whether it is crash-looping."""
        return self._restarts.looping

    def unavailable(self, state: str) -> BackendUnavailable:
        """What a call is told that cannot be sent."""
        if self.held is not None:
            return self.held
        error = self.error
        due = f"; it is tried again in {self.due_in:.0f} s" if self.due_in >= 1 else ""
        if isinstance(error, BackendError):
            return BackendUnavailable(
                self.name,
                f"it is {state}; the last failure: {error.reason}",
                remedy=error.remedy + due if error.remedy else due[2:],
                detail=error.detail,
                kind=error.kind,
            )
        reason = f": {error.message}" if error is not None else ""
        return BackendUnavailable(self.name, f"it is {state}{reason}", remedy=f"try again in a moment{due}")

    def describe(self) -> dict[str, object]:
        """What operators are told of it."""
        about: dict[str, object] = {"crash_looping": self.looping}
        error = self.held or self.error
        if error is None:
            return about
        about["error"] = error.message
        if isinstance(error, BackendError):
            about["failure"] = {"kind": error.kind, "reason": error.reason, "remedy": error.remedy}
        if self.due_in:
            about["next_attempt_in"] = round(self.due_in, 1)
        return about


def kind_of(failure: RpcError) -> str:
    """What went wrong, in a word."""
    return failure.kind if isinstance(failure, BackendError) else "error"
