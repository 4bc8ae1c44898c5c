"""Every error mcpd raises, in one tree; each class fixes the codes it turns into at the edges.

McpdError
├── ConfigError               the operator's file or command line is wrong          exit 78 (EX_CONFIG)
│   ├── NotPermitted          the system does not allow what it asks for            exit 77 (EX_NOPERM)
│   └── NotAvailable          it may do so later: an address in use, a full disk    exit 69 (EX_UNAVAILABLE)
├── RpcError                  an answer in JSON-RPC's error form, ours or relayed
│   ├── ProtocolError         the peer broke MCP, JSON-RPC or HTTP
│   ├── UnknownName           no such tool, prompt or resource
│   ├── MissingCapability     the client did not declare what the request needs (2026-07-28)
│   └── BackendError          a backend could not do its part; names it, the reason and the remedy
│       ├── BackendUnavailable    it is not running, not reachable or not ready
│       ├── BackendCrashed        it ended or the connection broke while the call was in flight
│       ├── BackendTimedOut       it did not answer in time
│       └── BackendMisbehaved     it answered something that is not MCP
└── TransportError            bytes could not be moved (raised by wire/, renamed by backends/)
    ├── ConnectFailed             nothing was sent
    ├── ConnectionBroken          the connection ended before the answer was whole
    └── LimitExceeded             the peer sent more than its limit
"""

from __future__ import annotations

import errno

import msgspec

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
RESOURCE_NOT_FOUND = -32002
"""Legacy versions only; 2026-07-28 uses INVALID_PARAMS."""
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022
URL_ELICITATION_REQUIRED = -32042
REQUEST_CANCELLED = -32800
"""What a cancelled legacy request is answered with over HTTP, so that its stream ends (as the Python SDK does)."""


class McpdError(Exception):
    """Base of all errors that mcpd raises on purpose."""

    exit_code = 70
    """EX_SOFTWARE, when it ends the process."""


class ConfigError(McpdError):
    """The configuration or command line cannot be used. Fields first; the message is derived from them."""

    exit_code = 78
    """EX_CONFIG."""

    def __init__(
        self, reason: str, *, file: str = "", line: int | None = None, path: str = "", remedy: str = ""
    ) -> None:
        self.reason = reason
        self.file = file
        self.line = line
        self.path = path
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        where = self.file + (f":{self.line}" if self.line is not None else "")
        parts = [part for part in (where, self.path, self.reason) if part]
        return ": ".join(parts) + (f" ({self.remedy})" if self.remedy else "")


class NotPermitted(ConfigError):
    """What the configuration asks for is not permitted to this user."""

    exit_code = 77
    """EX_NOPERM: a restart does not help."""


class NotAvailable(ConfigError):
    """What the configuration asks for is not to be had now; a restart may find it."""

    exit_code = 69
    """EX_UNAVAILABLE."""


def refusal(error: OSError) -> type[ConfigError]:
    """Which of them it is, when the system refused something that the configuration asks for."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted
    return NotAvailable if error.errno in _PASSES else ConfigError


_PASSES = frozenset(
    {
        *(errno.EADDRINUSE, errno.EADDRNOTAVAIL),  # another process ends, an interface comes up
        *(errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN),
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT),  # storage that is away for a while
    }
)


class RpcError(McpdError):
    """A JSON-RPC error object: code, message and raw JSON data. `raw` carries a relayed error byte for byte."""

    def __init__(
        self, code: int, message: str, *, data: bytes | None = None, raw: bytes | None = None, http_status: int = 200
    ) -> None:
        self.code = code
        self.message = message
        self.data = data
        self.raw = raw
        self.http_status = http_status
        super().__init__(message)

    def encode(self) -> bytes:
        """The error member as JSON bytes."""
        if self.raw is not None:
            return self.raw
        head = b'{"code":%d,"message":%b' % (self.code, msgspec.json.encode(self.message))
        return head + (b"}" if self.data is None else b',"data":%b}' % self.data)


class ProtocolError(RpcError):
    """The peer sent something that breaks the protocol; harms only its sender."""

    def __init__(self, code: int, message: str, *, http_status: int = 400) -> None:
        super().__init__(code, message, http_status=http_status)


class UnknownName(RpcError):
    """No backend offers the tool, prompt or resource that was asked for."""


class MissingCapability(RpcError):
    """The request cannot be carried out without a capability that the client did not declare. `required` is a
    ClientCapabilities object as JSON."""

    def __init__(self, required: bytes, reason: str = "") -> None:
        message = "Missing required client capability" + (f": {reason}" if reason else "")
        data = b'{"requiredCapabilities":%b}' % required
        super().__init__(MISSING_CAPABILITY, message, data=data, http_status=400)


class BackendError(RpcError):
    """A backend could not do its part of a call. `kind` says in a word what went wrong (see `failures.Kind`)."""

    usual_kind = "unavailable"

    def __init__(self, backend: str, reason: str, *, remedy: str = "", detail: str = "", kind: str = "") -> None:
        self.backend = backend
        self.kind = kind or self.usual_kind
        self.reason = reason
        self.remedy = remedy
        self.detail = detail
        message = f"backend '{backend}': {reason}" + (f" ({remedy})" if remedy else "")
        data: dict[str, str] = {"backend": backend, "kind": self.kind, "reason": reason}
        if remedy:
            data["remedy"] = remedy
        if detail:
            data["stderr"] = detail
            message += f"; last stderr: {detail}"
        super().__init__(INTERNAL_ERROR, message, data=msgspec.json.encode(data))


class BackendUnavailable(BackendError):
    """Nothing was executed: the backend is not running, not reachable or not ready, or refused the request."""

    def __init__(
        self,
        backend: str,
        reason: str,
        *,
        remedy: str = "",
        detail: str = "",
        kind: str = "",
        needs_operator: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(backend, reason, remedy=remedy, detail=detail, kind=kind)
        self.needs_operator = needs_operator
        """Trying again will not help before somebody changed something."""
        self.retry_after = retry_after
        """Seconds after which the backend itself wants to be tried again."""


class BackendCrashed(BackendError):
    """The backend ended, or its connection broke, while the call was in flight; it may have been executed."""

    usual_kind = "crashed"


class BackendTimedOut(BackendError):
    """The backend did not answer within its timeout."""

    usual_kind = "timed-out"


class BackendMisbehaved(BackendError):
    """The backend answered something that is not a valid reply."""

    usual_kind = "misbehaved"


class TransportError(McpdError):
    """Bytes could not be moved. Raised by `wire`, renamed with the backend's name by `backends`."""


class ConnectFailed(TransportError):
    """No connection came about, so nothing was sent. `kind` and `remedy` as those of a BackendError, "" if unknown."""

    def __init__(self, reason: str, *, kind: str = "", remedy: str = "") -> None:
        self.kind = kind
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason + (f"; {remedy}" if remedy else ""))


class ConnectionBroken(TransportError):
    """The connection ended before the answer was whole; the request may have been executed."""


class LimitExceeded(TransportError):
    """The peer sent more than the limit that the message names."""
