"""The program as `launch` runs it, but without `launch`: what it does with a plan, and what it reports."""

from __future__ import annotations

import errno
import marshal
import os
import subprocess
import sys

from mcpd.supervisor.launch import TRAMPOLINE


def bounce(plan: dict[str, object]) -> tuple[str, tuple[str, int, bytes] | None]:
    """What the command says, and the report."""
    plan_fd = os.memfd_create("plan")
    os.write(plan_fd, marshal.dumps(plan))
    os.lseek(plan_fd, 0, os.SEEK_SET)
    ours, theirs = os.pipe()
    argv = [sys.executable, "-I", "-S", TRAMPOLINE, str(plan_fd), str(theirs)]
    try:
        done = subprocess.run(argv, pass_fds=(plan_fd, theirs), capture_output=True, text=True, check=False, env={})
        os.close(theirs)
        assert done.stderr == ""
        report = os.read(ours, 65536)
        return done.stdout, marshal.loads(report) if report else None
    finally:
        os.close(plan_fd)
        os.close(ours)


def test_it_imports_next_to_nothing():
    argv = [sys.executable, "-I", "-S", "-X", "importtime", TRAMPOLINE]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "marshal" in modules or "os" in modules, "the list is there"
    assert modules.isdisjoint({"typing", "re", "collections", "signal", "ctypes", "resource", "json"})


def test_nothing_is_reported_when_the_command_runs():
    assert bounce({"argv": [b"echo", b"x"], "env": {b"PATH": b"/usr/bin:/bin"}}) == ("x\n", None)


def test_the_first_failure_is_reported_and_nothing_else_is_done(tmp_path):
    target = os.fsencode(tmp_path / "made")
    plan = {"argv": [b"touch", target], "env": {b"PATH": b"/usr/bin:/bin"}, "cgroup": "/mcpd/no/such"}
    assert bounce(plan) == ("", ("cgroup", errno.ENOENT, b"/mcpd/no/such"))
    assert not (tmp_path / "made").exists()


def test_an_exec_that_fails_is_reported():
    report = ("command", errno.ENOENT, b"mcpd-no-such")
    assert bounce({"argv": [b"mcpd-no-such"], "env": {b"PATH": b"/usr/bin"}})[1][:2] == report[:2]
