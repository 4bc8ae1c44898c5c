"""The exec itself, and the first thing the new program does.

Theory of operation. `execve` keeps the process: its pid, its children, its open descriptors, blocked and pending
signals. It runs no cleanup, so nothing is stopped, closed or said on the way out, and if it fails nothing has happened.
The state travels in sealed memory, whose descriptor an environment variable names.

Rules.
1. Between the capture of the state and the exec nothing else runs.
2. A signal that comes meanwhile is not lost: it is the new program's. The kernel keeps it for that as long as every
   thread has it blocked, so those that wait for work are given the work of not taking it; what one of them took before
   is sent again. (One that is at work, and writes a catalogue to the disk, may still take a signal with it.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from mcpd.upgrade.check import UpgradeRefused, command
from mcpd.upgrade.state import State, StateRefused, decode, encode, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LEAVING: Final = "MCPD_TAKEOVER"
"""Environment variable: the descriptor of the state that is to be taken up."""

HELD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
"""Signals that mean something to mcpd."""

HOLD_WAIT: Final = 1.0
"""Seconds for a thread to block them; it takes microseconds once the thread runs. Without it a signal might be lost, an
upgrade that waited for ever would be worse."""


def leap(capture: Callable[[], State], came: list[int], environ: Mapping[str, str]) -> NoReturn:
    """Become the new program, to which the signals in `came` are sent, with `environ` in its environment. Inside
    `signals_held`.

    Raises: UpgradeRefused; then nothing has changed.
    """
    try:
        state = capture()
        memory = seal(encode(state))
    except OSError as error:
        raise UpgradeRefused(f"the state cannot be written down: {error}") from None
    travelling = [memory, *state.descriptors()]
    try:
        for fd in travelling:
            os.set_inheritable(fd, True)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it, which is no reason to stay
                stream.flush()
        with others_held():
            while came:
                signal.raise_signal(came.pop())  # it is blocked, so it waits for the new program
            os.execve(sys.executable, command(), {**os.environ, **environ, LEAVING: str(memory)})
    except OSError as error:
        for fd in travelling:
            with contextlib.suppress(OSError):  # one of them may be what is wrong
                os.set_inheritable(fd, False)
        os.close(memory)
        raise UpgradeRefused(f"{sys.executable} cannot take over: {error}") from None
    raise AssertionError("execve returned")


def arrive() -> State | None:
    """What the program before this one left; None if there was none. Raises: StateRefused."""
    text = os.environ.pop(LEAVING, None)
    if text is None:
        return None
    if not text.isdecimal():
        raise StateRefused(f"{LEAVING} is a descriptor, not {text!r}")
    state = decode(unseal(int(text)))
    if state.pid != os.getpid():
        raise StateRefused(f"{LEAVING} is meant for process {state.pid}")
    for fd in state.descriptors():
        os.set_inheritable(fd, False)
    return state


def release_signals() -> None:
    """Whatever was sent on the way arrives now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


@contextlib.contextmanager
def signals_held() -> Iterator[list[int]]:
    """No handler of mcpd's runs. The main thread takes no signal; what another one takes is in the list, and comes back
    after the block.
    """
    came: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    handlers = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in HELD}
    try:
        yield came
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def others_held() -> Iterator[None]:
    """No other thread that was waiting for work takes a signal. Inside `signals_held`. Blocks, for a moment."""
    over, held = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        held.release()
        over.wait()
        # Also in a thread that was made for this, and has the mask of the one that made it: it may start children.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)

    try:
        others = threading.active_count() - 1
        for _ in range(others):
            trio.lowlevel.start_thread_soon(hold, lambda _outcome: None)
        for _ in range(others):
            held.acquire(timeout=HOLD_WAIT)
        yield
    finally:
        over.set()
