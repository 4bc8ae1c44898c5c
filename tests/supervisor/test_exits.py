from __future__ import annotations

import errno
import os
import signal

import pytest

from mcpd.supervisor.exits import Exit, SpawnFailed, classify_spawn_error, signal_name


@pytest.mark.parametrize(
    ("how", "words", "failed"),
    [
        (Exit(code=0), "exited with status 0", False),
        (Exit(code=3), "exited with status 3", True),
        (Exit(signal=9), "was killed by SIGKILL", True),
        (Exit(signal=35), "was killed by signal 35", True),
        (Exit(), "could not be killed", True),
    ],
)
def test_describe(how, words, failed):
    assert how.describe() == words
    assert how.failed is failed
    assert how.alive is (how == Exit())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Exit(code=3), ""),
        (Exit(code=127), "not found in its PATH"),
        (Exit(signal=signal.SIGKILL), "out of memory"),
        (Exit(signal=signal.SIGTERM), ""),
        (Exit(signal=35), ""),
        (Exit(), "inside the kernel"),
        (Exit(signal=9, out_of_memory="its memory_max of 1 MiB"), "out of memory: over its memory_max of 1 MiB"),
        (Exit(code=137, out_of_memory="its memory_max of 1 MiB"), "out of memory: over its memory_max of 1 MiB"),
    ],
)
def test_hint(how, words):
    assert words in how.hint()
    assert bool(words) == bool(how.hint())


def test_signal_name():
    assert signal_name(15) == "SIGTERM"
    assert signal_name(99) == "signal 99"


def failure(number: int, *, command="uvx", cwd=None, filename=None, exists=False) -> SpawnFailed:
    error = OSError(number, os.strerror(number), filename or command)
    return classify_spawn_error(error, command=command, cwd=cwd, path="/usr/bin:/bin", exists=exists)


@pytest.mark.parametrize(
    ("found", "words", "operator"),
    [
        (failure(errno.ENOENT), "command 'uvx' not found in PATH /usr/bin:/bin (install it", True),
        (failure(errno.ENOENT, command="/opt/x"), "command '/opt/x' does not exist (correct", True),
        (failure(errno.ENOENT, command="/opt/x", exists=True), "the interpreter in its first line", True),
        (failure(errno.EACCES), "'uvx' may not be executed", True),
        (failure(errno.EPERM), "'uvx' may not be executed", True),
        (failure(errno.E2BIG), "too large", True),
        (failure(errno.ENOEXEC), "not a program this machine can run", True),
        (failure(errno.ENOTDIR), "Not a directory", True),
        (
            failure(errno.ENOENT, cwd="/srv/x", filename="/srv/x"),
            "'/srv/x' does not exist (correct cwd",
            True,
        ),
        (failure(errno.ENOTDIR, cwd="/srv/x", filename="/srv/x"), "'/srv/x' is not a directory", True),
        (failure(errno.EACCES, cwd="/srv/x", filename="/srv/x"), "'/srv/x' may not be entered", True),
        (failure(errno.EIO, cwd="/srv/x", filename="/srv/x"), "'/srv/x' cannot be used", True),
        (failure(errno.EAGAIN), "limit on processes is reached (raise TasksMax=", False),
        (failure(errno.EMFILE), "too many open files (raise LimitNOFILE=)", False),
        (failure(errno.EIO), "Input/output error", False),
    ],
)
def test_spawn_errors_are_named_with_a_remedy(found, words, operator):
    assert words in str(found)
    assert found.needs_operator is operator


def test_a_command_line_with_nul_is_named():
    found = classify_spawn_error(ValueError("embedded null byte"), command="x", cwd=None, path="", exists=False)
    assert "embedded null byte" in found.reason
    assert found.needs_operator


def test_anything_else_is_passed_on_in_words():
    found = classify_spawn_error(RuntimeError("odd"), command="x", cwd=None, path="", exists=False)
    assert str(found) == "'x' could not be started: odd"
