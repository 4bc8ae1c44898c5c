"""`watch`: reload when a file of the configuration has changed, without being told to.

The files are looked at now and then. What editors and package managers do takes several steps, so a change counts once
the files look the same twice in a row. A change with a fault is reported like that of any reload, and is not tried
again before the files change again. What a program changes in the overlay is in effect already, so that is not watched.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from mcpd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.config.model import Config
    from mcpd.config.sources import Stamp
    from mcpd.reload import Reloader

log = logging.getLogger("mcpd")

LOOK: Final = 1.0
"""Seconds between two looks, and so the time to settle: somebody who saved a file waits one or two for the effect."""


class Watch:
    """Looks, as long as the configuration in effect says so."""

    def __init__(self, look: Callable[[], Awaitable[Stamp]], reloader: Reloader) -> None:
        """`look` says what can be seen of the files."""
        self._look = look
        self._reloader = reloader
        self._wanted = trio.Event()
        self._configure(reloader.config)
        reloader.settings.append(self._configure)

    def _configure(self, config: Config) -> None:
        if config.watch:
            self._wanted.set()
        elif self._wanted.is_set():
            self._wanted = trio.Event()

    async def run(self) -> NoReturn:
        """Watch for ever."""
        while True:
            await self._wanted.wait()
            await self._watch()

    async def _watch(self) -> None:
        """Until nobody wants it any more. What was changed before is what the last reload read."""
        known = before = await self._look()
        while self._wanted.is_set():
            await trio.sleep(LOOK)
            seen = await self._look()
            if seen != known and seen == before:
                known = seen
                log.info("event=files_changed")
                await self._reload()
            before = seen

    async def _reload(self) -> None:
        try:
            await self._reloader.reload()
        except ConfigError:
            pass  # the log has it, and the status
        except Exception:
            # The crash boundary of a reload that nobody waits for.
            log.exception("event=reload_failed")
