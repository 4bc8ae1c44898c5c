"""SIGHUP: the configuration is read anew, or the terminal that mcpd was started from has gone.

The signal does not say which. With the terminal gone it cannot be opened any more; where there never was one, as under
systemd, or below a desktop client that speaks to mcpd on stdio, somebody has sent the signal on purpose.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import trio

from mcpd.errors import ConfigError

if TYPE_CHECKING:
    from mcpd.reload import Reloader

log = logging.getLogger("mcpd")


class Hangups:
    """Acts on the signal. Several that come while a reload is under way are one more reload."""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader
        self._terminal = has_terminal()
        self._due = trio.Event()

    def note(self, *, stopping: bool = False) -> bool:
        """The signal came; False when it means that mcpd is to end. Nothing is read anew when it is `stopping`."""
        if self._terminal and not has_terminal():
            return False
        if not stopping:
            self._due.set()
        return True

    async def run(self) -> None:
        """Reload whenever it is due, for ever."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            try:
                await self._reloader.reload()
            except ConfigError:
                pass  # the log has it, and nothing else can be told
            except Exception:
                # The crash boundary of a reload that nobody waits for.
                log.exception("event=reload_failed")


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(fd)
    return True
