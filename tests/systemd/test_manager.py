from __future__ import annotations

import os

import pytest

from mcpd.systemd import manager as module
from mcpd.systemd.manager import take
from tests.systemd.inherited import inherited

PID = 4711


def test_the_variables_are_taken_and_gone():
    environ = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(PID),
        "LISTEN_PID": str(PID),
        "LISTEN_FDS": "0",
        "LISTEN_FDNAMES": "",
        "LISTEN_PIDFDID": "1",
        "PATH": "/bin",
    }
    manager = take(environ, pid=PID)
    assert environ == {"PATH": "/bin"}
    assert manager.notify.address == "/run/systemd/notify"
    assert manager.watchdog == 30.0
    assert manager.passed.names() == ()
    assert manager.environ(12) == {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": "12",
    }


def test_without_a_manager():
    manager = take({}, pid=PID)
    assert not manager.notify
    assert manager.watchdog is None
    assert manager.environ(PID) == {}


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(PID)}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "1e6"}, None),
        ({"WATCHDOG_USEC": ""}, None),
    ],
)
def test_the_watchdog_of_another_process_is_not_ours(variables, interval):
    environ = dict(variables)
    assert take(environ, pid=PID).watchdog == interval
    assert environ == {}


@pytest.fixture
def fds(monkeypatch):
    """A listening socket and both ends of a pipe, in place of 3, 4 and 5, which are pytest's here."""
    with inherited() as base:
        monkeypatch.setattr(module, "FIRST_FD", base)
        yield base


def test_descriptors_come_with_their_names(fds):
    environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "http:kept:kept"}
    passed = take(environ, pid=PID).passed
    assert not any(os.get_inheritable(fd) for fd in range(fds, fds + 3)), "they are no business of children"
    assert passed.names() == ("http", "kept")
    assert passed.claim("kept") == [fds + 1, fds + 2]
    assert passed.claim("kept") == []
    assert "kept" not in passed
    (sock,) = passed.claim_sockets("http")
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert sock.gettimeout() == 0


def test_descriptors_of_another_process_are_not_touched(fds):
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "http:a:b"}
    assert take(environ, pid=PID).passed.names() == ()
    assert environ == {}
    assert os.get_inheritable(fds)


@pytest.mark.parametrize("names", ["", "http", "http::"])
def test_missing_names(names, fds):
    environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": "3", "LISTEN_FDNAMES": names}
    passed = take(environ, pid=PID).passed
    assert len(passed.claim("unknown")) == (2 if "http" in names else 3)


def test_what_is_not_open_is_left_out(fds):
    os.close(fds + 1)
    environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"}
    assert take(environ, pid=PID).passed.names() == ("a", "c")
