"""Opening one link to a server, by whichever transport it speaks.

`transport: auto` is found out once: Streamable HTTP is tried first, and where nothing speaks it, HTTP+SSE.
What was found is remembered while the daemon runs, and forgotten when it stops working: servers are upgraded. The same
goes for the era of the server; a child that ends because it was asked for it is started once more, and not asked, and a
WebSocket that ends is opened once more.

Source: "Backwards Compatibility" of the Streamable HTTP transport.
"""

from __future__ import annotations

import logging
import math
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends import command, http, sse, stdio, websocket
from mcpd.backends.legacy import RefusedInitialize
from mcpd.backends.link import Link
from mcpd.backends.opening import FATAL_FOR, Era, EraMemory
from mcpd.backends.questions import Label
from mcpd.backends.replies import NotHere
from mcpd.config.model import Secrets
from mcpd.errors import BackendMisbehaved, BackendUnavailable
from mcpd.supervisor.tree import cpu_ticks
from mcpd.wire.http_limits import ClientLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcpd.backends.carried import LinkState
    from mcpd.backends.carrier import Listener, Wish
    from mcpd.config.model import Limits, ServerSpec
    from mcpd.protocol.capabilities import ClientCapability
    from mcpd.supervisor.slots import Claim
    from mcpd.supervisor.supervisor import Supervisor
    from mcpd.types import SessionKey
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_client import HttpClient

log = logging.getLogger("mcpd.backends")

ERAS: Final = {"auto": Era.UNKNOWN, "legacy": Era.LEGACY, "modern": Era.MODERN}

STIR: Final = 0.15
"""Seconds after which a starting process that used no processor time counts as quiet: it waits for something."""


def client_limits(limits: Limits) -> ClientLimits:
    """What one origin may cost. Every call in flight or parked may hold a connection: with one fewer, calls would wait
    for people."""
    return ClientLimits(body=limits.message, connections=limits.calls + limits.parks)


class Connector:
    """Opens links to one server."""

    def __init__(
        self,
        spec: ServerSpec,
        *,
        supervisor: Supervisor,
        client: HttpClient | None,
        deadlines: Deadlines,
        message_max: int,
        secrets: Secrets | None = None,
        labelled: bool = False,
    ) -> None:
        self.spec = spec
        self.transport = spec.transport
        """The transport in use; `auto` until it was found out."""
        self.stateless = False
        """The server keeps nothing for a client, because it is modern or a remote without sessions: one link serves
        everybody."""
        self.pid: int | None = None
        self.eras = EraMemory(ERAS[spec.era])
        self.carried: dict[SessionKey | None, LinkState] = {}
        """Links that another program opened, by their owner: `connect` goes on with them before it opens any."""
        self._ticks = 0
        self._stirred = -math.inf
        self._supervisor = supervisor
        self._client = client
        self._deadlines = deadlines
        self._message_max = message_max
        self._label = Label(f"[{spec.name}] " if labelled else "")
        self.over: str | None = None
        """What calls fail with that are in flight when its links end for good."""
        self._told = False
        self._secrets = secrets or Secrets.of({*spec.env.values(), *spec.headers.values()})

    def adjust(self, limits: Limits, *, labelled: bool) -> None:
        """Go by other limits, and say whether questions to people name the server: the former holds for links and
        connections that are opened from now on, the latter for all."""
        self._message_max = limits.message
        self._label.text = f"[{self.spec.name}] " if labelled else ""
        if self._client is not None:
            self._client.adjust(client_limits(limits))

    async def close(self) -> None:
        """The server has no place any more: connections that nobody uses are not kept for it."""
        if self._client is not None:
            await self._client.aclose()

    def stirs(self) -> bool:
        """Whether the server's processes have used the processor a moment ago; never for a remote one."""
        mine = [child.pid for child in self._supervisor.children() if child.name == self.spec.name]
        now, ticks = trio.current_time(), sum(map(cpu_ticks, mine))
        if ticks != self._ticks:
            self._ticks, self._stirred = ticks, now
        return now - self._stirred < STIR

    @asynccontextmanager
    async def connect(
        self,
        nursery: trio.Nursery,
        listener: Listener,
        capabilities: ClientCapability | Wish,
        owner: SessionKey | None,
        claim: Claim,
    ) -> AsyncIterator[Link]:
        """A link that is open; it ends with the block. `nursery` is the link's own, `claim` is for a child. A wish need
        not be known yet if the server is a child: it is started, and the link opened once the wish is known.

        Raises: BackendError.
        """
        link = self._link(nursery, listener, capabilities, owner, self.eras.recall(trio.current_time()))
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._carrier(nursery, link, claim, self.carried.pop(owner, None)))
                lasts = link.remember
            except (RefusedInitialize, NotHere, BackendMisbehaved):
                self.eras.forget()
                raise
            except (stdio.ChildEnded, websocket.SocketEnded):
                if link.era is not Era.UNKNOWN or not link.wish.known.is_set():
                    raise
                log.info("backend=%s event=ended_by_probe action=initialize", self.spec.name)
                link = self._link(nursery, listener, capabilities, owner, Era.LEGACY)
                await stack.enter_async_context(self._carrier(nursery, link, claim))
                lasts = FATAL_FOR
            if lasts:
                self.eras.note(trio.current_time(), lasts)
            if link.carrier.shared:
                self.stateless = link.era is Era.MODERN
            try:
                yield link
            finally:
                # Whoever still waits learns it now, and not when the farewell, which takes seconds, is over.
                link.fail(
                    link.reason or BackendUnavailable(self.spec.name, self.over or "its connection was ended by mcpd")
                )

    async def _tell_shortfalls(self) -> None:
        """Say once what is configured and does not hold here."""
        if self._told:
            return
        self._told = True
        words = command.shortfalls(self.spec, self._supervisor)
        if self.spec.sandbox.has_paths:
            words += await trio.to_thread.run_sync(
                command.openings, self.spec, self._supervisor, abandon_on_cancel=True
            )
        for each in words:
            log.warning("backend=%s event=not_enforced %s", self.spec.name, each)

    def _link(
        self,
        nursery: trio.Nursery,
        listener: Listener,
        capabilities: ClientCapability | Wish,
        owner: SessionKey | None,
        era: Era,
    ) -> Link:
        return Link(
            self.spec.name,
            capabilities=capabilities,
            owner=owner,
            listener=listener,
            timeouts=self.spec.timeouts,
            deadlines=self._deadlines,
            nursery=nursery,
            label=self._label,
            era=era,
        )

    @asynccontextmanager
    async def _carrier(
        self, nursery: trio.Nursery, link: Link, claim: Claim, carried: LinkState | None = None
    ) -> AsyncIterator[None]:
        """Connect the link. Raises: BackendError."""
        if self.transport == "stdio":
            await self._tell_shortfalls()
            opened = partial(stdio.connect, claim=claim)
            connect = opened if carried is None else partial(stdio.resume, state=carried)
            async with connect(
                self.spec,
                self._supervisor,
                link,
                nursery,
                message_max=self._message_max,
                secrets=self._secrets,
            ) as child:
                if link.owner is None:
                    self.pid = child.pid
                yield
            return
        assert self._client is not None, "remote servers have a client"
        if self.transport == "websocket":
            async with websocket.connect(
                self.spec,
                self._client,
                link,
                nursery,
                message_max=self._message_max,
                deadlines=self._deadlines,
                secrets=self._secrets,
            ):
                yield
            return
        if self.transport != "sse":
            connected = False
            try:
                async with http.connect(
                    self.spec, self._client, link, nursery, message_max=self._message_max
                ) as carrier:
                    connected = True
                    self.transport = "streamable-http"
                    self.stateless = not carrier.has_session
                    yield
                return
            except NotHere:
                self.transport = self.spec.transport
                # Later it means that the backend has gone; what was found out is forgotten, and the next
                # attempt looks anew.
                if connected or self.transport != "auto":
                    raise
        link.era = Era.LEGACY  # this transport is older than the other era
        async with sse.connect(self.spec, self._client, link, nursery, message_max=self._message_max):
            self.transport = "sse"
            try:
                yield
            finally:
                if link.owner is None:
                    self.transport = self.spec.transport
