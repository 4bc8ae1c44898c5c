from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import uuid

import pytest

from mcpd.wire.credentials import SO_PEERPIDFD, peer_credentials

CONNECT = """
import os, socket, sys
os.setgroups([34567, 34568])
os.setgid(23456)
os.setuid(12345)
sock = socket.socket(socket.AF_UNIX)
sock.connect("\\0" + sys.argv[1])
sys.stdin.read()
"""


def test_both_ends_of_a_pair_are_this_process():
    one, two = socket.socketpair()
    with one, two:
        who = peer_credentials(one)
    assert (who.pid, who.uid) == (os.getpid(), os.getuid())
    assert who.groups >= {os.getgid()}


def test_a_socket_of_the_network_and_a_closed_one_have_none():
    with socket.socket() as sock:
        assert peer_credentials(sock) is None
    one, two = socket.socketpair()
    two.close()
    one.close()
    assert peer_credentials(one) is None


def test_whether_it_is_one_of_ours_is_asked_of_who_knows():
    one, two = socket.socketpair()
    asked = []
    with one, two:
        assert not peer_credentials(one).ours
        for answer in (True, False):
            who = peer_credentials(one, lambda *process, answer=answer: asked.append(process) or answer)
            assert who.ours is answer
    assert asked == [(os.getpid(), os.geteuid())] * 2


def test_a_process_that_ended_may_have_been_one_of_ours():
    # What stands under its number meanwhile may be anybody's, and says nothing.
    name = f"mcpd-test-{uuid.uuid4().hex}"
    connect = "import socket, sys; socket.socket(fileno=0).connect('\\0' + sys.argv[1])"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as theirs:
        listener.bind("\0" + name)
        listener.listen()
        subprocess.run([sys.executable, "-ISs", "-c", connect, name], stdin=theirs, check=True)
        connection, _ = listener.accept()
        with connection:
            try:
                os.close(connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
            except OSError as error:
                if error.errno == errno.ENOPROTOOPT:
                    pytest.skip("the kernel is older than 6.5, and does not tell")
            assert peer_credentials(connection, lambda *_: False).ours
            assert not peer_credentials(connection).ours


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_known_with_all_groups():
    name = f"mcpd-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        with subprocess.Popen(  # noqa: TID251 - the test is the parent
            [sys.executable, "-ISs", "-c", CONNECT, name], stdin=subprocess.PIPE
        ) as process:
            connection, _ = listener.accept()
            with connection:
                who = peer_credentials(connection)
            process.stdin.close()
    assert (who.pid, who.uid) == (process.pid, 12345)
    assert who.groups == {23456, 34567, 34568}
