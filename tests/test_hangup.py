"""What SIGHUP leads to. That a terminal which has gone ends mcpd is shown in tests/e2e/test_reload.py."""

from __future__ import annotations

import subprocess
import sys

import trio

from mcpd.errors import ConfigError
from mcpd.hangup import Hangups
from tests.e2e.background import ENVIRONMENT


class Reloads:
    """Counts them; each lasts until the test lets it go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.error: Exception | None = None
        self.gate = trio.Event()

    async def reload(self) -> None:
        self.begun += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error


async def test_those_that_come_during_a_reload_are_one_more(nursery):
    reloads = Reloads()
    hangups = Hangups(reloads)
    hangups._terminal = False
    nursery.start_soon(hangups.run)
    assert hangups.note()
    await trio.testing.wait_all_tasks_blocked()
    assert reloads.begun == 1
    for _ in range(5):
        assert hangups.note()
    await trio.testing.wait_all_tasks_blocked()
    assert reloads.begun == 1
    reloads.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert reloads.begun == 2


async def test_a_reload_that_fails_is_not_the_last(nursery, caplog):
    reloads = Reloads()
    reloads.gate.set()
    hangups = Hangups(reloads)
    hangups._terminal = False
    nursery.start_soon(hangups.run)
    for error, told in ((ConfigError("it is wrong"), False), (RuntimeError("a bug"), True)):
        reloads.error = error
        assert hangups.note()
        await trio.testing.wait_all_tasks_blocked()
        assert ("a bug" in caplog.text) is told
    assert reloads.begun == 2


def test_a_process_with_a_session_of_its_own_has_no_terminal():
    program = "from mcpd.hangup import has_terminal; print(has_terminal())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    assert done.stdout == "False\n"
