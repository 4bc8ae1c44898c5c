"""When a change of the files leads to a reload. That real files are seen to change: tests/config/test_sources.py;
with the daemon as a process: tests/e2e/test_changes.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio

from mcpd.config.model import Config
from mcpd.errors import ConfigError
from mcpd.watch import LOOK, Watch


class Files:
    """What is seen of them, and a reloader that counts."""

    def __init__(self, *, watch: bool = True) -> None:
        self.seen = 0
        self.reloads = 0
        self.error: Exception | None = None
        self.reloader = SimpleNamespace(config=Config(watch=watch), settings=[], reload=self._reload)
        self.watch = Watch(self._look, self.reloader)
        self.looks = 0

    def configure(self, *, watch: bool) -> None:
        for tell in self.reloader.settings:
            tell(Config(watch=watch))

    async def _reload(self) -> None:
        self.reloads += 1
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error

    async def _look(self):
        self.looks += 1
        await trio.lowlevel.checkpoint()
        return (("f", self.seen, 0, 0),)


async def looks(times: float) -> None:
    """Let it look so often."""
    await trio.sleep(LOOK * times)


async def test_a_change_counts_once_it_has_settled(nursery, autojump_clock):
    files = Files()
    nursery.start_soon(files.watch.run)
    await looks(4.5)
    assert files.reloads == 0
    for _ in range(5):
        files.seen += 1
        await looks(1)
    assert files.reloads == 0, "it changes all the time"
    await looks(1)
    assert files.reloads == 1
    await looks(4)
    assert files.reloads == 1


@pytest.mark.parametrize("error", [ConfigError("it is wrong"), RuntimeError("a bug")])
async def test_a_fault_is_not_tried_again_before_the_files_change(nursery, autojump_clock, error):
    files = Files()
    nursery.start_soon(files.watch.run)
    await looks(1.5)
    files.error = error
    files.seen = 1
    await looks(6)
    assert files.reloads == 1
    files.error = None
    files.seen = 2
    await looks(4)
    assert files.reloads == 2


async def test_nobody_looks_unless_it_is_wanted(nursery, autojump_clock):
    files = Files(watch=False)
    nursery.start_soon(files.watch.run)
    await looks(5.5)
    assert files.looks == 0
    files.configure(watch=True)
    await looks(3)
    seen = files.looks
    assert seen >= 3
    files.configure(watch=False)
    files.seen = 1
    await looks(5)
    assert files.looks <= seen + 1
    files.configure(watch=True)
    files.configure(watch=True)
    await looks(3)
    assert files.looks > seen + 1
    assert files.reloads == 0, "what changed while nobody looked is not known to be a change"
