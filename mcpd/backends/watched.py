"""The tasks of one backend that clients watch, each counted: it is listened to until the last of them is gone.

The count outlives a link; a link that is opened later listens from the start to whatever is counted then.

Source: extension io.modelcontextprotocol/tasks, "Task Status Notifications".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcpd.backends.link import Link


class Watched(Collection[str]):
    """The tasks' ids, as the backend knows them."""

    def __init__(self) -> None:
        self._watches: Counter[str] = Counter()

    def __contains__(self, task: object) -> bool:
        return task in self._watches

    def __iter__(self) -> Iterator[str]:
        return iter(self._watches)

    def __len__(self) -> int:
        return len(self._watches)

    async def add(self, task: str, link: Link) -> None:
        """Watch a task, once more if it is watched already. Raises: RpcError; then this is no watch."""
        self._watches[task] += 1
        try:
            await link.dialect.watch(task)
        except BaseException:
            self.remove(task, link)
            raise

    def remove(self, task: str, link: Link | None) -> None:
        """One watch is over. `link` is where it was listened to, None while there is none."""
        self._watches[task] -= 1
        if not self._watches[task]:
            del self._watches[task]
            if link is not None:
                link.errands.start(link.dialect.unwatch)
