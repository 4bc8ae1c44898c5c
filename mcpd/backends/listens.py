"""A modern backend's news: one `subscriptions/listen` kept open, replaced when what is listened to changes.

Rules.
1. A new stream is open, and acknowledged, before the old one is ended: nothing is lost in between.
2. A stream that ends is opened again, after a pause that grows; whatever it should have told may have happened meanwhile,
   so everything counts as changed.
3. A backend that has no such method, or acknowledges nothing, is not asked again: its lists are looked at when they are
   stale.

Source: 2026-07-28 "Subscriptions" (`subscriptions/listen`).
"""

from __future__ import annotations

import logging
import math
import random
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends.notifications import LIST_CHANGES
from mcpd.errors import INVALID_PARAMS, METHOD_NOT_FOUND, BackendError, RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.convert import drop_modern

if TYPE_CHECKING:
    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.protocol.jsonrpc import Members, Message

log = logging.getLogger("mcpd.backends")

ACK_WAIT: Final = 10.0
"""Seconds that a backend gets to acknowledge a stream; what opens it waits no longer."""

AGAIN: Final = 0.5
"""Seconds before a stream that ended is opened again; doubled each time, up to AGAIN_MAX."""

AGAIN_MAX: Final = 60.0

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
UPDATED: Final = "notifications/resources/updated"
SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"


class Stream:
    """One listen request."""

    def __init__(self, uris: tuple[str, ...]) -> None:
        self.uris = uris
        self.waiter: Waiter | None = None
        self.acknowledged = trio.Event()
        self.honoured: frozenset[str] = frozenset()
        """The URIs that the backend will tell of."""
        self.scope = trio.CancelScope()
        self.error: RpcError | None = None


class Listens:
    """The stream of one link. Its tasks run in the link's nursery and end with it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._stream: Stream | None = None
        self._turn = trio.Lock()
        self._started = False
        self._useless = False

    async def start(self) -> None:
        """Open the stream for what the backend can announce, and for the link's subscriptions."""
        if not self._started:
            self._started = True
            await self._renew()

    async def add(self, uri: str, members: Members) -> None:
        """Listen to a resource too. Raises: RpcError when the backend does not tell of it."""
        link = self._link
        link.subscriptions[uri] = members
        stream = await self._renew()
        if stream is None or uri not in stream.honoured:
            del link.subscriptions[uri]
            if stream is not None and stream.error is not None:
                raise stream.error
            raise RpcError(INVALID_PARAMS, f"backend '{link.name}' does not announce updates of {uri}")

    async def drop(self, uri: str) -> None:
        """Listen to it no more."""
        await self._renew()

    # ---- streams -------------------------------------------------------------------------------------------

    def _filter(self) -> dict[str, object]:
        link = self._link
        assert link.hello is not None
        has = link.hello.capabilities
        wanted: dict[str, object] = {}
        if link.owner is None:
            # Only the link that everybody shares keeps the catalogue.
            for name, announced in (
                ("toolsListChanged", has.tools_list_changed),
                ("promptsListChanged", has.prompts_list_changed),
                ("resourcesListChanged", has.resources_list_changed),
            ):
                if announced:
                    wanted[name] = True
        if link.subscriptions:
            wanted["resourceSubscriptions"] = list(link.subscriptions)
        return wanted

    async def _renew(self) -> Stream | None:
        """Open a stream for what is wanted now, then end the old one (rule 1)."""
        async with self._turn:
            old, wanted = self._stream, self._filter()
            if not wanted or self._useless:
                self._stream = None
            else:
                new = self._stream = Stream(tuple(self._link.subscriptions))
                self._link.nursery.start_soon(self._keep, new, wanted)
                with trio.move_on_after(ACK_WAIT):
                    await new.acknowledged.wait()
            if old is not None:
                old.scope.cancel()
            return self._stream

    async def _keep(self, stream: Stream, wanted: dict[str, object]) -> None:
        """Keep one stream open until it is replaced or the link is lost."""
        link = self._link
        pause, first = AGAIN, True
        params: Members = {"notifications": msgspec.Raw(msgspec.json.encode(wanted))}
        with stream.scope:
            while not link.lost.is_set():
                if not first:
                    await trio.sleep(pause * random.uniform(0.8, 1.2))
                    pause = min(2 * pause, AGAIN_MAX)
                begun = trio.current_time()
                stream.waiter = link.waiter("subscriptions/listen", None, math.inf, math.inf)
                try:
                    await link.once(stream.waiter, params)
                except RpcError as error:
                    stream.error = error
                    refused = not isinstance(error, BackendError)
                    stream.acknowledged.set()
                    if refused and error.code == METHOD_NOT_FOUND:
                        self._useless = True
                        log.info("backend=%s event=no_listen reason=%s", link.name, error)
                        return
                    log.info("backend=%s event=listen_ended reason=%s", link.name, error)
                if trio.current_time() - begun > AGAIN_MAX:
                    pause = AGAIN
                first = False

    # ---- what comes on them --------------------------------------------------------------------------------

    def take(self, message: Message, related: Waiter | None) -> bool:
        """Act on a notification that belongs to listening; False for any other. Raises: ProtocolError."""
        link = self._link
        if message.method == ACKNOWLEDGED:
            self._acknowledge(message, related)
            return True
        if message.method == UPDATED:
            link.listener.resource_updated(drop_modern(message.params or b"{}"), link.owner)
            return True
        return False

    def _acknowledge(self, message: Message, related: Waiter | None) -> None:
        stream = self._stream
        if stream is None or stream.waiter is None:
            return
        params = jsonrpc.members_of(message.params or b"{}")
        if related is not None:
            if related is not stream.waiter:
                return
        else:
            meta = jsonrpc.members_of(params.get("_meta", msgspec.Raw(b"{}")))
            if bytes(meta.get(SUBSCRIPTION_ID, b"")).strip(b'"') != b"%d" % stream.waiter.id:
                return
        honoured = msgspec.json.decode(params["notifications"], type=_Honoured) if "notifications" in params else None
        stream.honoured = frozenset(honoured.resourceSubscriptions) if honoured is not None else frozenset()
        again = stream.acknowledged.is_set()
        stream.acknowledged.set()
        if again:
            self._everything_changed(stream)

    def _everything_changed(self, stream: Stream) -> None:
        """The stream was interrupted (rule 2)."""
        link = self._link
        if link.owner is None:
            for method in LIST_CHANGES:
                link.listener.list_changed(method)
        for uri in stream.uris:
            link.listener.resource_updated(msgspec.json.encode({"uri": uri}), link.owner)


class _Honoured(msgspec.Struct):
    resourceSubscriptions: list[str] = []
