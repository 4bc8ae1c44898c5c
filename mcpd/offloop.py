"""Where the configuration of a running mcpd is read from, and what only mcpd knows to be secret in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from mcpd.config.sources import Change, Reading, Sources, Stamp, Still
    from mcpd.control.token import Token


class OffLoop:
    """Sources that are read and written in a thread: it takes tenths of a second, in which calls go on."""

    def __init__(self, sources: Sources | Still, token: Token) -> None:
        self._sources = sources
        self._token = token

    async def read(self, change: Change | None = None) -> Reading:
        """Raises: ConfigError, ChangeRefused."""
        reading = await trio.to_thread.run_sync(self._sources.read, change)
        return replace(reading, config=self._token.hidden_in(reading.config))

    async def write(self, reading: Reading) -> bool:
        """Raises: ChangeRefused."""
        return await trio.to_thread.run_sync(self._sources.write, reading)

    async def stamp(self) -> Stamp:
        """What can be seen of the files. A disk that hangs does not keep mcpd from ending."""
        return await trio.to_thread.run_sync(self._sources.stamp, abandon_on_cancel=True)
