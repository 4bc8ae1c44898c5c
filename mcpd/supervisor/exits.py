"""How a child ended, or why it could not be started, in words for an operator. Pure."""

from __future__ import annotations

import errno
import signal as signals
from dataclasses import dataclass

from mcpd.errors import McpdError
from mcpd.failures import Kind

_CODE_HINTS = {
    126: "a program it wanted to run is not executable",
    127: "a program it wanted to run was not found in its PATH",
    134: "it aborted",
    137: "something inside it was killed by SIGKILL, often for lack of memory",
    143: "something inside it was terminated by SIGTERM",
}
"""What shells and wrappers (sh, npx, uvx) mean by these codes."""

_SIGNAL_HINTS = {
    signals.SIGKILL: "the kernel was out of memory, or somebody killed it",
    signals.SIGSEGV: "it crashed",
    signals.SIGBUS: "it crashed",
    signals.SIGABRT: "it aborted",
    signals.SIGXCPU: "it reached its CPU limit",
    signals.SIGSYS: "it made a system call that its sandbox forbids",
}


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: exactly one of `code` and `signal`, or neither when it could not be killed."""

    code: int | None = None
    signal: int | None = None
    out_of_memory: str = ""
    """What it went over, in words, when the kernel ended something of it for lack of memory."""

    @property
    def failed(self) -> bool:
        """Anything but status 0."""
        return self.code != 0

    @property
    def alive(self) -> bool:
        """It survived SIGKILL for as long as we waited: stuck inside the kernel."""
        return self.code is None and self.signal is None

    def describe(self) -> str:
        """'exited with status 3', 'was killed by SIGKILL'."""
        if self.code is not None:
            return f"exited with status {self.code}"
        if self.signal is not None:
            return f"was killed by {signal_name(self.signal)}"
        return "could not be killed"

    def hint(self) -> str:
        """What that usually means, or '' when the status says nothing by itself."""
        if self.out_of_memory:
            return f"out of memory: over {self.out_of_memory}"
        if self.code is not None:
            return _CODE_HINTS.get(self.code, "")
        if self.signal is not None:
            return _SIGNAL_HINTS.get(signals.Signals(self.signal), "") if self.signal in _KNOWN else ""
        return "it hangs inside the kernel, usually on a disk or network file system"


_KNOWN = frozenset(int(each) for each in signals.Signals)


def signal_name(number: int) -> str:
    """'SIGKILL'; 'signal 35' for one without a name."""
    return signals.Signals(number).name if number in _KNOWN else f"signal {number}"


class SpawnFailed(McpdError):
    """A child process could not be started. `needs_operator`: trying again would not help."""

    def __init__(
        self, reason: str, *, remedy: str = "", needs_operator: bool = False, kind: Kind = Kind.UNUSABLE
    ) -> None:
        self.kind = kind
        self.reason = reason
        self.remedy = remedy
        self.needs_operator = needs_operator
        super().__init__(reason + (f" ({remedy})" if remedy else ""))


_TRANSIENT = {
    errno.EAGAIN: ("the limit on processes is reached", "raise TasksMax= or the user's process limit"),
    errno.ENOMEM: ("the machine is out of memory", "stop something, or give mcpd more memory"),
    errno.EMFILE: ("mcpd has too many open files", "raise LimitNOFILE="),
    errno.ENFILE: ("the system has too many open files", "raise fs.file-max"),
    errno.ETXTBSY: ("the command is being written", "wait until its installation is complete"),
}


_KINDS = {
    errno.ENOENT: Kind.NOT_FOUND,
    errno.EACCES: Kind.PERMISSION_DENIED,
    errno.EPERM: Kind.PERMISSION_DENIED,
}


def classify_spawn_error(error: Exception, *, command: str, cwd: str | None, path: str, exists: bool) -> SpawnFailed:
    """Name what went wrong.

    `error` is what starting the process raised; `path` is the child's PATH, `exists` whether `command` names
    a file that is there (a script whose interpreter is missing gives ENOENT, too).
    """
    if isinstance(error, ValueError):
        return SpawnFailed(
            f"the command line or environment of '{command}' cannot be used: {error}",
            remedy="remove NUL characters, and '=' from variable names",
            needs_operator=True,
        )
    if not isinstance(error, OSError) or error.errno is None:
        return SpawnFailed(f"'{command}' could not be started: {error}")
    number = error.errno
    if cwd is not None and error.filename == cwd:
        return _bad_cwd(number, cwd)
    if number in _TRANSIENT:
        reason, remedy = _TRANSIENT[number]
        kind = Kind.UNUSABLE if number == errno.ETXTBSY else Kind.NO_RESOURCES
        return SpawnFailed(f"'{command}' could not be started: {reason}", remedy=remedy, kind=kind)
    kind = _KINDS.get(number, Kind.UNUSABLE)
    if number == errno.ENOENT and exists:
        reason, remedy = (
            f"'{command}' is there, but the interpreter in its first line is not",
            "install the interpreter, or correct the '#!' line",
        )
    elif number == errno.ENOENT and "/" in command:
        reason, remedy = f"command '{command}' does not exist", "correct the path, or install the program"
    elif number == errno.ENOENT:
        reason, remedy = (
            f"command '{command}' not found in PATH {path or '(empty)'}",
            "install it, give its absolute path, or set PATH in the server's env",
        )
    elif number in (errno.EACCES, errno.EPERM):
        reason, remedy = (
            f"'{command}' may not be executed",
            "check its mode, its directories and mcpd's user; a noexec mount or a sandbox also does this",
        )
    elif number == errno.E2BIG:
        reason, remedy = (
            f"the arguments and environment of '{command}' are too large",
            "shorten them; the kernel allows 128 KiB for one string",
        )
    elif number == errno.ENOEXEC:
        reason, remedy = (
            f"'{command}' is not a program this machine can run",
            "a script needs a '#!' line; a binary must be built for this architecture",
        )
    else:
        reason, remedy = f"'{command}' could not be started: {error.strerror or error}", ""
        return SpawnFailed(reason, remedy=remedy, needs_operator=number in (errno.ENOTDIR, errno.ELOOP))
    return SpawnFailed(reason, remedy=remedy, needs_operator=True, kind=kind)


def _bad_cwd(number: int, cwd: str) -> SpawnFailed:
    what = {
        errno.ENOENT: "does not exist",
        errno.ENOTDIR: "is not a directory",
        errno.EACCES: "may not be entered",
    }.get(number, "cannot be used")
    return SpawnFailed(
        f"working directory '{cwd}' {what}",
        remedy="correct cwd, or create the directory",
        needs_operator=True,
        kind=_KINDS.get(number, Kind.UNUSABLE),
    )
