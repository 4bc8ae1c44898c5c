from __future__ import annotations

import os

import pytest

from mcpd.systemd.passed import Passed
from tests.systemd.inherited import inherited


@pytest.fixture
def fds():
    with inherited() as base:
        yield base


def test_what_nobody_claims_is_closed(fds):
    passed = Passed([("a", fds), ("b", fds + 1), ("b", fds + 2)])
    assert passed.close() == ("a", "b")
    for fd in range(fds, fds + 3):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert passed.close() == ()


def test_what_is_no_socket_is_no_listener(fds):
    passed = Passed([("http", fds), ("http", fds + 1)])
    (sock,) = passed.claim_sockets("http")
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds + 1)
