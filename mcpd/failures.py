"""What is the matter with a backend: every failure has a kind, a reason and a remedy. Pure.

The kind is for programs (status, metrics, the `data` of an error) and stable; reason and remedy are for people and may
change. How a process could not be started is said in `supervisor.exits`, by the kinds that are here.

Rules.
1. What the backend itself said explains its end better than a status does: stderr is looked at first.
2. Only what surely will not mend itself needs an operator. A certificate is renewed and a name comes back without
   anybody telling mcpd.
"""

from __future__ import annotations

import enum
import errno
import re
import socket
from dataclasses import dataclass
from typing import Final


class Kind(enum.StrEnum):
    """What went wrong, in a word."""

    # A process could not be started.
    NOT_FOUND = "not-found"
    """The command, its interpreter or its directory is not there."""
    PERMISSION_DENIED = "permission-denied"
    UNUSABLE = "unusable-command"
    """It is there, and cannot be run as configured."""
    NO_RESOURCES = "no-resources"
    """Too many processes or open files, or no memory: the machine's fault."""

    # A process ended.
    EXITED = "exited"
    EXITED_IN_HANDSHAKE = "exited-in-handshake"
    KILLED = "killed"
    """By a signal."""
    OUT_OF_MEMORY = "out-of-memory"
    PORT_IN_USE = "port-in-use"
    PACKAGE_NOT_FOUND = "package-not-found"
    """npx, uvx or docker do not find what they shall run."""
    MODULE_NOT_FOUND = "module-not-found"
    """The program lacks a part of itself."""

    # A remote refuses.
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    GONE = "gone"
    BUSY = "busy"

    # A remote is not reached.
    TLS_UNTRUSTED = "tls-untrusted"
    TLS_EXPIRED = "tls-expired"
    TLS_WRONG_NAME = "tls-wrong-name"
    TLS_FAILED = "tls-failed"
    DNS_NOT_FOUND = "dns-not-found"
    DNS_UNREACHABLE = "dns-unreachable"
    REFUSED = "connection-refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMED_OUT = "connect-timed-out"

    # Anything else, by the class of its error.
    UNAVAILABLE = "unavailable"
    CRASHED = "crashed"
    TIMED_OUT = "timed-out"
    MISBEHAVED = "misbehaved"


@dataclass(frozen=True, slots=True)
class Failure:
    """`needs_operator`: trying again will not help before somebody changed something."""

    kind: Kind
    reason: str
    remedy: str = ""
    needs_operator: bool = False


SAID_MAX: Final = 8192
"""Characters of stderr that are searched: what explains the end stands near it, and the tail that is kept is longer."""

_PORT = re.compile(r"EADDRINUSE|address (?:is )?already in use|only one usage of each socket address", re.I)
_MEMORY = re.compile(r"JavaScript heap out of memory|\bMemoryError\b|java\.lang\.OutOfMemoryError|std::bad_alloc")
_PACKAGE = re.compile(
    r"npm (?:ERR!|error) (?:code )?(?:E404|ETARGET)|No matching version found"  # npx
    r"|not found in the package registry|No matching distribution found"  # uvx, pipx
    r"|pull access denied|manifest unknown|manifest for \S+ not found|repository does not exist",  # docker
)
_MODULE = re.compile(
    r"ModuleNotFoundError: |ImportError: |Cannot find (?:module|package) |ERR_MODULE_NOT_FOUND"
    r"|error while loading shared libraries"
)
_RESOLVER = re.compile(r"EAI_AGAIN|Temporary failure in name resolution|dns error", re.I)

_SIGKILL = 9
_BY_SHELL: Final = {
    126: Failure(
        Kind.PERMISSION_DENIED, "", "make the program that its wrapper starts executable", needs_operator=True
    ),
    127: Failure(
        Kind.NOT_FOUND, "", "install the program that its wrapper starts, or add it to PATH", needs_operator=True
    ),
}
"""What a shell or a wrapper says by its status, while the program has not begun."""


def of_end(
    words: str,
    *,
    code: int | None,
    signal: int | None,
    out_of_memory: bool,
    said: str,
    opened: bool,
) -> Failure:
    """Why a child ended by itself.

    `words` say how it ended ("exited with status 3"), with `code` or `signal`; both are None when it only closed its
    pipes. `out_of_memory`: whether its cgroup's memory.events tell of a kill, which the words say then. `said` is the
    end of its stderr, `opened` whether the handshake was done.
    """
    said = said[-SAID_MAX:]
    when = "" if opened else " before its handshake was done"
    reason = words + when
    if out_of_memory and (signal == _SIGKILL or code not in (None, 0)):
        return Failure(Kind.OUT_OF_MEMORY, reason, "raise its memory limit, or find out what it needs it for")
    if code == 0 and opened:
        return Failure(Kind.EXITED, reason, "it is restarted; call again")
    if _MEMORY.search(said):
        return Failure(Kind.OUT_OF_MEMORY, f"{reason}: it says that it ran out of memory", "give it more memory")
    if _PORT.search(said):
        return Failure(
            Kind.PORT_IN_USE,
            f"{reason}: a port that it wants is in use",
            "end what holds the port (ss -ltnp shows it), or give the server another one",
        )
    if not opened:
        found = _of_start(reason, code, said)
        if found is not None:
            return found
    if signal is not None:
        # Without a cgroup SIGKILL does not say who sent it.
        remedy = "it is restarted; call again" if opened else "run its command by hand to see why"
        return Failure(Kind.KILLED, reason, remedy)
    if opened:
        return Failure(Kind.EXITED, reason, "it is restarted; call again")
    return Failure(Kind.EXITED_IN_HANDSHAKE, reason, "run its command by hand to see why")


def _of_start(reason: str, code: int | None, said: str) -> Failure | None:
    """What only happens while a program starts."""
    if _PACKAGE.search(said):
        return Failure(
            Kind.PACKAGE_NOT_FOUND,
            f"{reason}: the package or image that it names is not there",
            "correct its name or version; a private one needs the credentials of its registry",
            needs_operator=True,
        )
    if _RESOLVER.search(said):
        return Failure(
            Kind.DNS_UNREACHABLE,
            f"{reason}: it could not resolve a name",
            "check the DNS; install the package beforehand if the machine is offline",
        )
    if _MODULE.search(said):
        return Failure(
            Kind.MODULE_NOT_FOUND,
            f"{reason}: a module or library that it needs is not there",
            "install what its last words name, for the interpreter in its command",
            needs_operator=True,
        )
    by_shell = _BY_SHELL.get(code) if code is not None else None
    if by_shell is not None:
        return Failure(by_shell.kind, reason, by_shell.remedy, needs_operator=True)
    return None


def of_status(status: int, server: str) -> Failure | None:
    """What a refusal by an HTTP status means; None for one that says nothing about the server as a whole."""
    where = f"HTTP {status}"
    match status:
        case 401:
            remedy = f"set servers.{server}.headers"
            return Failure(Kind.UNAUTHORIZED, f"{where}: it wants credentials", remedy, needs_operator=True)
        case 403:
            remedy = f"set servers.{server}.headers to what may use it"
            return Failure(Kind.FORBIDDEN, f"{where}: it wants credentials", remedy, needs_operator=True)
        case 410:
            return Failure(Kind.GONE, f"{where}: it is gone for good", "remove it", needs_operator=True)
        case 429 | 503:
            return Failure(Kind.BUSY, f"{where}: it is busy", "try later")
    return None


_NO_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def of_connect(error: BaseException) -> Failure:
    """Why no connection came about: what opening one raised."""
    if isinstance(error, UnicodeError):  # a name that DNS cannot hold
        return Failure(Kind.DNS_NOT_FOUND, f"the name does not resolve ({error})", "check the URL's host")
    if isinstance(error, socket.gaierror):
        if error.errno in _NO_NAME:
            remedy = "check the URL's host, and /etc/hosts or the DNS"
            return Failure(Kind.DNS_NOT_FOUND, f"the name does not resolve ({error.strerror})", remedy)
        remedy = "check the network and /etc/resolv.conf"
        return Failure(Kind.DNS_UNREACHABLE, f"the resolver does not answer ({error.strerror})", remedy)
    cause: BaseException | None = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]  # one for each address: the first is the one that was preferred
    if isinstance(cause, ConnectionRefusedError):
        return Failure(Kind.REFUSED, "connection refused", "is the server running, and is this its port?")
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
        return Failure(Kind.NO_RESOURCES, str(cause.strerror), "raise LimitNOFILE=")
    if isinstance(cause, OSError) and cause.strerror:
        return Failure(Kind.UNREACHABLE, cause.strerror, "check host, port and network")
    return Failure(Kind.UNREACHABLE, str(error), "check host, port and network")


_EXPIRED: Final = frozenset({9, 10})
_WRONG_NAME: Final = frozenset({62, 64})
"""X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED; _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH (openssl/x509_vfy.h)."""


def of_tls(error: BaseException) -> Failure:
    """Why the TLS handshake failed. `ssl` itself is not imported: a daemon without https servers does without it."""
    cause = error.__cause__ or error
    verify = getattr(cause, "verify_message", "")
    code = getattr(cause, "verify_code", 0)
    if code in _EXPIRED:
        remedy = "renew the server's certificate, and look at both clocks"
        return Failure(Kind.TLS_EXPIRED, f"its certificate is not valid now ({verify})", remedy)
    if code in _WRONG_NAME:
        remedy = "use the name in the URL that the certificate has"
        return Failure(Kind.TLS_WRONG_NAME, f"its certificate is for another name ({verify})", remedy)
    if verify:
        remedy = "set tls.ca if your own authority signed it"
        return Failure(Kind.TLS_UNTRUSTED, f"its certificate is not trusted ({verify})", remedy)
    reason = getattr(cause, "reason", None) or (str(cause) if cause is not error else "") or "the connection was closed"
    return Failure(Kind.TLS_FAILED, str(reason), "does this port speak TLS?")
