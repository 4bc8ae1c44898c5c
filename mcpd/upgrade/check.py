"""The look before the leap: the new code is started beside the old one, and shows that it could take over.

It is the same command line in the same environment, so it meets the same interpreter, packages and configuration as
the exec will. It imports everything, loads the configuration, reads what the running program would leave it, and ends
with status 0; anything else calls the upgrade off. What it cannot show is that it will serve: a program that passes and
then fails is restarted by whoever watches over the service, as after any crash.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import trio

from mcpd.upgrade.state import StateRefused, decode, unseal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpd.upgrade.state import State

CHECKING: Final = "MCPD_TAKEOVER_CHECK"
"""Environment variable: the descriptor of a state that is only to be read."""

CHECK_MAX: Final = 60.0
"""Seconds: imports take less than one on a machine at rest, and a minute on one that swaps."""

TAIL: Final = 2000
"""Characters of its last words that are repeated: the end of a traceback."""


class UpgradeRefused(Exception):
    """The old program goes on. The message says why."""


def command() -> list[str]:
    """The argv by which this program was started, and is started again."""
    return [sys.executable, *sys.orig_argv[1:]]


async def check(fd: int) -> None:
    """Have the new code read the state in `fd`. Raises: UpgradeRefused, with its last words."""
    try:
        with trio.fail_after(CHECK_MAX):
            done = await trio.run_process(
                command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                capture_stderr=True,
                check=False,
                pass_fds=(fd,),
                env={**os.environ, CHECKING: str(fd)},
            )
    except trio.TooSlowError:
        raise UpgradeRefused(f"the new code did not come up in {CHECK_MAX:g} s") from None
    except OSError as error:
        raise UpgradeRefused(f"the new code cannot be started: {error}") from None
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip()
        raise UpgradeRefused(f"the new code does not come up (status {done.returncode}): …{words[-TAIL:]}")


def checking(environ: Mapping[str, str]) -> bool:
    """Whether this program is only to show that it could take over."""
    return CHECKING in environ


def show(environ: Mapping[str, str]) -> State:
    """What the running program would leave. Raises: StateRefused."""
    text = environ[CHECKING]
    if not text.isdecimal():
        raise StateRefused(f"{CHECKING} is a descriptor, not {text!r}")
    return decode(unseal(int(text)))
