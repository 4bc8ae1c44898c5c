"""The program as `launch` runs it, but without `launch`: what it does with a plan, and what it reports."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from mcpd.supervisor.launch import TRAMPOLINE
from tests.supervisor.trampolines import bounce, ignored_here, needs_landlock


def test_it_imports_next_to_nothing(capfd):
    assert bounce({}, "true", options=("-X", "importtime")) == ("", None)
    modules = {line.rpartition("|")[2].strip() for line in capfd.readouterr().err.splitlines() if "|" in line}
    assert "os" in modules, "the list is there"
    assert modules.isdisjoint({"typing", "re", "collections", "signal", "ctypes", "resource", "json"})


def test_nothing_is_reported_when_the_command_runs():
    assert bounce({}, "echo", "x") == ("x\n", None)


def test_the_first_failure_is_reported_and_nothing_else_is_done(tmp_path):
    said, report = bounce({"cgroup": "/mcpd/no/such"}, "touch", str(tmp_path / "made"))
    assert (said, report) == ("", ("cgroup", errno.ENOENT, b"/mcpd/no/such"))
    assert not (tmp_path / "made").exists()


def test_an_exec_that_fails_is_reported():
    assert bounce({}, "mcpd-no-such")[1][:2] == ("command", errno.ENOENT)


def test_of_several_failures_the_one_counts_that_says_most(tmp_path):
    (tmp_path / "plain").touch()
    files = [b"/mcpd/no/such", os.fsencode(tmp_path / "plain"), os.fsencode(tmp_path / "plain" / "x")]
    assert bounce({"files": files}, "x")[1][:2] == ("command", errno.EACCES)
    assert bounce({"files": [*files, b"/bin/true"]}, "true") == ("", None)


def status(plan: dict[str, object], name: str) -> str:
    """One line of what the kernel says about the command."""
    said, report = bounce(plan, "cat", "/proc/self/status")
    assert report is None
    return next(line.split(":")[1].strip() for line in said.splitlines() if line.startswith(name + ":"))


def test_signals_are_as_they_were():
    assert int(status({}, "SigIgn"), 16) == ignored_here()
    assert int(status({}, "SigBlk"), 16) == 0


def test_umask_nice_and_directory(tmp_path):
    plan = {"umask": 0o027, "nice": 7, "cwd": os.fsencode(tmp_path)}
    assert status(plan, "Umask") == "0027"
    said, _ = bounce(plan, "sh", "-c", "nice; pwd")
    assert said.split() == ["7", str(tmp_path)]
    assert bounce({"cwd": b"/mcpd/no"}, "pwd")[1] == ("directory", errno.ENOENT, b"/mcpd/no")


def test_limits_hold_and_those_above_our_own_are_named():
    plan = {"limits": [("limit_nofile", resource.RLIMIT_NOFILE, 33), ("limit_core", resource.RLIMIT_CORE, 0)]}
    said, _ = bounce(plan, "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Hc")
    assert said.split() == ["33", "33", "0"]
    # None can have more files than the kernel has numbers for.
    plan = {"limits": [("limit_nofile", resource.RLIMIT_NOFILE, 1 << 40)]}
    assert bounce(plan, "true")[1] == ("limits", errno.EPERM, b"limit_nofile")


def test_no_new_privileges():
    assert status({"privileges": True}, "NoNewPrivs") == "1"


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_user_and_groups():
    plan = {"user": (65534, 65533, [65533, 65532])}
    said, _ = bounce(plan, "id")
    assert "uid=65534" in said
    assert status(plan, "Uid").split() == ["65534"] * 4
    assert status(plan, "Gid").split() == ["65533"] * 4
    assert status(plan, "Groups").split() == ["65532", "65533"]
    assert int(status(plan, "CapEff"), 16) == 0
    # As nobody, it can neither enter what is root's alone nor become somebody else.
    assert bounce({**plan, "cwd": b"/proc/1/cwd"}, "true")[1] == ("directory", errno.EACCES, b"/proc/1/cwd")


def test_a_kernel_without_landlock_is_told_apart_from_a_path_that_is_missing():
    needs_landlock()
    report = bounce({"privileges": True, "paths": [(b"/", 2, True), (b"/mcpd/no", 3, True)]}, "true")[1]
    assert report == ("rules", errno.ENOENT, b"/mcpd/no")
    filtered = [sys.executable, "-c", FILTERED]
    report = bounce({"privileges": True, "paths": [(b"/", 2, True)]}, "true", through=filtered)[1]
    assert report == ("rules", errno.EPERM, b"")


def test_what_was_seen_in_a_directory_and_is_gone_is_no_failure():
    needs_landlock()
    assert bounce({"privileges": True, "paths": [(b"/", 2, True), (b"/mcpd/no", 3, False)]}, "true")[1] is None


FILTERED = """
import ctypes, os, struct, sys
LOAD, EQUAL, RETURN, CREATE_RULESET, REFUSED, ALLOWED = 0x20, 0x15, 6, 444, 0x50000 | 1, 0x7FFF0000
words = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, CREATE_RULESET), (RETURN, 0, 0, REFUSED), (RETURN, 0, 0, ALLOWED)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *word) for word in words))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack("=H6xQ", len(words), ctypes.addressof(program))) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs its arguments in a system call filter that answers EPERM to landlock_create_ruleset, as a service may have."""


def test_what_is_read_only_is_not_written(tmp_path):
    needs_landlock()
    (tmp_path / "kept").write_text("as it was\n")
    (tmp_path / "free").mkdir()
    paths = [(b"/", 2, True), (os.fsencode(tmp_path / "free"), 3, True), (b"/dev", 3, True)]
    plan = {"privileges": True, "paths": paths}
    script = """
        exec 2> /dev/null
        cat kept
        echo x >> kept || echo no append
        rm kept || echo no removal
        mkdir new || echo no directory
        echo made > free/file && cat free/file
        mv free/file moved || echo no move
        echo > /dev/null && echo null
    """
    said, report = bounce({**plan, "cwd": os.fsencode(tmp_path)}, "sh", "-c", script)
    assert report is None
    assert said.splitlines() == ["as it was", "no append", "no removal", "no directory", "made", "no move", "null"]
    assert (tmp_path / "kept").read_text() == "as it was\n"
    assert (tmp_path / "free" / "file").read_text() == "made\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["free", "kept"]


def test_what_has_no_rule_can_neither_be_read_nor_listed(tmp_path):
    needs_landlock()
    (tmp_path / "secret").write_text("s")
    top = tmp_path.parts[1]
    allowed: list[tuple[bytes, int, bool]] = [(b"/dev/null", 3, True)]
    allowed += [(os.fsencode(path), 2, False) for path in Path("/").iterdir() if path.name != top]
    script = "exec 2> /dev/null; cat secret || echo not read; ls . || echo not listed; ls / || echo nor above"
    said, report = bounce({"privileges": True, "paths": allowed, "cwd": os.fsencode(tmp_path)}, "sh", "-c", script)
    assert (said.splitlines(), report) == (["not read", "not listed", "nor above"], None)


def test_what_may_only_be_listed_is_not_read(tmp_path):
    needs_landlock()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "other").touch()
    top = tmp_path.parts[1]
    allowed = [(b"/dev/null", 3, True), (b"/", 1, True), (os.fsencode(tmp_path / "secret"), 1, True)]
    allowed += [(os.fsencode(path), 2, False) for path in Path("/").iterdir() if path.name != top]
    script = "exec 2> /dev/null; ls; ls inner; cat secret || echo not read; echo x > secret || echo not written"
    said, report = bounce({"privileges": True, "paths": allowed, "cwd": os.fsencode(tmp_path)}, "sh", "-c", script)
    assert (said.splitlines(), report) == (["inner", "secret", "other", "not read", "not written"], None)


def test_nothing_outside_is_signalled():
    needs_landlock()
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 6:
        pytest.skip("the kernel is older than 6.12, where Landlock learnt about signals")
    script = f"sleep 100 & kill $! && echo own; kill -0 {os.getpid()} 2> /dev/null || echo not another"
    for paths, expected in (([(b"/", 3, True)], ["own", "not another"]), (None, ["own"])):
        plan = {"privileges": True} if paths is None else {"privileges": True, "paths": paths}
        assert bounce(plan, "sh", "-c", script) == ("".join(f"{line}\n" for line in expected), None)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root gives capabilities")
def test_another_user_has_no_capabilities_of_an_mcpd_that_is_not_root():
    ambient = "+setuid,+setgid"
    through = ("setpriv", "--reuid=65533", "--regid=65533", "--clear-groups")
    through += (f"--inh-caps={ambient}", f"--ambient-caps={ambient}")
    source = Path(TRAMPOLINE).read_text()
    # The checkout may be out of that user's reach.
    with tempfile.NamedTemporaryFile("w", suffix=".py", dir="/tmp") as program:
        program.write(source)
        program.flush()
        os.chmod(program.name, 0o644)
        said, report = bounce(
            {"user": (65534, 65534, [65534])},
            "cat",
            "/proc/self/status",
            through=through,
            python="/usr/bin/python3",
            program=program.name,
        )
    assert report is None
    found = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert found["Uid"].split()[0] == "65534"
    assert [int(found[name], 16) for name in ("CapEff", "CapPrm", "CapAmb")] == [0, 0, 0]
