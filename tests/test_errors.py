"""What an error means to whoever started mcpd."""

from __future__ import annotations

import errno

import pytest

from mcpd.errors import ConfigError, NotAvailable, NotPermitted, refusal


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [
        (errno.EACCES, NotPermitted, 77),
        (errno.EPERM, NotPermitted, 77),
        (errno.EADDRINUSE, NotAvailable, 69),
        (errno.ENOSPC, NotAvailable, 69),
        (errno.ENOTDIR, ConfigError, 78),
    ],
)
def test_a_refusal_of_the_system_is_one_that_passes_or_not(number, kind, status):
    found = refusal(OSError(number, "no"))
    assert (found, found("it failed").exit_code) == (kind, status)
