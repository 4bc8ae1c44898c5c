"""Processes the benchmark starts: pinned, accounted for through /proc, and stopped with all they started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ECHO_NAME = "bench-echo"  # the kernel keeps 15 characters of a process's name
TERM_SECONDS = 5.0  # a gateway that ends ten children takes a second or two
KILL_SECONDS = 5.0
POLL_SECONDS = 0.005
LOG_TAIL = 600  # characters of a peer's own output quoted when it fails


class Failure(Exception):
    """A peer could not be installed, started or measured; the text is what the report says about it."""


def choose_cpus() -> tuple[int, int]:
    """The CPU for the gateway and the one for load and backends; the same one when there is no second."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[-1]


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """What is started inside inherits the CPU; no preexec_fn, which would fork Python code."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def born(pid: int) -> str:
    """The start time field of a process: with the pid it names a process for good."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def descendants(pid: int) -> list[int]:
    """The process and everything below it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                found += [int(c) for c in Path(f"/proc/{parent}/task/{task}/children").read_text().split()]
    return found


class Process:
    """One program in a session of its own, its output in a log file.

    Resources: leaving the `with` block ends the program and everything it had started, by pid.
    """

    def __init__(self, argv: list[str], *, log: Path, cpu: int | None = None, cwd: Path | None = None) -> None:
        self.argv, self.log = argv, log
        self._family: dict[int, str] = {}
        stream: IO[bytes] = log.open("ab")
        with stream, pinned(cpu):
            try:
                self.popen = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as e:
                raise Failure(f"cannot run {argv[0]}: {e}") from e
        self.pid = self.popen.pid
        self.started = time.monotonic()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tree(self) -> list[int]:
        """The program with its helpers, without the echo backends: the part that is the gateway."""
        return [pid for pid in descendants(self.pid) if name_of(pid) != ECHO_NAME]

    def cpu_ns(self) -> int:
        """CPU time of every live task of `tree()`, from the scheduler's own account."""
        total = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        return total

    def memory_kib(self, field: str = "Pss") -> int:
        """`Pss` or `Rss` of `tree()`."""
        total = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith(field + ":"):
                        total += int(line.split()[1])
        return total

    def tail(self) -> str:
        """The end of what the program printed, on one line."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return " ".join(text[-LOG_TAIL:].split())

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Polls until `ready()`.

        Raises: Failure when the program ends first or the time is over.
        """
        end = time.monotonic() + seconds
        while not ready():
            if self.popen.poll() is not None:
                raise Failure(f"ended with status {self.popen.returncode}: {self.tail()}")
            if time.monotonic() > end:
                raise Failure(f"not ready after {seconds:.0f} s: {self.tail()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """TERM, then KILL, then KILL for whatever of its family is left; nothing for what is gone."""
        self._family |= {pid: born(pid) for pid in descendants(self.pid)}
        for sign, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            if self.popen.poll() is not None:
                break
            self.popen.send_signal(sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(seconds)
        for pid, birth in self._family.items():
            if birth and born(pid) == birth:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def accepts(port: int) -> bool:
    """Whether something listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True
