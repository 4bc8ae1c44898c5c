"""What a backend lists, kept up to date: fetched when the link opens, and again when the backend says that it changed.

Rules.
1. The last list that could be fetched stays valid until a newer one could be.
2. Changes that come together are one fetch, and reported only if the list differs. One list is fetched once at a time.
3. A modern backend that does not announce changes is asked again when its list has become stale, but not all the time.

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
from mcpd.backends.tools import facts_of
from mcpd.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mcpd.backends.kept import LastKnown
    from mcpd.backends.link import Link
    from mcpd.config.model import ServerSpec

log = logging.getLogger("mcpd.backends")

RELIST_DELAY: Final = 0.05
"""Seconds in which several `list_changed` become one fetch: servers announce every tool they add on its
own."""

RELIST_FAILED: Final = 30.0
"""Seconds until a list that could not be fetched is asked for again."""

POLL_MIN: Final = 30.0
"""Seconds between two fetches of a list that is stale and whose backend does not announce changes (rule 3)."""

POLL_SPREAD: Final = 1.1
"""Up to so many times later, by chance: many servers that were started together are not asked together for ever."""


class Lists:
    """The lists of one server. `changed` is told which differ from before, `settled` that a fetch has ended."""

    def __init__(
        self,
        spec: ServerSpec,
        known: LastKnown | None = None,
        *,
        changed: Callable[[tuple[str, ...]], None],
        settled: Callable[[], None],
    ) -> None:
        self.catalogue = known.catalogue if known is not None else Catalogue()
        """What was fetched, or else is `known` from an earlier run of the daemon."""
        self.tools = facts_of(self.catalogue.tools)
        self.fetched = False
        """Whether the server itself has listed anything in this run."""
        self.failed: set[str] = set()
        """Kinds that could not be fetched: what was known of them stays, and they are asked for again."""
        self._name = spec.name
        self._timeout = spec.timeouts.list
        self._changed = changed
        self._settled = settled
        self._stale: set[str] = set()
        self._noted = trio.Event()
        self._turn = trio.Lock()
        self._fetches = dict.fromkeys(KINDS, 0)
        """How often each list was asked for."""
        self._due: dict[str, float] = {}
        """When a list is to be fetched although nobody says that it changed, by trio's clock."""

    async def load(self, link: Link) -> tuple[str, ...]:
        """Fetch everything; returns what differs from before. Raises: RpcError when nothing can be had."""
        fetched, self.failed = await catalogue_of.fetch(link, self._timeout, self.catalogue)
        before, self.catalogue, self.fetched = self.catalogue, fetched, True
        self.tools = facts_of(fetched.tools)
        for kind in KINDS:
            self._plan(link, kind)
        return tuple(kind for kind in KINDS if fetched.of(kind) != before.of(kind))

    def inherit(self, catalogue: Catalogue, failed: Iterable[str]) -> None:
        """Know this from another program, and what could not be fetched there."""
        self.catalogue = catalogue
        self.failed = set(failed)
        self.tools = facts_of(catalogue.tools)

    def resume(self, link: Link, *, settled: bool) -> None:
        """The link goes on, so what was inherited still holds, unless it was just being fetched."""
        self.fetched = True
        for kind in KINDS:
            self._plan(link, kind)
        if not settled:
            self._stale.update(KINDS)
            self._noted.set()

    @property
    def quiet(self) -> bool:
        """Whether all is fetched that was said to have changed."""
        return not self._noted.is_set() and not self._turn.locked()

    def note(self, kind_of_notification: str) -> None:
        """A link of this backend says that lists changed."""
        self._stale.update(catalogue_of.CHANGED_BY[kind_of_notification])
        self._noted.set()

    async def relist(self, link: Link, kind: str) -> None:
        """Have one list fetched now, once for all who ask meanwhile; a failure is noted, not raised."""
        before = self._fetches[kind]
        async with self._turn:
            if self._fetches[kind] == before:
                await self._fetch(link, {kind})

    async def refresh(self, link: Link) -> None:
        """Fetch what changed, for as long as the link lasts."""
        while not link.lost.is_set():
            with trio.move_on_at(min(self._due.values(), default=math.inf)):
                await self._noted.wait()
            await trio.sleep(RELIST_DELAY)
            async with self._turn:
                now = trio.current_time()
                kinds = self._stale | {kind for kind, due in self._due.items() if due <= now}
                self._stale, self._noted = set(), trio.Event()
                await self._fetch(link, kinds)

    async def _fetch(self, link: Link, kinds: set[str]) -> None:
        changed = []
        for kind in KINDS:
            if kind not in kinds or link.hello is None or not catalogue_of.offered(kind, link.hello.capabilities):
                continue
            self._fetches[kind] += 1
            try:
                entries, hint = await catalogue_of.fetch_kind(link, kind, self._timeout)
            except RpcError as error:
                log.warning("backend=%s event=list_failed list=%s reason=%s", self._name, kind, error)
                self.failed.add(kind)
                self._plan(link, kind)
                continue
            self.failed.discard(kind)
            if entries != self.catalogue.of(kind):
                changed.append(kind)
            self.catalogue = self.catalogue.with_kind(kind, entries, hint)
            self._plan(link, kind)
            if kind == "tools":
                self.tools = facts_of(entries)
        if changed:
            self._changed(tuple(changed))
        if not link.lost.is_set():
            self._settled()

    def _plan(self, link: Link, kind: str) -> None:
        """Say when a list that was just fetched, or could not be, is fetched again unasked (rule 3)."""
        hint = self.catalogue.hint(kind)
        self._due.pop(kind, None)
        now = trio.current_time()
        if kind in self.failed:
            self._due[kind] = now + RELIST_FAILED
        elif hint is not None and not link.dialect.announces(kind):
            self._due[kind] = now + max(POLL_MIN, hint.ttl_ms / 1000) * random.uniform(1.0, POLL_SPREAD)
