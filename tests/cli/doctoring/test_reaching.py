from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from mcpd.cli.doctoring.finding import Level
from mcpd.cli.doctoring.reaching import output_of, unreachable
from mcpd.control.client import Unreachable

PATH = Path("/run/mcpd/none.sock")
DOWN = Unreachable(PATH, "it is not running, or has another socket")
FAILED = """\
LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code
ExecMainStatus={status}
StatusText=
"""


def told(problem, **programs):
    """The one finding, where programs print this."""
    asked = []

    def run(argv):
        asked.append(argv)
        return programs.get(argv[0])

    [found] = unreachable(problem, run)
    assert found.level is Level.ERROR
    return found, asked


def test_where_there_is_no_service():
    for said in (None, "LoadState=not-found\n"):
        found, _ = told(DOWN, systemctl=said)
        assert (found.code, "mcpd does not run" in found.message) == ("daemon", True)
        assert "mcpd --config" in found.remedy


def test_a_service_that_was_not_started():
    said = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nResult=success\nExecMainStatus=0\n"
    found, asked = told(DOWN, systemctl=said)
    assert "inactive (dead)" in found.message
    assert found.remedy == "systemctl enable --now mcpd"
    assert len(asked) == 1


def test_one_that_could_not_start_says_why():
    log = "".join(f"line {number}\n" for number in range(9))
    found, asked = told(DOWN, systemctl=FAILED.format(status=78), journalctl=log)
    assert "exit-code, exit status 78" in found.message
    assert found.message.splitlines()[1:] == [f"line {number}" for number in range(4, 9)]
    assert "mend the configuration" in found.remedy
    assert asked[1][0] == "journalctl"
    found, _ = told(DOWN, systemctl=FAILED.format(status=1))
    assert "journalctl -u mcpd.service" in found.remedy


def test_one_that_runs_has_another_socket():
    found, _ = told(DOWN, systemctl="LoadState=loaded\nActiveState=active\nSubState=running\n")
    assert "--socket" in found.remedy


def test_a_socket_that_is_left_over_is_told(tmp_path):
    path = tmp_path / "control.sock"
    path.touch()
    assert "left over" in told(Unreachable(path, "not running"))[0].message


@pytest.mark.parametrize("reason", ["it is busy: too many", "no answer within 10 s"])
def test_one_that_does_not_answer(reason):
    found, asked = told(Unreachable(PATH, reason))
    assert reason in found.message
    assert asked == []


@pytest.mark.parametrize(
    ("members", "groups", "remedy"),
    [
        (None, [], "--socket"),
        ([], [], "adduser"),
        (["me"], [], "log in again, or use"),
        ([], [4711], "the socket is not for"),
    ],
)
def test_who_may_not_connect(monkeypatch, tmp_path, members, groups, remedy):
    def group(name):
        if members is None:
            raise KeyError(name)
        return grp.struct_group(("mcpd", "", 4711, members))

    monkeypatch.setattr(grp, "getgrnam", group)
    monkeypatch.setattr(os, "getgroups", lambda: groups)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("me", "", uid, 0, "", "/", "")))
    path = tmp_path / "control.sock"
    path.touch()
    path.chmod(0o660)
    found, _ = told(Unreachable(path, "permission denied", permitted=False))
    assert found.code == "permission"
    assert "me may not connect" in found.message
    assert "-rw-rw----" in found.message
    assert remedy in found.remedy
    assert "may not enter" in told(Unreachable(tmp_path / "x" / "s", "no", permitted=False))[0].message


def test_programs_are_asked_with_a_bound(monkeypatch):
    assert output_of(["echo", "x"]) == "x\n"
    assert output_of(["false"]) is None
    assert output_of(["there-is-no-such-program"]) is None
    monkeypatch.setattr("mcpd.cli.doctoring.reaching.LOOK_TIME", 0.05)
    assert output_of(["sleep", "60"]) is None
