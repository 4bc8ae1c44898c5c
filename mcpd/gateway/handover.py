"""What one run of mcpd leaves to the next, so that its clients notice nothing: bytes, whatever carries them.

Theory of operation. A session's id says who its client is; what it does not say is captured here when everything else
is over: subscriptions, log levels, news not yet heard, what resumable streams said and how far they had counted, whose
linked resources are, and what the lists were. The next run takes it in before its backends are started, which are
then told of levels and subscriptions as after any start.

Rules.
1. What is damaged or of another format is refused as a whole, and costs no more than a handover that was lost.
2. It is bounded: when MESSAGES_MAX is passed, the logs of the sessions that were used least recently are left out.
3. An update that a server would have told of while nobody was there cannot be known. So each subscription's client
   hears of one when it is made again: to read once too often is harmless, to keep what has changed is not.
4. Nobody is told of lists that are as they were. What differs is told when the servers had time to start.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.protocol import jsonrpc
from mcpd.protocol.handshake import ServerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session

log = logging.getLogger("mcpd.gateway")

MAGIC: Final = b"mcpd handover "
FORMAT: Final = 1
"""Raised by whoever changes a structure below in a way that an earlier mcpd would misread, or not read at all."""

MESSAGES_MAX: Final = 128 * 1024 * 1024
"""Bytes of messages in all: the logs of ended exchanges (`frontends.streams.KEPT_MAX`) and as much for what sessions
have heard lately. It is written while everybody waits for the next run."""

CHECK: Final = 32
"""Bytes of the SHA-256 that finds out what is damaged."""


class Log(msgspec.Struct, frozen=True, array_like=True):
    """What one stream said: its number, the number of the first message that is kept, and those."""

    stream: int
    first: int
    messages: list[bytes]


class Streams(msgspec.Struct, frozen=True, array_like=True):
    """The streams of a session: the last number that one had, the GET stream, and the exchanges that ended."""

    last: int
    news: Log
    ended: list[Log]

    @property
    def size(self) -> int:
        """Bytes of all messages."""
        return sum(len(message) for each in (self.news, *self.ended) for message in each.messages)

    def emptied(self) -> Streams:
        """The numbering alone."""
        news = self.news
        return Streams(self.last, Log(news.stream, news.first + len(news.messages), []), [])


class Subscription(msgspec.Struct, frozen=True, array_like=True):
    """What a session is subscribed to: at which server, and the params that it said it with."""

    backend: str
    uri: str
    params: bytes


class Client(msgspec.Struct, frozen=True, array_like=True):
    """A session with an id."""

    id: str
    principal: str
    name: str
    ready: bool
    """Whether it has finished its handshake."""
    idle: float
    """Seconds since it was last used."""
    level: int | None
    subscriptions: list[Subscription]
    backlog: list[tuple[str, bytes]]
    streams: Streams | None


class Estate(msgspec.Struct, frozen=True):
    """Everything."""

    written: float
    """Seconds since 1970."""
    lists: dict[str, str]
    """Digests of the lists as clients know them, by kind."""
    links: list[tuple[str, str]]
    """URIs that were seen in results, and the server each belongs to; the oldest first."""
    clients: list[Client]


class HandoverRefused(ValueError):
    """These bytes are no handover that this mcpd understands. The message says why."""


def capture(gateway: Gateway) -> bytes:
    """Everything that the next run needs to know. To be called when nothing is in flight: calls are not part of it."""
    lists = gateway.notices.conclude()
    now = trio.current_time()
    clients: list[Client] = []
    left_out = size = 0
    sessions = [session for session in gateway.sessions if session.claims is not None]
    for session in sorted(sessions, key=lambda each: -each.last_used):
        client = _client(session, now)
        if client.streams is not None and client.streams.size:
            size += client.streams.size
            if size > MESSAGES_MAX:
                size -= client.streams.size
                left_out += 1
                client = msgspec.structs.replace(client, streams=client.streams.emptied())
        clients.append(client)
    if left_out:
        log.warning("event=handover_too_large sessions=%d effect=their_streams_cannot_be_resumed", left_out)
    body = msgspec.msgpack.encode(Estate(gateway.sessions.clock(), lists, gateway.router.links(), clients))
    return b"%b%d\n%b%b" % (MAGIC, FORMAT, hashlib.sha256(body).digest(), body)


def restore(data: bytes, gateway: Gateway, streams: Callable[[Session, Streams], None]) -> int:
    """Take in what `capture` gave, before backends are started; returns how many sessions came back. `streams` gives a
    session its streams back.

    Raises: HandoverRefused, with nothing changed."""
    estate = read(data)
    sessions = gateway.sessions
    backends = {backend.name: backend for backend in gateway.backends}
    now = trio.current_time()
    gap = max(0.0, sessions.clock() - estate.written)
    heirs: list[Session] = []
    for client in estate.clients:
        if len(sessions) >= gateway.config.limits.sessions:
            log.warning("event=handover_cut_short sessions=%d setting=limits.sessions", len(heirs))
            break
        session = sessions.find(client.id, client.principal)
        if session is None:
            continue  # too old by now
        heirs.append(session)
        session.caller = msgspec.structs.replace(session.caller, client=client.name)
        session.state = ServerState.READY if client.ready else ServerState.ANSWERED
        session.last_used = now - client.idle - gap
        session.backlog = {key: (message,) for key, message in client.backlog} or None
        if client.level is not None:
            gateway.levels.note(session, client.level)
        if client.streams is not None:
            streams(session, client.streams)
        for each in client.subscriptions:
            backend = backends.get(each.backend)
            if backend is not None:
                members = jsonrpc.members_of(each.params)
                if gateway.subscriptions.inherit(session, each.uri, backend, members):
                    backend.resubscribe(session.caller, each.uri, members)
    gateway.router.learn_links((uri, backends[name]) for uri, name in estate.links if name in backends)
    gateway.notices.inherit(estate.lists, {session.caller.key for session in heirs})
    return len(heirs)


def read(data: bytes) -> Estate:
    """What these bytes say. Raises: HandoverRefused."""
    head, _, rest = data.partition(b"\n")
    if not head.startswith(MAGIC):
        raise HandoverRefused("it is no handover of mcpd")
    if head != MAGIC + b"%d" % FORMAT:
        raise HandoverRefused(f"it has the format {head[len(MAGIC) :][:20].decode('latin-1')!r}, not {FORMAT}")
    check, body = rest[:CHECK], rest[CHECK:]
    if hashlib.sha256(body).digest() != check:
        raise HandoverRefused("it is damaged")
    try:
        return msgspec.msgpack.decode(body, type=Estate)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise HandoverRefused(f"it has another shape: {error}") from None


def _client(session: Session, now: float) -> Client:
    subscriptions = [
        Subscription(topic.backend.name, uri, jsonrpc.encode_members(topic.members))
        for uri, topic in (session.subscriptions or {}).items()
        if session.caller.key in topic.holders
    ]
    return Client(
        id=session.id,
        principal=session.caller.principal,
        name=session.client_name,
        ready=session.state is ServerState.READY,
        idle=0.0 if not session.idle else max(0.0, now - session.last_used),
        level=session.caller.log_level,
        subscriptions=subscriptions,
        backlog=[(key, b"".join(parts)) for key, parts in (session.backlog or {}).items()],
        streams=session.streams.capture() if session.streams is not None else None,
    )
