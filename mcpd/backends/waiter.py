"""A request in flight at a backend, as the task that waits for it sees it.

No timer, event or cancel scope belongs to a request: the task parks itself and whoever knows the outcome
wakes it directly; the deadline is an entry that one sweeping task looks at. (Performance: each of those
costs more than the rest of a call.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from mcpd.protocol.capabilities import NOTHING
from mcpd.protocol.jsonrpc import Message
from mcpd.protocol.peer import Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.protocol.calls import Call


class Waiter(Pending):
    """A pending request with its deadline and the task that waits."""

    __slots__ = ("_task", "abort", "begun", "deadline", "final", "headers", "idle", "on_expire", "outcome", "refused")

    def __init__(
        self,
        method: str,
        call: Call | None,
        *,
        idle: float,
        final: float,
        on_expire: Callable[[Waiter], None],
    ) -> None:
        self.method = method
        self.call = call
        self.id = 0
        self.questions = 0
        self.standing = False
        self.begun = now = trio.current_time()
        self.idle = idle
        self.final = now + final
        self.deadline = now + min(idle, final)
        self.on_expire = on_expire
        self.headers = b""
        """Header lines that go with this request alone, over HTTP."""
        self.refused = NOTHING
        """Capabilities that the backend wanted to use for this request and its client had not declared."""
        self.outcome: Message | BaseException | None = None
        self.abort: Callable[[], None] | None = None
        """Breaks off the I/O that the waiting task is in, when it waits by I/O and not by `wait`."""
        self._task: trio.lowlevel.Task | None = None

    def expire(self) -> None:
        """The deadline passed (called by the sweep)."""
        self.on_expire(self)

    def alive(self) -> None:
        """Progress: the idle time starts again, up to the final deadline."""
        self.deadline = min(trio.current_time() + self.idle, self.final)

    def again(self, method: str | None = None, *, idle: float | None = None) -> None:
        """Make it ready to be sent once more, perhaps as another method, within the same final deadline."""
        self.method = method or self.method
        self.idle = self.idle if idle is None else idle
        self.headers = b""
        self.outcome = None
        self.alive()

    def settle(self, outcome: Message | BaseException) -> None:
        """Make the outcome known; only the first one counts."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None
        elif self.abort is not None:
            self.abort()

    async def wait(self) -> Message:
        """Wait for the response. Raises: what it was settled with, if that is an exception."""
        if self.outcome is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._unpark)
        return self.result()

    def result(self) -> Message:
        """The response it was settled with. Raises: what it was settled with, if that is an exception."""
        outcome = self.outcome
        if isinstance(outcome, Message):
            return outcome
        assert outcome is not None
        # One failure may end many requests: without this it would collect, and keep, the frames of them all.
        raise outcome.with_traceback(None)

    def _unpark(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
