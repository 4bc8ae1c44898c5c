"""Holds requests back for a moment, while one program gives way to the next."""

from __future__ import annotations

import trio


class Gate:
    """Open nearly always: who has a request to begin looks at `closed`, and waits if it is."""

    __slots__ = ("_opened", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._opened = trio.Event()

    def close(self) -> None:
        """No request begins from now on."""
        if not self.closed:
            self.closed = True
            self._opened = trio.Event()

    def open(self) -> None:
        """Those that wait begin."""
        self.closed = False
        self._opened.set()

    async def wait(self) -> None:
        """Return when it is open."""
        while self.closed:
            await self._opened.wait()
