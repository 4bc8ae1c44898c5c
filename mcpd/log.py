"""Logging: one line an event, as text or as JSON (`entries`), with secrets blanked out of every line.

To stderr; where that is the journal, to journald in its own words, so that `journalctl MCPD_SERVER=github -p warning`
finds what it should.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TextIO

from mcpd.entries import fields_of, json_of, timestamp
from mcpd.journal import Journal, is_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mcpd.entries import Entry

    Entries = Sequence[tuple[float, Entry]]
    """Times in seconds since the epoch, and what is said then."""

PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""From a level on → syslog's number; below all of them it is 7, debug."""
FORM: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
NAME_MAX: Final = 256
"""Characters of what is cleared of secrets once, and then remembered."""
NAMES_KEPT: Final = 1024
"""Names that are remembered so; some 100 KiB."""
METHOD_TOLD: Final = 20
PATH_TOLD: Final = 200
"""Characters of a request's method and path that are repeated: longer than any that there is."""
CALLERS_KEPT: Final = 64
"""Callers that `Seldom` tells apart. More that come at once share a turn, so that this many lines and one are the most
that there can be in its time, wherever they come from."""
HEAD: Final = re.compile(r"(?:backend=(?P<server>\S+) ?)?(?:event=(?P<event>[\w-]+)|(?P<stderr>stderr)=)?")
"""How our lines begin. What comes after may hold the words of others."""


class RedactingFormatter(logging.Formatter):
    """Formats a record and removes secrets from the result, tracebacks included."""

    def __init__(self, redact: Callable[[str], str], form: str = FORM, line_break: str = "\n  ") -> None:
        super().__init__(form, "%Y-%m-%dT%H:%M:%S%z")
        self._line_break = line_break
        self.use(redact)

    def use(self, redact: Callable[[str], str]) -> None:
        """Hide other secrets from now on."""
        self.redact = redact
        remembered = lru_cache(NAMES_KEPT)(self.clear)
        # Another function for other secrets: who remembers what it made with it makes it anew.
        self.clear_value: Callable[[str], str] = lambda text: (
            remembered(text) if len(text) <= NAME_MAX else self.clear(text)
        )
        """`clear`, for what may be a name, of which the same few come again and again."""

    def format(self, record: logging.LogRecord) -> str:
        return self.clear(super().format(record)).replace("\n", self._line_break)

    def clear(self, text: str) -> str:
        """The text without secrets."""
        return self.redact(text)

    def lines(self, name: str, level: int, entries: Entries) -> str:
        """Many entries at once, each a line."""
        head = f" {logging.getLevelName(level)} {name} "
        return "".join(f"{timestamp(at)}{head}{entry.text(self.clear_value)}\n" for at, entry in entries)


class JsonFormatter(RedactingFormatter):
    """Formats a record as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        cleared = {name: self.clear(value) if isinstance(value, str) else value for name, value in fields.items()}
        return json_of(_head(record.created, record.levelno, record.name), _renamed(cleared))

    def lines(self, name: str, level: int, entries: Entries) -> str:
        level_name, clear = logging.getLevelName(level).lower(), self.clear_value
        return "".join(
            json_of({"time": timestamp(at), "level": level_name, "logger": name}, entry.fields(clear)) + "\n"
            for at, entry in entries
        )


def _head(at: float, level: int, name: str) -> dict[str, object]:
    return {"time": timestamp(at), "level": logging.getLevelName(level).lower(), "logger": name}


def _renamed(fields: Mapping[str, object]) -> dict[str, object]:
    """With the word for a server that operators use everywhere else."""
    return {"server" if key == "backend" else key: value for key, value in fields.items()}


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes lines to stderr."""

    def __init__(self, formatter: RedactingFormatter) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(formatter)
        self.form = formatter

    def write_entries(self, name: str, level: int, entries: Entries) -> None:
        """Many entries at once."""
        try:
            self.stream.write(self.form.lines(name, level, entries))
            self.flush()
        except (OSError, ValueError):
            pass  # nobody reads them, as with any other line


class JournalHandler(logging.Handler):
    """Sends records to journald; what it does not take goes to stderr."""

    def __init__(self, journal: Journal, redact: Callable[[str], str], fallback: StderrHandler) -> None:
        super().__init__()
        # Level, time and process are fields of every entry.
        self.setFormatter(RedactingFormatter(redact, "%(message)s", "\n"))
        self._journal = journal
        self.fallback = fallback
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self._send(self._fields(record)):
            self.fallback.handle(record)

    def write_entries(self, name: str, level: int, entries: Entries) -> None:
        """Many entries, one after the other."""
        formatter = self.formatter
        assert isinstance(formatter, RedactingFormatter)
        for at, entry in entries:
            message = entry.text(formatter.clear_value)
            if not self._send({**_named(message), "MESSAGE": message, **_base(level), "LOGGER": name}):
                self.fallback.write_entries(name, level, [(at, entry)])

    def _send(self, fields: dict[str, str]) -> bool:
        """Whether it is written, or given up; if not, it is to go elsewhere."""
        try:
            if self._dropped:
                text = f"event=log_dropped entries={self._dropped} reason='journald did not take them in time'"
                self._journal.send({**_base(logging.WARNING), "MESSAGE": text, "MCPD_EVENT": "log_dropped"})
                self._dropped = 0
            self._journal.send(fields)
        except TimeoutError:
            # stderr ends in the same journald, and would block without end.
            self._dropped += 1
        except OSError:
            return False
        return True

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        message = self.format(record)
        return {
            "MESSAGE": message,
            **_base(record.levelno),
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            "LOGGER": record.name,
            **_named(message),
        }


def _named(message: str) -> dict[str, str]:
    """What can be searched for."""
    head = HEAD.match(message)
    fields = {}
    if head is not None and head["server"]:
        fields["MCPD_SERVER"] = head["server"]
    if head is not None and (event := head["event"] or head["stderr"]):
        fields["MCPD_EVENT"] = event
    return fields


def _base(level: int) -> dict[str, str]:
    priority = next((number for at, number in PRIORITIES if level >= at), 7)
    return {"PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "mcpd"}


class Seldom:
    """What others can have logged as often as they like is logged once in `every` seconds for each of them: so nobody
    fills the log, or hides behind somebody who tries to."""

    def __init__(self, every: float, kept: int = CALLERS_KEPT) -> None:
        self._every = every
        self._kept = kept
        self._callers: dict[str, tuple[float, int]] = {}
        """When each was logged last, and how often not since; "" is whoever else there is."""

    def suppressed(self, caller: str, now: float) -> int | None:
        """How many times this caller was not logged since the last time; None if it is not logged now either."""
        if caller not in self._callers and len(self._callers) >= self._kept:
            self._forget(now)
            if len(self._callers) >= self._kept:
                caller = ""
        last, untold = self._callers.get(caller, (-math.inf, 0))
        if now < last + self._every:
            self._callers[caller] = last, untold + 1
            return None
        self._callers[caller] = now, 0
        return untold

    def _forget(self, now: float) -> None:
        """Make room. What was not told of those that go is told of whoever else there is."""
        gone = {caller: untold for caller, (last, untold) in self._callers.items() if now >= last + self._every}
        for caller in gone:
            del self._callers[caller]
        if lost := sum(gone.values()):
            self._callers[""] = -math.inf, lost


def write_entries(name: str, level: int, entries: Entries) -> None:
    """Write what a logger of this name has to say, many entries at once: for one line a call, a record each would cost
    several times as much as all else that is done for it.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, (StderrHandler, JournalHandler)):
            handler.write_entries(name, level, entries)


def redact_with(redact: Callable[[str], str]) -> None:
    """Hide other secrets from now on, in what `configure` set up."""
    for handler in logging.getLogger().handlers:
        for each in (handler, getattr(handler, "fallback", handler)):
            if isinstance(each.formatter, RedactingFormatter):
                each.formatter.use(redact)


def configure(level: str, redact: Callable[[str], str], form: str = "text") -> None:
    """Send mcpd's log where it belongs, at this level (debug, info, warning, error) and in this form (text, json)."""
    stderr = StderrHandler(_formatter(form, redact))
    handler = JournalHandler(Journal(), redact, stderr) if _in_journal() else stderr
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mcpd").setLevel(level.upper())


def use_form(form: str) -> None:
    """Write in this form from now on, where `configure` set something up."""
    for handler in logging.getLogger().handlers:
        stderr = getattr(handler, "fallback", handler)
        if isinstance(stderr, StderrHandler):
            stderr.form = _formatter(form, stderr.form.redact)
            stderr.setFormatter(stderr.form)


def _formatter(form: str, redact: Callable[[str], str]) -> RedactingFormatter:
    return (JsonFormatter if form == "json" else RedactingFormatter)(redact)


def complain(text: str) -> None:
    """Say on stderr why mcpd ends, whether logging is configured or not; the journal marks it as an error."""
    # sd-daemon(3): a line's number of syslog, in brackets.
    mark = "<3>" if _in_journal() else ""
    sys.stderr.write("".join(f"{mark}{line}\n" for line in f"mcpd: {text}".splitlines()))


def _in_journal() -> bool:
    try:
        return is_journal(sys.stderr.fileno(), os.environ)
    except (OSError, ValueError):  # replaced by something without a descriptor, or closed
        return False
