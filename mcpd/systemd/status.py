"""What mcpd is doing, in one line for `systemctl status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from mcpd.systemd.notify import Notifier

NAMED: Final = 5
"""Servers named for each state; of more only the number. One line is all that is shown."""
COUNTED: Final = "ready"
"""The state whose servers nobody needs to know by name."""
QUIET: Final = 0.25
"""Seconds in which news are collected: a hundred servers that start are a few lines, not a hundred."""
LOOK: Final = 5.0
"""Seconds after which the states are looked at without news: a server that is tried again, or stops, is none."""


def describe(states: Iterable[tuple[str, str]]) -> str:
    """From (server, state) pairs, what is well first: `12 ready, 1 backing off: github`."""
    groups: dict[str, list[str]] = {}
    for name, state in states:
        groups.setdefault(state, []).append(name)
    if not groups:
        return "no servers"
    ready = groups.pop(COUNTED, [])
    parts = [f"{len(ready)} {COUNTED}"] if ready else []
    parts += [f"{len(names)} {state.replace('-', ' ')}: {_listed(names)}" for state, names in sorted(groups.items())]
    return ("; " if len(groups) > 1 else ", ").join(parts)


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


async def report(notify: Notifier, look: Callable[[], str], wait_news: Callable[[], Awaitable[object]]) -> None:
    """Keep the status what `look` says, until mcpd is on its way down, which has words of its own."""
    while notify and not notify.leaving:
        notify.status(look())
        with trio.move_on_after(LOOK):
            await wait_news()
        await trio.sleep(QUIET)
