"""What a backend lists, kept up to date: fetched when the link opens, and again when the backend says that it changed.

Rules.
1. The last list that could be fetched stays valid until a newer one could be.
2. Changes that come together are one fetch, and reported only if the list differs.
3. A modern backend that cannot announce changes is asked again when its list has become stale, but not all the time.

Source: "List Changed Notification" of each version; 2026-07-28 "Caching".
"""

from __future__ import annotations

import logging
import math
import random
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends import catalogue as catalogue_of
from mcpd.backends.base import KINDS, Catalogue
from mcpd.backends.tools import NO_FACTS, facts_of
from mcpd.errors import RpcError
from mcpd.protocol.versions import CACHE_HINTS, has

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.backends.link import Link

log = logging.getLogger("mcpd.backends")

RELIST_DELAY: Final = 0.05
"""Seconds in which several `list_changed` become one fetch: servers announce every tool they add on its
own."""

RELIST_FAILED: Final = 30.0
"""Seconds until a list that could not be fetched is asked for again."""

POLL_MIN: Final = 30.0
"""Seconds between two fetches of a list that is stale and whose backend cannot announce changes (rule 3)."""


class Lists:
    """The lists of one server. `changed` is told which differ from before, `settled` that a fetch has ended."""

    def __init__(
        self,
        name: str,
        timeout: float,
        *,
        changed: Callable[[tuple[str, ...]], None],
        settled: Callable[[], None],
    ) -> None:
        self.catalogue = Catalogue()
        self.tools = NO_FACTS
        self.failed: set[str] = set()
        """Kinds that could not be fetched: what was known of them stays, and they are asked for again."""
        self._name = name
        self._timeout = timeout
        self._changed = changed
        self._settled = settled
        self._stale: set[str] = set()
        self._noted = trio.Event()

    async def load(self, link: Link) -> tuple[str, ...]:
        """Fetch everything; returns what differs from before. Raises: RpcError when nothing can be had."""
        fetched, self.failed = await catalogue_of.fetch(link, self._timeout, self.catalogue)
        before, self.catalogue = self.catalogue, fetched
        self.tools = facts_of(fetched.tools)
        return tuple(kind for kind in KINDS if fetched.of(kind) != before.of(kind))

    def note(self, kind_of_notification: str) -> None:
        """A link of this backend says that lists changed."""
        self._stale.update(catalogue_of.CHANGED_BY[kind_of_notification])
        self._noted.set()

    async def relist(self, link: Link, kind: str) -> None:
        """Fetch one list now; a failure is noted, not raised."""
        await self._fetch(link, {kind})

    async def refresh(self, link: Link) -> None:
        """Fetch what changed, for as long as the link lasts."""
        while not link.lost.is_set():
            polled = self._polled(link)
            wait = RELIST_FAILED if self.failed else min(polled.values(), default=math.inf)
            with trio.move_on_after(wait * random.uniform(1.0, 1.1)) as patience:
                await self._noted.wait()
            await trio.sleep(RELIST_DELAY)
            kinds = self._stale | self.failed
            if patience.cancelled_caught and not self.failed:
                kinds |= polled.keys()
            self._stale, self._noted = set(), trio.Event()
            await self._fetch(link, kinds)

    async def _fetch(self, link: Link, kinds: set[str]) -> None:
        changed = []
        for kind in KINDS:
            if kind not in kinds or link.hello is None or not catalogue_of.offered(kind, link.hello.capabilities):
                continue
            try:
                entries, hint = await catalogue_of.fetch_kind(link, kind, self._timeout)
            except RpcError as error:
                log.warning("backend=%s event=list_failed list=%s reason=%s", self._name, kind, error)
                self.failed.add(kind)
                continue
            self.failed.discard(kind)
            if entries != self.catalogue.of(kind):
                changed.append(kind)
            self.catalogue = self.catalogue.with_kind(kind, entries, hint)
            if kind == "tools":
                self.tools = facts_of(entries)
        if changed:
            self._changed(tuple(changed))
        if not link.lost.is_set():
            self._settled()

    def _polled(self, link: Link) -> dict[str, float]:
        """Seconds after which each list is to be fetched again although nobody said that it changed (rule 3)."""
        hello = link.hello
        if hello is None or not has(hello.version, CACHE_HINTS):
            return {}
        return {
            kind: max(POLL_MIN, hint.ttl_ms / 1000)
            for kind in KINDS
            if (hint := self.catalogue.hint(kind)) is not None
            and catalogue_of.offered(kind, hello.capabilities)
            and not catalogue_of.announced(kind, hello.capabilities)
        }
