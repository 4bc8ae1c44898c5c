"""What the tests ask of processes that are not theirs to wait for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import trio

from mcpd.supervisor.tree import read_process

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[1] / "fixtures" / "hostile"
HOSTILE = str(FIXTURES / "hostile.py")


def alive(*pids: int) -> list[int]:
    """Those of them that run; a zombie does not."""
    infos = [read_process(pid) for pid in pids]
    return [info.pid for info in infos if info is not None and not info.dead]


async def wait_until(condition: Callable[[], bool]) -> None:
    """Look until it is so. Only for processes of others, about whose end nothing tells us."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)
