"""The daemon for a whole module of tests, in a thread with an event loop of its own; and small tools for such
tests.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.fixtures.peer import ROOT, fixture_command, start_daemon

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.fixtures.peer import Running

START_LIMIT = 30.0
"""Seconds for the daemon to start; more is a failure."""


def everything(*arguments: str, **members: Any) -> dict[str, Any]:
    """A server's entry in the configuration: the everything server on stdio, its names as they are."""
    command, *args = fixture_command("everything", *arguments)
    return {"command": command, "args": args, "prefix": "", **members}


def mcpd(*arguments: str) -> list[str]:
    """The argv that runs mcpd."""
    return [sys.executable, "-m", "mcpd", *arguments]


@contextmanager
def daemon_in_background(config: dict[str, Any], **options: Any) -> Iterator[Running]:
    """`start_daemon` for tests that each run a loop of their own."""
    ready = threading.Event()
    found: list[Running] = []
    failed: list[BaseException] = []
    stop: list[Callable[[], object]] = []

    async def run() -> None:
        with trio.CancelScope() as scope:
            token = trio.lowlevel.current_trio_token()
            stop.append(lambda: token.run_sync_soon(scope.cancel))
            async with start_daemon(config, **options) as running:
                found.append(running)
                ready.set()
                await trio.sleep_forever()

    def main() -> None:
        try:
            trio.run(run, strict_exception_groups=True)
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=main)
    thread.start()
    ready.wait(START_LIMIT)
    try:
        if failed:
            raise failed[0]
        yield found[0]
    finally:
        if stop and thread.is_alive():
            stop[0]()
        thread.join()


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], timeout: float = 30.0) -> None:
    """Waits for something that happens in another process and cannot be heard of."""
    with trio.fail_after(timeout):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await trio.sleep(0.02)


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[int]:
    """Its direct children, whichever of its threads started them."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue  # that thread has ended; another one has its children now
    return found


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
"""For processes that are started in another directory."""
