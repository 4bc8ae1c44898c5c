"""The watchdog: a sign of life from the main loop, as long as there is life in it.

Sent by a task of the loop that serves clients, so that a loop that is blocked is silent; and held back when that loop
turns but what it is there for has died. The manager then ends mcpd (SIGABRT) and starts it anew.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NoReturn

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.systemd.notify import Notifier

log = logging.getLogger("mcpd.systemd")

SHARE: Final = 3
"""Signs within one interval. The manual asks for two at least; with three, one may come late or be lost."""


async def feed(notify: Notifier, interval: float, *, ailment: Callable[[], str | None]) -> NoReturn:
    """Send a sign of life at a third of `interval` seconds, except while `ailment` names one. Ends by cancellation."""
    held_back = None
    while True:
        reason = ailment()
        if reason is None:
            notify.watchdog()
        elif reason != held_back:
            log.error("event=watchdog_held_back reason=%r interval=%gs", reason, interval)
        held_back = reason
        await trio.sleep(interval / SHARE)
