"""Opening one link to a server, by whichever transport it speaks.

`transport: auto` is found out once: Streamable HTTP is tried first, and where nothing speaks it, HTTP+SSE. What was found is
remembered while the daemon runs, and forgotten when it stops working: servers are upgraded.

Source: "Backwards Compatibility" of the Streamable HTTP transport.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mcpd.backends import http, sse, stdio
from mcpd.backends.link import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio

    from mcpd.backends.link import Listener
    from mcpd.config.model import ServerSpec
    from mcpd.protocol.capabilities import ClientCapability
    from mcpd.supervisor.supervisor import Supervisor
    from mcpd.types import SessionKey
    from mcpd.wire.deadlines import Deadlines
    from mcpd.wire.http_client import HttpClient


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
    ) -> None:
        self.spec = spec
        self.transport = spec.transport
        """The transport in use; `auto` until it was found out."""
        self.stateless = False
        """The remote keeps no session: one link serves every client."""
        self.pid: int | None = None
        self._supervisor = supervisor
        self._client = client
        self._deadlines = deadlines
        self._message_max = message_max

    @asynccontextmanager
    async def connect(
        self,
        nursery: trio.Nursery,
        listener: Listener,
        capabilities: ClientCapability,
        owner: SessionKey | None,
    ) -> AsyncIterator[Link]:
        """A link whose handshake is done; it ends with the block. `nursery` is the link's own.

        Raises: BackendError.
        """
        link = Link(
            self.spec.name,
            capabilities=capabilities,
            owner=owner,
            listener=listener,
            timeouts=self.spec.timeouts,
            deadlines=self._deadlines,
            nursery=nursery,
        )
        if self.transport == "stdio":
            async with stdio.connect(
                self.spec, self._supervisor, link, nursery, message_max=self._message_max
            ) as child:
                if owner is None:
                    self.pid = child.pid
                yield link
            return
        assert self._client is not None, "remote servers have a client"
        if self.transport != "sse":
            try:
                async with http.connect(
                    self.spec, self._client, link, nursery, message_max=self._message_max
                ) as carrier:
                    self.transport = "streamable-http"
                    self.stateless = not carrier.has_session
                    yield link
                return
            except http.NotHere:
                self.transport = self.spec.transport
                if self.transport != "auto":
                    raise
        async with sse.connect(self.spec, self._client, link, nursery, message_max=self._message_max):
            self.transport = "sse"
            try:
                yield link
            finally:
                self.transport = self.spec.transport
