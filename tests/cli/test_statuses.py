from __future__ import annotations

from mcpd.cli import statuses
from mcpd.cli.main import STATUS_OF
from mcpd.errors import ConfigError


def test_all_of_them_are_told_apart():
    assert len(set(statuses.ALL)) == len(statuses.ALL)
    assert set(STATUS_OF.values()) < set(statuses.ALL)
    assert ConfigError.exit_code == statuses.INVALID, "mcpd and mcpctl say the same of a configuration"
