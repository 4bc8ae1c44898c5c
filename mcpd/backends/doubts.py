"""Tasks of which a change may have been missed: asked for what they are now, one after the other.

A stream of news that broke has told nothing while it was away, and who watches a task need not ask for it. So what a
client would have heard is fetched, unless the task tells of itself first: what it says then is newer, and an answer
that is still on its way would take it back.

Source: extension io.modelcontextprotocol/tasks, "Task Status Notifications": what is told is what `tasks/get` returns.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from mcpd.errors import RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.edits import members_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mcpd.backends.link import Link
    from mcpd.protocol.jsonrpc import Buffer

log = logging.getLogger("mcpd.backends")


class Doubts:
    """The tasks of one link. `tell` is called with what one has become."""

    def __init__(self, link: Link, tell: Callable[[Buffer], None]) -> None:
        self._link = link
        self._tell = tell
        self._doubtful: dict[str, object] = {}
        """By task, what tells one reason for doubt from a later one."""
        self._asking = False

    def add(self, tasks: Iterable[str]) -> None:
        """Something may have happened to these."""
        self._doubtful |= {task: object() for task in tasks}
        if self._doubtful and not self._asking:
            self._link.errands.start(self._ask)

    def clear(self, task: str) -> None:
        """It told of itself."""
        self._doubtful.pop(task, None)

    async def _ask(self) -> None:
        if self._asking:
            return
        self._asking = True
        try:
            while self._doubtful:
                task, reason = next(iter(self._doubtful.items()))
                found = await self._get(task)
                if self._doubtful.get(task) is reason:
                    del self._doubtful[task]
                    if found is not None:
                        self._tell(found)
        finally:
            self._asking = False

    async def _get(self, task: str) -> Buffer | None:
        """What a task is now; None when the backend does not say."""
        link = self._link
        try:
            params = {"taskId": msgspec.Raw(msgspec.json.encode(task))}
            answer = await link.request("tasks/get", params, link.timeouts.list)
        except RpcError as error:
            log.info("backend=%s event=task_unknown reason=%s", link.name, error)
            return None
        members = members_or_none(answer.members["result"])
        members.pop("resultType", None)
        members.pop("_meta", None)
        return jsonrpc.encode_members(members)
