"""What the other side of an HTTP connection may cost; reaching a limit is an error that names it, never a
larger buffer."""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * KIB


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds. The daemon fills them from the configuration's `limits`."""

    head: int = 32 * KIB
    """Request line and headers (`limits.head`): twice what h11 takes by default, as bearer tokens grow
    long."""
    body: int = 32 * MIB
    """One request body (`limits.body`), checked from Content-Length before a byte of it is read."""
    head_timeout: float = 10.0
    """From the first byte of a head to its end, however it trickles: slowloris holds a connection no
    longer."""
    body_stall: float = 30.0
    """No byte of a body came, or none of an answer was taken, for this long."""
    idle: float = 300.0
    """Keep-alive between two requests; longer than most clients' pools, so that it is they who close."""
    stream_queue: int = 8 * MIB
    """Unsent bytes of one event stream (`limits.stream_queue`); its client is dropped beyond."""
    connections: int = 4096
    """At once (`limits.connections`); one more is answered 503. Below a usual RLIMIT_NOFILE minus the
    backends' share."""
    setting: str = "limits.connections"
    """What the last one is called where it is reached."""
    per_user: int = 0
    """Of these, one user may have so many who connects by a socket in the file system; 0: all."""


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one origin may cost. Sizes in bytes, times in seconds."""

    connect_timeout: float = 10.0
    """Waiting for a free connection, DNS, TCP and TLS together: three lost SYNs are 7 s."""
    head: int = 64 * KIB
    """One head of an answer; some servers send long policy headers."""
    body: int = 64 * MIB
    """What `Response.read` takes when it is given no limit (`limits.message`)."""
    idle: int = 256
    """Unused connections kept per origin: as many as there may be, or a busy moment would connect anew for every call;
    `idle_time` thins them out."""
    idle_time: float = 60.0
    """An unused connection is closed after this long; many servers close after 60 to 75 s, and ours should be
    first."""
    connections: int = 256
    """Per origin, used and unused."""
