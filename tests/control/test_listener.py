from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading

import pytest

from mcpd.control import listener
from mcpd.control.listener import MODE, PATH_MAX, find_control, open_control
from mcpd.errors import ConfigError
from mcpd.systemd.passed import Passed


def connects(path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_it_is_there_with_its_mode_and_gone_when_it_is_closed(tmp_path):
    path = tmp_path / "new" / "control.sock"
    control = open_control(path, None)
    found = path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == MODE
    assert connects(path)
    assert os.listdir(path.parent) == [path.name], "nothing is left of how it was made"
    assert not control.socket.getblocking()
    assert not control.socket.get_inheritable()
    control.close()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other groups")
def test_it_belongs_to_the_group(tmp_path):
    control = open_control(tmp_path / "control.sock", 34567)
    assert control.path.stat().st_gid == 34567
    control.close()


def test_what_was_left_behind_is_replaced(tmp_path):
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    assert path.exists()
    (tmp_path / f".{os.getpid()}").write_text("of a crash")
    control = open_control(path, None)
    assert connects(path)
    control.close()


def test_one_that_answers_is_left_alone(tmp_path):
    path = tmp_path / "control.sock"
    control = open_control(path, None)
    with pytest.raises(ConfigError, match="another mcpd answers there") as caught:
        open_control(path, None)
    assert caught.value.exit_code == 69, "the other one may end"
    assert "control.socket" in str(caught.value)
    assert connects(path)
    control.close()


def test_one_with_a_full_backlog_answers_too(tmp_path):
    path = tmp_path / "control.sock"
    clients = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            clients.append(client)
            if client.connect_ex(str(path)):
                break
        with pytest.raises(ConfigError, match="another mcpd answers there"):
            open_control(path, None)
    for client in clients:
        client.close()


def test_of_those_that_start_together_one_wins(tmp_path):
    path = tmp_path / "control.sock"
    barrier = threading.Barrier(4)
    won, refused = [], []

    def start() -> None:
        barrier.wait()
        try:
            won.append(open_control(path, None))
        except ConfigError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 3)
    assert connects(path)
    won[0].close()


def test_another_ones_socket_is_not_removed_at_the_end(tmp_path):
    path = tmp_path / "control.sock"
    first = open_control(path, None)
    path.unlink()
    second = open_control(path, None)
    first.close()
    assert connects(path)
    second.close()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path, kind):
    path = tmp_path / "control.sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no socket"):
        open_control(path, None)
    assert os.path.lexists(path)


def test_what_cannot_be_had_is_said(tmp_path):
    with pytest.raises(ConfigError, match=f"more than {PATH_MAX} bytes"):
        open_control(tmp_path / ("x" * PATH_MAX), None)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is the directory there"):
        open_control(tmp_path / "file" / "control.sock", None)


def test_where_it_need_not_be_had_mcpd_goes_on_without(tmp_path, caplog):
    path = tmp_path / "control.sock"
    path.write_text("")
    with pytest.raises(ConfigError):
        find_control(Passed(), (path, True), None)
    assert find_control(Passed(), (path, False), None) is None
    assert "event=no_control_socket" in caplog.text
    assert find_control(Passed(), None, None) is None


def test_what_systemd_passes_is_used_and_not_removed(tmp_path):
    made = open_control(tmp_path / "by-systemd.sock", None)
    fds = [os.dup(made.socket.fileno()), os.dup(made.socket.fileno())]
    control = find_control(Passed([("control", fd) for fd in fds]), (tmp_path / "own.sock", True), None)
    assert not (tmp_path / "own.sock").exists()
    assert control.socket.getsockname() == made.socket.getsockname()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[1])
    control.close()
    assert (tmp_path / "by-systemd.sock").exists()
    made.close()


def test_a_lock_that_somebody_holds_on_the_directory_stops_nobody(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(listener, "TURN_WAIT", 0.05)
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        control = open_control(tmp_path / "control.sock", None)
    finally:
        os.close(fd)
    assert connects(control.path)
    assert "event=lock_held" in caplog.text
    control.close()
