"""What is written down of a server and its open links, for a program that goes on with them after an exec.

A link to a child is pipes, and what both sides have agreed on and counted: with that it goes on without a handshake,
and the child notices nothing. Links that end with mcpd's connections (remote servers) are opened anew, and so are
links that were not open yet; what was known of their servers is known all the same. Of those that serve one call at a
time the ones that are idle go on, and so does the child that was started ahead: nothing was agreed with it yet.

Rules.
1. A link is captured whatever is in flight on it of mcpd's own. Its answer will mean nothing to the next program, so
   that program asks again (`settled`). Calls of clients are over by then.
2. A state counts for a server that is configured the same way. Any other is started anew.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from mcpd.backends.base import Catalogue  # noqa: TC001 - msgspec reads the annotations below
from mcpd.backends.kept import nature
from mcpd.backends.opening import Era
from mcpd.backends.stdio import StdioCarrier
from mcpd.config.diff import flatten
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Caller
from mcpd.protocol.capabilities import ClientCapability
from mcpd.protocol.handshake import ServerHello  # noqa: TC001 - the same
from mcpd.protocol.versions import Version
from mcpd.supervisor.restart import History
from mcpd.types import SessionKey

if TYPE_CHECKING:
    from mcpd.backends.link import Link
    from mcpd.config.model import ServerSpec


class Owner(msgspec.Struct, frozen=True):
    """The client session that a link serves alone."""

    key: str
    principal: str
    version: int
    capabilities: int
    level: int | None

    @classmethod
    def of(cls, caller: Caller) -> Owner:
        """As its calls say."""
        return cls(caller.key, caller.principal, int(caller.version), int(caller.capabilities), caller.log_level)

    def caller(self) -> Caller:
        """The same in this program."""
        return Caller(
            SessionKey(self.key),
            self.principal,
            Version(self.version),  # type: ignore[call-arg] # by its value
            ClientCapability(self.capabilities),
            self.level,
        )


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """An open link to the child `pid`."""

    pid: int
    modern: bool
    hello: ServerHello | None
    """None of a child that was not spoken to yet."""
    last_id: int
    """Of the requests that were sent on it."""
    level: str | None = None
    subscriptions: dict[str, bytes] = {}
    """Params as JSON, by URI."""
    standing: tuple[int, ...] = ()
    """Ids of requests that listen for news."""
    partial: bytes = b""
    """The beginning of a line, read already."""
    settled: bool = True
    """Nothing of mcpd's own was in flight."""
    owner: Owner | None = None


class LeaseState(msgspec.Struct, frozen=True, kw_only=True):
    """A link that serves one call at a time, and serves none; or the blank child ahead, which is nobody's yet."""

    link: LinkState
    principal: str = ""
    capabilities: int = 0
    """That it declared."""
    idle_for: float
    """Seconds for which it has been of no use."""

    @property
    def blank(self) -> bool:
        """Whether its child was not spoken to yet."""
        return self.link.hello is None


class BackendState(msgspec.Struct, frozen=True, kw_only=True):
    """One server. Times are in seconds from now on, or until now."""

    name: str
    identity: str
    hello: ServerHello | None
    catalogue: Catalogue
    unlisted: tuple[str, ...] = ()
    """Kinds that could not be listed."""
    links: tuple[LinkState, ...] = ()
    leases: tuple[LeaseState, ...] = ()
    restarts: int = 0
    failures: History = History()
    ready_for: float | None = None
    legacy_for: float = 0.0
    """It need not be asked for its era for so long."""
    held: bool = False
    """An operator stopped it."""


def identity(spec: ServerSpec) -> str:
    """A digest of what makes a server another one: of a server that differs in any of it, no link can go on. What it
    may do and see is part of that, for it cannot be changed from outside.
    """
    confined = {**flatten(spec.resources), **flatten(spec.sandbox)}
    facts = (
        *nature(spec),
        spec.instances,
        spec.user,
        spec.group,
        spec.umask,
        spec.nice,
        # Settings that a later program may add are not set in here.
        sorted((name, value) for name, value in confined.items() if value or value == 0),
    )
    return hashlib.blake2b(msgspec.json.encode(facts), digest_size=16).hexdigest()


def capture_link(link: Link, caller: Caller | None = None) -> LinkState | None:
    """An open link to a child as it is now; None for any other, or one that is lost."""
    return None if link.hello is None else _capture(link, caller)


def capture_blank(link: Link) -> LinkState | None:
    """The same for a link that waits until it is known what it is to declare."""
    return _capture(link)


def _capture(link: Link, caller: Caller | None = None) -> LinkState | None:
    if link.reason is not None or not isinstance(link.carrier, StdioCarrier):
        return None
    partial = link.carrier.decoder.partial()
    if partial is None:
        return None
    return LinkState(
        pid=link.carrier.child.pid,
        modern=link.era is Era.MODERN,
        hello=link.hello,
        last_id=link.peer.last,
        level=link.level,
        subscriptions={uri: jsonrpc.encode_members(members) for uri, members in link.subscriptions.items()},
        standing=link.peer.standing(),
        partial=partial,
        settled=not link.in_flight and not link.errands.count,
        owner=Owner.of(caller) if caller is not None else None,
    )
