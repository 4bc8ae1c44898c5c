"""Logging: one line an event, `key=value`, with the configuration's secrets blanked out of every line.

To stderr; where that is the journal, to journald in its own words, so that `journalctl MCPD_SERVER=github -p warning`
finds what it should.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Final

from mcpd.journal import Journal, is_journal

if TYPE_CHECKING:
    from collections.abc import Callable

PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""From a level on → syslog's number; below all of them it is 7, debug."""
FORM: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
HEAD: Final = re.compile(r"(?:backend=(?P<server>\S+) ?)?(?:event=(?P<event>[\w-]+)|(?P<stderr>stderr)=)?")
"""How our lines begin. What comes after may hold the words of others."""


class RedactingFormatter(logging.Formatter):
    """Formats a record and removes secrets from the result, tracebacks included."""

    def __init__(self, redact: Callable[[str], str], form: str = FORM, line_break: str = "\n  ") -> None:
        super().__init__(form, "%Y-%m-%dT%H:%M:%S%z")
        self._redact = redact
        self._line_break = line_break

    def use(self, redact: Callable[[str], str]) -> None:
        """Hide other secrets from now on."""
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record)).replace("\n", self._line_break)


class JournalHandler(logging.Handler):
    """Sends records to journald; what it does not take goes to stderr."""

    def __init__(self, journal: Journal, redact: Callable[[str], str], fallback: logging.Handler) -> None:
        super().__init__()
        # Level, time and process are fields of every entry.
        self.setFormatter(RedactingFormatter(redact, "%(message)s", "\n"))
        self._journal = journal
        self.fallback = fallback
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        fields = self._fields(record)
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
            self.fallback.handle(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        message = self.format(record)
        head = HEAD.match(message)
        fields = {
            "MESSAGE": message,
            **_base(record.levelno),
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            "LOGGER": record.name,
        }
        if head is not None and head["server"]:
            fields["MCPD_SERVER"] = head["server"]
        if head is not None and (event := head["event"] or head["stderr"]):
            fields["MCPD_EVENT"] = event
        return fields


def _base(level: int) -> dict[str, str]:
    priority = next((number for at, number in PRIORITIES if level >= at), 7)
    return {"PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "mcpd"}


def redact_with(redact: Callable[[str], str]) -> None:
    """Hide other secrets from now on, in what `configure` set up."""
    for handler in logging.getLogger().handlers:
        for each in (handler, getattr(handler, "fallback", handler)):
            if isinstance(each.formatter, RedactingFormatter):
                each.formatter.use(redact)


def configure(level: str, redact: Callable[[str], str]) -> None:
    """Send mcpd's log where it belongs, at this level (debug, info, warning, error)."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(redact))
    if _in_journal():
        handler = JournalHandler(Journal(), redact, handler)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mcpd").setLevel(level.upper())


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
