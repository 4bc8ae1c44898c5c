"""Logging: one line an event, `key=value`, to stderr, with the configuration's secrets blanked out of every line."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class RedactingFormatter(logging.Formatter):
    """Formats a record and removes secrets from the result, tracebacks included."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
        self._redact = redact

    def use(self, redact: Callable[[str], str]) -> None:
        """Hide other secrets from now on."""
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record)).replace("\n", "\n  ")


def redact_with(redact: Callable[[str], str]) -> None:
    """Hide other secrets from now on, in what `configure` set up."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, RedactingFormatter):
            handler.formatter.use(redact)


def configure(level: str, redact: Callable[[str], str]) -> None:
    """Send mcpd's log to stderr at this level (debug, info, warning, error)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter(redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mcpd").setLevel(level.upper())
