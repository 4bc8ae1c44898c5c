"""Every method and notification of every version: who may send it when, and what a gateway has to know of it.

One table. Source: the "Methods and notifications" of each version's schema; needs and who may ask while a
request runs: "Capabilities" of each version and 2026-07-28 "Multi Round-Trip Requests". Of extensions only
tasks is in the table, for its core form of 2025-11-25 and the extension of 2026-07-28 share names.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mcpd.protocol.jsonrpc import intern_methods
from mcpd.protocol.versions import HANDSHAKE, MODERN, Span, Version

_LEGACY: Final = Span(HANDSHAKE[0], HANDSHAKE[-1])
_ALL: Final = Span(HANDSHAKE[0], MODERN)
_MODERN: Final = Span(MODERN, MODERN)
_TASKS: Final = Span(Version.V2025_11_25, Version.V2025_11_25)


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """A row. A name that is sent in both directions is one row."""

    name: str
    client: Span | None = None
    """Versions in which clients send it."""
    server: Span | None = None
    """Versions in which servers send it."""
    input: bool = False
    """Since 2026-07-28 the server does not send it but puts it into `inputRequests`."""
    routed_by: str | None = None
    """The parameter that says which backend it is for: name, uri, ref or taskId."""
    server_needs: str | None = None
    """The server's capability without which it is not sent, as a dotted path."""
    client_needs: str | None = None
    """The client's."""
    may_ask: bool = False
    """The server may ask the client (sampling, elicitation, roots) while it runs."""
    list_member: str | None = None
    """The array in the result of a paginated list."""
    list_changed: str | None = None
    """The notification that makes that list stale."""

    @property
    def request(self) -> bool:
        """False for a notification."""
        return not self.name.startswith("notifications/")

    @property
    def cancellable(self) -> bool:
        """Whether its sender may take it back: every request but the first."""
        return self.request and self.name != "initialize"

    @property
    def raw(self) -> bytes:
        """The name as JSON text."""
        return b'"%b"' % self.name.encode()


METHODS: Final = (
    Method(name="initialize", client=_LEGACY),
    Method(name="server/discover", client=_MODERN),
    Method(name="ping", client=_LEGACY, server=_LEGACY),
    Method(
        name="tools/list",
        client=_ALL,
        server_needs="tools",
        list_member="tools",
        list_changed="notifications/tools/list_changed",
    ),
    Method(name="tools/call", client=_ALL, server_needs="tools", routed_by="name", may_ask=True),
    Method(
        name="resources/list",
        client=_ALL,
        server_needs="resources",
        list_member="resources",
        list_changed="notifications/resources/list_changed",
    ),
    Method(
        name="resources/templates/list",
        client=_ALL,
        server_needs="resources",
        list_member="resourceTemplates",
        list_changed="notifications/resources/list_changed",
    ),
    Method(name="resources/read", client=_ALL, server_needs="resources", routed_by="uri", may_ask=True),
    Method(name="resources/subscribe", client=_LEGACY, server_needs="resources.subscribe", routed_by="uri"),
    Method(name="resources/unsubscribe", client=_LEGACY, server_needs="resources.subscribe", routed_by="uri"),
    Method(
        name="prompts/list",
        client=_ALL,
        server_needs="prompts",
        list_member="prompts",
        list_changed="notifications/prompts/list_changed",
    ),
    Method(name="prompts/get", client=_ALL, server_needs="prompts", routed_by="name", may_ask=True),
    # 2024-11-05 has the method but not the capability: there one can only try.
    Method(name="completion/complete", client=_ALL, server_needs="completions", routed_by="ref"),
    Method(name="logging/setLevel", client=_LEGACY, server_needs="logging"),
    Method(name="subscriptions/listen", client=_MODERN),
    Method(name="sampling/createMessage", server=_LEGACY, input=True, client_needs="sampling"),
    Method(name="roots/list", server=_LEGACY, input=True, client_needs="roots"),
    Method(
        name="elicitation/create",
        server=Span(Version.V2025_06_18, HANDSHAKE[-1]),
        input=True,
        client_needs="elicitation",
    ),
    # Core tasks are symmetric; the extension knows only clients asking servers.
    Method(
        name="tasks/get",
        client=Span(Version.V2025_11_25, MODERN),
        server=_TASKS,
        routed_by="taskId",
        server_needs="tasks",
        client_needs="tasks",
    ),
    Method(
        name="tasks/result",
        client=_TASKS,
        server=_TASKS,
        routed_by="taskId",
        server_needs="tasks",
        client_needs="tasks",
    ),
    Method(
        name="tasks/list",
        client=_TASKS,
        server=_TASKS,
        server_needs="tasks.list",
        client_needs="tasks.list",
    ),
    Method(
        name="tasks/cancel",
        client=Span(Version.V2025_11_25, MODERN),
        server=_TASKS,
        routed_by="taskId",
        server_needs="tasks.cancel",
        client_needs="tasks.cancel",
    ),
    Method(name="tasks/update", client=_MODERN, routed_by="taskId", server_needs="tasks"),
    Method(name="notifications/initialized", client=_LEGACY),
    # 2026-07-28: from clients on stdio only, from servers only to end a listen stream.
    Method(name="notifications/cancelled", client=_ALL, server=_ALL),
    Method(name="notifications/progress", client=_LEGACY, server=_ALL),
    Method(name="notifications/message", server=_ALL, server_needs="logging"),
    Method(name="notifications/tools/list_changed", server=_ALL, server_needs="tools.listChanged"),
    Method(name="notifications/resources/list_changed", server=_ALL, server_needs="resources.listChanged"),
    Method(name="notifications/prompts/list_changed", server=_ALL, server_needs="prompts.listChanged"),
    Method(
        name="notifications/resources/updated",
        server=_ALL,
        server_needs="resources.subscribe",
        routed_by="uri",
    ),
    Method(name="notifications/roots/list_changed", client=_LEGACY, client_needs="roots.listChanged"),
    Method(name="notifications/elicitation/complete", server=_TASKS, client_needs="elicitation.url"),
    Method(name="notifications/tasks/status", client=_TASKS, server=_TASKS, routed_by="taskId"),
    Method(name="notifications/subscriptions/acknowledged", server=_MODERN),
    Method(name="notifications/tasks", server=_MODERN, routed_by="taskId"),
)

BY_NAME: Final = {method.name: method for method in METHODS}
BY_RAW: Final = {method.raw: method for method in METHODS}
"""Keyed by the JSON text of the name, for look-up without decoding."""

LISTS: Final = {method.list_member: method for method in METHODS if method.list_member is not None}
"""The list methods, keyed by the array in their result."""

ASKING: Final = frozenset(method.name for method in METHODS if method.may_ask)

intern_methods(list(BY_NAME))


def from_client(method: str, version: Version) -> bool:
    """Whether a client of `version` may send it."""
    row = BY_NAME.get(method)
    return row is not None and row.client is not None and version in row.client


def from_server(method: str, version: Version) -> bool:
    """Whether a server of `version` may send it as a message of its own."""
    row = BY_NAME.get(method)
    return row is not None and row.server is not None and version in row.server
