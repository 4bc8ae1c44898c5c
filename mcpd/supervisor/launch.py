"""Making the process of a child: directly where that is enough, else by way of the trampoline.

Theory of operation
    1. A child that has no cgroup and no setting that a plain start cannot apply is started as ever: nothing is in
       between, and nothing is paid for.
    2. Otherwise `trampoline` is started in its place, with the child's pipes, session and marker, and its plan in a
       memory file: arguments and environment are in no command line but the child's own.
    3. The trampoline's end of the report is closed by the exec of the command. So the end of the report without a
       word means that the command runs (or that the child was killed, which shows as its exit).
"""

from __future__ import annotations

import errno
import marshal
import os
import shutil
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from mcpd.supervisor import reaper
from mcpd.supervisor.exits import SpawnFailed, classify_spawn_error
from mcpd.supervisor.tree import ProcessInfo, read_process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcpd.supervisor.cgroup import Cgroup, Leaf, Limits

TRAMPOLINE: Final = str(Path(__file__).with_name("trampoline.py"))

REPORT_MAX: Final = 64 << 10
"""Bytes; a report has at most one path in it."""

REPORT_WAIT: Final = 30.0
"""Seconds for the trampoline to become the command. It takes 15 ms, so only a file system that does not answer, where
the command or its directory is, takes longer; it would hang the child as well."""

STEPS: Final = {
    "load": ("load what its settings need", ""),
    "cgroup": ("enter its cgroup", ""),
    "limits": (
        "have {name}",
        "mcpd's own limit is lower; raise that (in systemd, LimitNOFILE= and the like), or lower this one",
    ),
    "nice": ("have its nice value", "a lower one needs CAP_SYS_NICE, and in systemd SystemCallFilter=@resources"),
    "umask": ("have its umask", ""),
    "rules": ("have its view of the file system", "this needs Landlock: Linux 5.13, with 'landlock' in lsm="),
    "user": ("become its user and group", "mcpd must run as root for this, or have CAP_SETUID and CAP_SETGID"),
    "privileges": ("give up new privileges", ""),
    "paths": ("keep to its view of the file system", "this needs no_new_privileges"),
    "signals": ("have its signals", ""),
}
"""What the functions of the trampoline do, and what helps."""

Fds = tuple[int, int, int]


class LaunchFailed(OSError):
    """A step that a plain start does not have failed. `step` names the function of the trampoline."""

    def __init__(self, step: str, number: int, name: str) -> None:
        self.step = step
        super().__init__(number, os.strerror(number), name)


class Process(Protocol):
    """What this process is the parent of."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Wait for it if it has ended; None while it runs."""


@dataclass(slots=True)
class Launched:
    """A process that was made; the command, or what becomes it."""

    process: trio.Process
    report: int = -1
    """Our end of the trampoline's report; -1 where there is none."""

    async def wait_running(self) -> None:
        """Wait until the command runs. To be called once.

        Raises: OSError, as starting the command would have; LaunchFailed for a step before it.
        Cancellation: shielded; bounded by REPORT_WAIT.
        """
        if self.report < 0:
            return
        data = b""
        try:
            with trio.move_on_after(REPORT_WAIT, shield=True):
                while more := await self._read():
                    data += more
                if data:
                    raise _failure(data)
                return
        finally:
            os.close(self.report)
        raise TimeoutError(f"it is not running after {REPORT_WAIT:g} s")

    async def _read(self) -> bytes:
        await trio.lowlevel.wait_readable(self.report)
        return os.read(self.report, REPORT_MAX)


async def launch(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None,
    fds: Fds,
    leaf: Leaf | None,
    confinement: dict[str, Any],
    marker: str,
) -> Launched:
    """Start the command, or the trampoline that becomes it; in a session of its own, with `fds` as its three standard
    streams. `confinement` is its part of the plan; `marker` is the name of the variable that must be in its
    environment from the first moment on.

    Raises: OSError, ValueError, IndexError: what starting a process raises.
    """
    if leaf is None and not confinement:
        return Launched(await _open(list(argv), env, cwd, fds))
    users: dict[str, str] = confinement.get("environment", {})
    plan = {
        **confinement,
        "files": _files(argv, env),
        "argv": [_encode(word) for word in argv],
        "env": _encode_env({marker: env[marker], **users, **env}),
        **({} if leaf is None else {"cgroup": leaf.procs}),
        **({} if cwd is None else {"cwd": os.fsencode(cwd)}),
    }
    with ExitStack() as always, ExitStack() as on_failure:
        plan_fd = _write_plan(plan)
        always.callback(os.close, plan_fd)
        report, their_report = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        always.callback(os.close, their_report)
        on_failure.callback(os.close, report)
        process = await _open(
            [sys.executable, "-I", "-S", TRAMPOLINE, str(plan_fd), str(their_report)],
            {marker: env[marker]},
            None,
            fds,
            pass_fds=(plan_fd, their_report),
        )
        on_failure.pop_all()
    return Launched(process, report)


async def _open(
    argv: list[str], env: Mapping[str, str], cwd: str | None, fds: Fds, *, pass_fds: tuple[int, ...] = ()
) -> trio.Process:
    return await trio.lowlevel.open_process(
        argv,
        env=env,
        cwd=cwd,
        stdin=fds[0],
        stdout=fds[1],
        stderr=fds[2],
        pass_fds=pass_fds,
        start_new_session=True,
    )


async def settle(launched: Launched) -> tuple[int, ProcessInfo]:
    """A descriptor of the new process and its entry in the table, once it is the command.

    Raises: OSError, and then the process is gone.
    Cancellation: shielded.
    """
    process = launched.process
    pidfd = -1
    try:
        pidfd = os.pidfd_open(process.pid)
        await launched.wait_running()
        info = read_process(process.pid)
        if info is None:  # a child that nobody waited for is in the table; it cannot be read without a descriptor
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    except OSError:
        if pidfd >= 0:
            os.close(pidfd)
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
        reaper.disown(process.pid)
        raise
    return pidfd, info


def make_leaf(cgroup: Cgroup, name: str, limits: Limits) -> Leaf:
    """A cgroup for a child. Raises: SpawnFailed."""
    try:
        return cgroup.make_leaf(name, limits)
    except OSError as error:
        raise SpawnFailed(f"no cgroup can be made for it in {cgroup.path}: {error.strerror}") from error


def make_pipes(on_failure: ExitStack, always: ExitStack) -> tuple[Fds, Fds]:
    """Three pipes: the child's ends (closed with `always`) and ours."""
    child_stdin, stdin = os.pipe2(os.O_CLOEXEC)
    always.callback(os.close, child_stdin)
    on_failure.callback(os.close, stdin)
    stdout, child_stdout = os.pipe2(os.O_CLOEXEC)
    always.callback(os.close, child_stdout)
    on_failure.callback(os.close, stdout)
    stderr, child_stderr = os.pipe2(os.O_CLOEXEC)
    always.callback(os.close, child_stderr)
    on_failure.callback(os.close, stderr)
    return (child_stdin, child_stdout, child_stderr), (stdin, stdout, stderr)


def name_failure(error: Exception, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> SpawnFailed:
    """Why a child could not be started, in words."""
    if not argv:
        return SpawnFailed("no command is configured", remedy="set command", needs_operator=True)
    if isinstance(error, LaunchFailed):
        what, remedy = STEPS[error.step]
        if error.step == "rules" and error.filename:
            what, remedy = "have its view of the file system: '{name}'", "correct the path, or drop it"
        words = what.format(name=error.filename)
        return SpawnFailed(
            f"'{argv[0]}' could not be started: it cannot {words}: {error.strerror}",
            remedy=remedy,
            needs_operator=error.step != "cgroup",
        )
    command = argv[0]
    path = env.get("PATH", os.defpath)
    found = shutil.which(command, mode=os.F_OK, path=path)
    return classify_spawn_error(error, command=command, cwd=cwd, path=path, exists=found is not None)


def _failure(report: bytes) -> OSError:
    step, number, name = marshal.loads(report)
    if step in ("command", "directory"):
        return OSError(number, os.strerror(number), os.fsdecode(name))
    return LaunchFailed(step, number, os.fsdecode(name))


def _write_plan(plan: dict[str, Any]) -> int:
    """A memory file with the plan, at its beginning."""
    fd = os.memfd_create("mcpd-plan", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            marshal.dump(plan, file)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _files(argv: Sequence[str], env: Mapping[str, str]) -> list[bytes]:
    """What the command may mean, in the order of PATH. Raises: IndexError, ValueError, as `subprocess` does, which does
    not see these words here."""
    command = _encode(argv[0])
    if os.path.dirname(command):
        return [command]
    return [os.path.join(os.fsencode(folder), command) for folder in os.get_exec_path(env)]


def _encode_env(env: Mapping[str, str]) -> dict[bytes, bytes]:
    if any("=" in name for name in env):
        raise ValueError("illegal environment variable name")
    return {_encode(name): _encode(value) for name, value in env.items()}


def _encode(text: str) -> bytes:
    data = os.fsencode(text)
    if b"\0" in data:
        raise ValueError("embedded null byte")
    return data
