"""What each server said on stderr lately, whichever of its processes it was, and when they began and ended.

Theory of operation. Each server has a log, a ring of lines bounded in bytes; each process writes to it through a
`Voice` of its own. Lines have one number for all servers, so that several logs can be read as one, with a cursor.

Rules.
1. Lines are kept as they came, and are made printable and free of secrets when somebody reads them: a server may write
   a hundred thousand a second, and nearly nobody reads. They are freed of what was secret when their process started.
2. All logs together are bounded: with many servers each has less. What is dropped is counted, and readers see how much.
3. A cursor names the run, as that of events does; an upgrade in place is no end of it.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import trio

from mcpd.events import BadCursor, split_cursor
from mcpd.supervisor.stderr import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

SERVER_BYTES: Final = 512 << 10
"""Of one server: some two thousand lines, which is more than anybody scrolls through and holds several tracebacks."""

ALL_BYTES: Final = 16 << 20
"""Of all servers: from 33 on each has less."""

OVERHEAD: Final = 200
"""Bytes that a line costs besides its own, as Python keeps it."""

LINES_MAX: Final = 10_000
"""Lines that can be asked for: more than a log has."""

READ_MAX: Final = 500
"""Lines that are handed to a follower at once."""


class Line(NamedTuple):
    """`at` is in seconds since the epoch; `kind` is `line`, a `note` of mcpd's, or a `gap`."""

    number: int
    at: float
    kind: str
    text: bytes
    voice: Voice

    def describe(self) -> dict[str, object]:
        """As JSON has it."""
        text = self.voice.redact(printable(self.text))
        return {
            "at": round(self.at, 3),
            "server": self.voice.server or None,
            "kind": self.kind,
            "pid": self.voice.pid,
            "text": text,
        }


class Reading(NamedTuple):
    """What a reader gets, the oldest first, and its cursor after it."""

    lines: list[Line]
    cursor: str


class Voice:
    """One process of a server; `pid` is None before there is one, and for what mcpd says of the server."""

    __slots__ = ("_log", "pid", "redact", "server")

    def __init__(self, log: ServerLog, redact: Callable[[str], str], pid: int | None = None) -> None:
        self._log = log
        self.server = log.server
        self.redact = redact
        self.pid = pid

    def say(self, lines: Sequence[bytes]) -> None:
        """The process wrote these lines."""
        self._log.add("line", lines, self)

    def note(self, text: str) -> None:
        """mcpd says something about it."""
        self._log.add("note", (text.encode(),), self)


class LineState(msgspec.Struct, frozen=True, array_like=True):
    """A line for the next program, free of secrets already."""

    number: int
    at: float
    kind: str
    server: str
    pid: int | None
    text: bytes


class LogsState(msgspec.Struct, frozen=True, kw_only=True):
    """All logs, for the next program in the same process."""

    run: str
    last: int
    dropped: dict[str, tuple[int, int]]
    """By server: how many lines in all, and the number of the last of them."""
    lines: tuple[LineState, ...]


class ServerLog:
    """The log of one server."""

    def __init__(self, server: str, logs: Logs) -> None:
        self.server = server
        self.lines: deque[Line] = deque()
        self.dropped = 0
        """Lines that were dropped since the start."""
        self.lost = 0
        """The number of the last one."""
        self._logs = logs
        self._size = 0

    def add(self, kind: str, texts: Iterable[bytes], voice: Voice) -> None:
        """Append lines, and drop the oldest for them if need be."""
        logs, at = self._logs, time.time()
        for text in texts:
            logs.last += 1
            self.lines.append(Line(logs.last, at, kind, text, voice))
            self._size += len(text) + OVERHEAD
        while self._size > logs.share and self.lines:
            old = self.lines.popleft()
            self._size -= len(old.text) + OVERHEAD
            self.dropped += 1
            self.lost = old.number
        logs.tell()

    def put(self, line: Line) -> None:
        """Append a line of an earlier program."""
        self.lines.append(line)
        self._size += len(line.text) + OVERHEAD

    def since(self, number: int) -> list[Line]:
        """Those after this one, the oldest first; after a gap, if some of them were dropped."""
        found = []
        for line in reversed(self.lines):
            if line.number <= number:
                break
            found.append(line)
        if number < self.lost:
            count = f"{self.dropped} earlier lines were dropped" if not number else "lines were dropped"
            at = self.lines[0].at if self.lines else time.time()
            found.append(Line(self.lost, at, "gap", count.encode(), Voice(self, _nothing)))
        found.reverse()
        return found


class Logs:
    """The logs of all servers."""

    def __init__(self) -> None:
        self.run = secrets.token_hex(6)
        self.last = 0
        """The number of the newest line."""
        self.share = SERVER_BYTES
        """Bytes that each server may have (rule 2)."""
        self._logs: dict[str, ServerLog] = {}
        self._more: trio.Event | None = None

    def voice(self, server: str, redact: Callable[[str], str], pid: int | None = None) -> Voice:
        """For a process of a server, or for mcpd where it speaks about it."""
        log = self._logs.get(server)
        if log is None:
            log = self._logs[server] = ServerLog(server, self)
            self._divide()
        return Voice(log, redact, pid)

    def retain(self, servers: Collection[str]) -> None:
        """Forget the logs of all others. What a process of theirs says from now on nobody reads."""
        for server in set(self._logs).difference(servers):
            del self._logs[server]
        self._divide()

    def _divide(self) -> None:
        self.share = min(SERVER_BYTES, ALL_BYTES // max(1, len(self._logs)))

    # ---- reading -------------------------------------------------------------------------------------------

    def tail(self, servers: Collection[str], count: int) -> Reading:
        """The last lines of these servers, of all of them if none is named."""
        found = list(merge(*(log.since(0) for log in self._chosen(servers))))
        return Reading(found[-count:] if count else [], f"{self.run}.{self.last}")

    def read(self, cursor: str, servers: Collection[str]) -> Reading:
        """What they said after `cursor`, a little at a time. Raises: BadCursor."""
        run, number = split_cursor(cursor)
        lines: list[Line] = []
        if run and (run != self.run or number > self.last):
            number = 0
            text = b"mcpd was started anew; what came last before that is not kept"
            lines.append(Line(0, time.time(), "gap", text, Voice(ServerLog("", self), _nothing)))
        merged = merge(*(log.since(number) for log in self._chosen(servers)))
        found = list(islice(merged, READ_MAX))
        last = found[-1].number if len(found) == READ_MAX else self.last
        return Reading(lines + found, f"{self.run}.{last}")

    async def wait_more(self, cursor: str) -> None:
        """Return when any server has said something since `cursor`, or when all are to look."""
        if cursor == f"{self.run}.{self.last}":
            if self._more is None:
                self._more = trio.Event()
            await self._more.wait()

    def tell(self) -> None:
        """Somebody said something, or those who wait are to look."""
        if self._more is not None:
            self._more.set()
            self._more = None

    def _chosen(self, servers: Collection[str]) -> list[ServerLog]:
        return [log for name, log in self._logs.items() if not servers or name in servers]

    # ---- from one program to the next ----------------------------------------------------------------------

    def capture(self) -> LogsState:
        """Everything as it is now. Changes nothing."""
        lines = tuple(
            LineState(line.number, line.at, line.kind, line.voice.server, line.voice.pid, _clear(line))
            for line in merge(*(log.lines for log in self._logs.values()))
        )
        dropped = {name: (log.dropped, log.lost) for name, log in self._logs.items()}
        return LogsState(run=self.run, last=self.last, dropped=dropped, lines=lines)

    def inherit(self, state: LogsState, redact: Callable[[str], str]) -> None:
        """Go on where another program was; called before anybody speaks here."""
        self.run, self.last = state.run, state.last
        voices: dict[tuple[str, int | None], Voice] = {}
        for name, (dropped, lost) in state.dropped.items():
            self.voice(name, redact)
            self._logs[name].dropped, self._logs[name].lost = dropped, lost
        for line in state.lines:
            key = line.server, line.pid
            voice = voices.get(key) or voices.setdefault(key, self.voice(line.server, redact, line.pid))
            self._logs[line.server].put(Line(line.number, line.at, line.kind, line.text, voice))


def _clear(line: Line) -> bytes:
    return line.voice.redact(printable(line.text)).encode()


def _nothing(text: str) -> str:
    return text


__all__ = ["BadCursor", "Line", "Logs", "LogsState", "Reading", "Voice"]
