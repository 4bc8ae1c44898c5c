"""Runs `async def` tests on Trio, without a plugin: a test may ask for `nursery` and `autojump_clock` by name.

A test that does not end is a failure, not a hang: every async test runs under a limit of real (or virtual) seconds.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Iterator

TEST_LIMIT = 120.0


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """A virtual clock that jumps to the next deadline whenever every task is waiting."""
    return trio.testing.MockClock(autojump_threshold=0)


@pytest.fixture
def nursery() -> Iterator[None]:
    """Replaced by a real nursery inside `trio.run`; cancelled when the test body is done."""
    return iter(())


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    clock = next((value for value in arguments.values() if isinstance(value, trio.testing.MockClock)), None)

    async def run() -> None:
        with trio.fail_after(TEST_LIMIT * (1000 if clock else 1)):
            if "nursery" in arguments:
                async with trio.open_nursery() as nursery:
                    arguments["nursery"] = nursery
                    await pyfuncitem.obj(**arguments)
                    nursery.cancel_scope.cancel()
            else:
                await pyfuncitem.obj(**arguments)

    trio.run(run, clock=clock, strict_exception_groups=True)
    return True
