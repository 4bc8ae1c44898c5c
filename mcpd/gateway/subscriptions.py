"""Subscriptions to resources, counted: a backend is subscribed once, however many of its clients are.

A backend that serves each client by a link of its own is subscribed by that link; a shared one is subscribed
by the first client and unsubscribed by the last.

Rules.
1. A topic is a URI at a backend: what another backend says about the same URI concerns nobody.
2. About one topic the backend is asked one thing at a time, so that a last unsubscribe and a first subscribe
   do not overtake each other.
3. A holder's place is taken before the backend is asked, so that the limit holds for subscriptions under way
   too.

Source: "Subscriptions" under "Resources" of 2024-11-05 to 2025-11-25; 2026-07-28 "Subscriptions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import trio

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, ProtocolError, RpcError
from mcpd.gateway.rounds import nothing
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcpd.backends.base import Backend
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Buffer, Members
    from mcpd.types import SessionKey

SUB_RESOURCES_MAX: Final = 8192
"""Characters of an updated URI up to which it is looked at as somebody's sub-resource, a look-up for each
of its parts."""


class Holder(Protocol):
    """Who can be subscribed: a session, or a request that listens."""

    caller: Caller
    subscriptions: dict[str, Topic] | None
    """What it is subscribed to, by URI; kept by `Subscriptions`."""
    left: bool
    """It ended: nothing must be noted down for it any more."""


class Topic:
    """A resource of a backend that somebody is subscribed to."""

    __slots__ = ("backend", "holders", "members", "turn", "uri", "users")

    def __init__(self, backend: Backend, uri: str, members: Members) -> None:
        self.backend = backend
        self.uri = uri
        self.members = members
        """What the first one was subscribed with."""
        self.holders: set[SessionKey] = set()
        self.turn = trio.Lock()
        self.users = 0
        """Tasks that want something of it right now."""


class Subscriptions:
    """Who is subscribed to what."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Resources that one holder may be subscribed to."""
        self._topics: dict[tuple[str, str], Topic] = {}

    def __len__(self) -> int:
        """Topics that anybody is, or is about to be, subscribed to."""
        return len(self._topics)

    async def add(self, holder: Holder, call: Call, uri: str, backend: Backend, members: Members) -> None:
        """Subscribe a holder. Raises: RpcError: too many, not supported, or the backend's own error."""
        if backend.hello is not None and not backend.hello.capabilities.resources_subscribe:
            reason = f"backend '{backend.name}' does not support resource subscriptions"
            raise RpcError(INVALID_PARAMS, reason)
        held = holder.subscriptions
        if held is None:
            held = holder.subscriptions = {}
        former = held.get(uri)
        if former is not None and former.backend is not backend:
            await self.remove(holder, uri)  # the URI is served by another backend now
        elif former is None and len(held) >= self.limit:
            raise RpcError(INTERNAL_ERROR, f"more than {self.limit} subscriptions (limits.subscriptions)")
        key = holder.caller.key
        topic = self._topics.get((backend.name, uri))
        if topic is None:
            topic = self._topics[backend.name, uri] = Topic(backend, uri, without_token(members))
        held[uri] = topic
        topic.users += 1
        try:
            async with topic.turn:
                if not topic.holders or backend.spec.apart:
                    await backend.subscribe(call, uri, without_token(members))
                if holder.left:
                    # It ended while the backend answered.
                    if not topic.holders:
                        backend.drop_subscription(uri)
                    return
                topic.holders.add(key)
                held[uri] = topic
        finally:
            topic.users -= 1
            if key not in topic.holders and held.get(uri) is topic:
                del held[uri]
            self.tidy(topic)

    def inherit(self, holder: Holder, uri: str, backend: Backend, members: Members) -> bool:
        """A holder was subscribed in an earlier run; the backend is told elsewhere. False beyond the limit."""
        held = holder.subscriptions
        if held is None:
            held = holder.subscriptions = {}
        if len(held) >= self.limit:
            return False
        topic = self._topics.get((backend.name, uri))
        if topic is None:
            topic = self._topics[backend.name, uri] = Topic(backend, uri, members)
        topic.holders.add(holder.caller.key)
        held[uri] = topic
        return True

    async def remove(self, holder: Holder, uri: str) -> None:
        """End one subscription of a holder; ending what is not there is no error."""
        held = holder.subscriptions
        topic = held.get(uri) if held is not None else None
        if held is None or topic is None:
            return
        topic.users += 1
        try:
            async with topic.turn:
                if held.get(uri) is topic:
                    del held[uri]
                if holder.caller.key not in topic.holders:
                    return
                topic.holders.discard(holder.caller.key)
                if not topic.holders or topic.backend.spec.apart:
                    await topic.backend.unsubscribe(holder.caller.key, uri)
        finally:
            topic.users -= 1
            self.tidy(topic)

    def last_of(self, holder: Holder) -> list[tuple[Backend, str]]:
        """Forget a holder that ended; returns what nobody is subscribed to any more."""
        orphaned = []
        held, holder.subscriptions = holder.subscriptions, None
        for uri, topic in (held or {}).items():
            if holder.caller.key in topic.holders:
                topic.holders.discard(holder.caller.key)
                if not topic.holders:
                    orphaned.append((topic.backend, uri))
            self.tidy(topic)
        return orphaned

    def at(self, backend: Backend) -> list[Topic]:
        """The topics of a backend."""
        return [topic for topic in self._topics.values() if topic.backend is backend]

    def drop(self, topic: Topic, holder: Holder) -> None:
        """A holder's subscription is over, because its backend is gone or will not have it."""
        topic.holders.discard(holder.caller.key)
        if holder.subscriptions is not None and holder.subscriptions.get(topic.uri) is topic:
            del holder.subscriptions[topic.uri]
        self.tidy(topic)

    def holders(self, backend: Backend, updated: str) -> set[SessionKey]:
        """The holders that an update of this URI at this backend concerns."""
        found: set[SessionKey] = set()
        for uri in covering(updated):
            topic = self._topics.get((backend.name, uri))
            if topic is not None:
                found |= topic.holders
        return found

    def tidy(self, topic: Topic) -> None:
        """Forget a topic that nobody is subscribed to or wants anything of."""
        if not topic.users and not topic.holders:
            self._topics.pop((topic.backend.name, topic.uri), None)


def covering(updated: str) -> Iterator[str]:
    """The URIs whose subscribers an update concerns: the same one, and those that it is a sub-resource of."""
    yield updated
    if len(updated) > SUB_RESOURCES_MAX:
        return
    for at, character in enumerate(updated):
        if character in "/?#" or (at and updated[at - 1] == "/"):
            yield updated[:at]


def asked_for(caller: Caller, members: Members) -> Call:
    """A call that subscribes to a resource for somebody who did not send this very request."""
    params = jsonrpc.encode_members(members)
    return Call(caller, "resources/subscribe", params, dict(members), _unheard, _nobody, nothing)


def _unheard(method: str, params: Buffer) -> None:
    """What a backend says while it is being subscribed to: no news belongs to that request."""


async def _nobody(method: str, params: Buffer) -> Buffer:
    raise RpcError(METHOD_NOT_FOUND, f"{method}: a client cannot be asked while it subscribes")


def without_token(members: Members) -> Members:
    """The params without `_meta.progressToken`: they are sent again in a new session, when the token is
    another call's."""
    raw = members.get("_meta")
    if raw is None:
        return members
    try:
        meta = jsonrpc.members_of(raw)
    except ProtocolError:
        return members
    if meta.pop("progressToken", None) is None:
        return members
    return {**members, "_meta": msgspec.Raw(jsonrpc.encode_members(meta))}
