"""What an operation is asked, by whom, and what it may answer besides a plain 200."""

from __future__ import annotations

import enum
import pwd
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcpd.wire.credentials import Credentials
    from mcpd.wire.http_server import Request

TRUE: Final = ("1", "true", "yes")
FALSE: Final = ("0", "false", "no")


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks: a process on this machine, which the kernel vouches for, or the holder of a token."""

    credentials: Credentials | None = None
    """None for who is not known by them."""
    token: str = ""
    """What they proved themselves with instead, such as `admin token`."""
    peer: str = ""
    """Where the holder of the token asks from: an IP address."""

    @property
    def uid(self) -> int | None:
        """The user's number, None for who has none here."""
        return self.credentials.uid if self.credentials is not None else None

    @property
    def logged(self) -> str:
        """For a line of the log: `uid=1000 pid=4711`."""
        if self.credentials is not None:
            return f"uid={self.credentials.uid} pid={self.credentials.pid}"
        if self.peer:
            return f"by={self.token or 'nobody'!r} peer={self.peer}"
        return "uid=unknown"

    def __str__(self) -> str:
        """For people, and for what is kept of it: `uid=1000 (alice) pid=4711`."""
        if self.credentials is None:
            return f"{self.token or 'somebody'} from {self.peer}" if self.peer else "unknown"
        uid = self.credentials.uid
        try:
            name = f" ({pwd.getpwuid(uid).pw_name})"
        except (KeyError, OSError):
            name = ""
        return f"uid={uid}{name} pid={self.credentials.pid}"


def _unconditional() -> None:
    """Where there is no If-Match."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, checked against its row of the table."""

    who: Who
    path: Mapping[str, str] = field(default_factory=dict)
    """The parameters of the path, percent-decoded."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Each name once, and only those of the row; their values fit."""
    body: Any = None
    """Decoded JSON that fits the row's schema; None where the row has none, or none was sent and none is needed."""
    if_match: str | None = None
    """The header If-Match, as sent. It held when the operation began."""
    require_unchanged: Callable[[], None] = _unconditional
    """Looks at If-Match again. To be called when it is one's turn to change something, where that had to be waited for.
    Raises: Refusal."""
    request: Request | None = None
    """For who answers with a stream. None only where nobody sent one."""

    def flag(self, name: str) -> bool:
        """A yes or no of the query; no when it is not there."""
        return self.query.get(name, "").lower() in TRUE

    def number(self, name: str, default: int) -> int:
        """A whole number of the query."""
        return int(self.query.get(name, default))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is not just 200 with a body."""

    body: object = None
    """What becomes JSON. Nothing is sent with the statuses that have no body."""
    status: int = HTTPStatus.OK
    headers: bytes = b""
    """Lines with their line ends."""
    etag: str = ""
    """What the header ETag says, its quotes included; no header when empty."""


class Streamed(enum.Enum):
    """Its one value says that the operation has answered by itself, with `Request.open_stream`."""

    STREAMED = enum.auto()


STREAMED: Final = Streamed.STREAMED
