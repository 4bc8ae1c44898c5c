"""What the links of one server say of their own accord, passed on as what the server says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.backends.base import Backend, News
    from mcpd.backends.instances import Instances
    from mcpd.backends.lists import Lists
    from mcpd.backends.tools import ToolFacts
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.types import SessionKey


class Ears:
    """Of one server; implements `carrier.Listener`. `relist` has a list fetched anew, now; `instances` know whom the
    owner of a link stands for.
    """

    def __init__(
        self,
        backend: Backend,
        news: News,
        lists: Lists,
        *,
        relist: Callable[[str], Awaitable[None]],
        instances: Callable[[], Instances],
    ) -> None:
        self._backend = backend
        self._news = news
        self._lists = lists
        self._relist = relist
        self._instances = instances

    @property
    def tools(self) -> ToolFacts:
        return self._lists.tools

    def list_changed(self, kind_of_notification: str) -> None:
        self._lists.note(kind_of_notification)

    async def relist(self, kind: str) -> None:
        await self._relist(kind)

    def resource_updated(self, params: Buffer, owner: SessionKey | None) -> None:
        for key in self._instances().listeners(owner):
            self._news.resource_updated(self._backend, params, key)

    def task_changed(self, params: Buffer) -> None:
        self._news.task_changed(self._backend, params)

    def unrelated(self, method: str, params: Buffer, owner: SessionKey | None) -> None:
        hearers = self._instances().hearers(owner)
        if len(hearers) == 1:  # nothing says which of several it is for; nobody gets another's
            self._news.unrelated(self._backend, method, params, hearers[0])

    async def ask_owner(self, owner: SessionKey | None, method: str, params: Buffer) -> Buffer:
        hearers = self._instances().hearers(owner)
        return await self._news.ask_owner(self._backend, hearers[0] if len(hearers) == 1 else owner, method, params)
