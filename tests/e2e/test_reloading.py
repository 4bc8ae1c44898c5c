"""What `make test-reload` does fifty times, a few times."""

from __future__ import annotations

import pytest

from tests.e2e.reloading import STEPS, reloads


@pytest.mark.slow
async def test_changes_under_load_touch_nothing_else_and_are_told_once():
    found = await reloads(len(STEPS))
    assert found["changes"] == len(STEPS) - 1
    assert found["keep_echo"] > 0
    assert found["extra_echo"] > 0
