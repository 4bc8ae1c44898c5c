"""Whose is it? Exposed names through the catalogue's table, URIs by what backends list, by template, or by
having been seen.

Rules.
1. A name is found in the table or it is unknown; it is never taken apart.
2. A URI belongs to the backend that lists it; else to the one whose template matches it most specifically;
   else to the one that linked to it in a result; else to the only backend that has resources at all. URIs are
   never rewritten, and a URI is never tried at a backend that gave no reason to own it: it may hold a secret.

Source: "Resource not found" (-32002 up to 2025-11-25).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.errors import INVALID_PARAMS, RESOURCE_NOT_FOUND, ProtocolError, UnknownName
from mcpd.protocol import jsonrpc
from mcpd.protocol.sequence import split_array
from mcpd.protocol.uritemplate import URI_MAX
from mcpd.protocol.uritemplate import compile as compile_template
from mcpd.supervisor.states import USABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mcpd.backends.base import Backend
    from mcpd.gateway.catalog import Catalog, Route
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.protocol.uritemplate import Matcher

LINKS_MAX: Final = 4096
"""URIs learnt from results; the oldest go first. Clients follow a link soon after they saw it. With URIs
of at most URI_MAX this is 32 MiB at the very worst, and a few hundred KiB in practice."""

_WORDS: Final = {"tools": "tool", "prompts": "prompt"}


class Router:
    """Finds the backend for a name or URI on the current snapshot."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self._catalog: Catalog | None = None
        self._templates: list[tuple[Matcher, Backend]] = []
        self._linked: dict[str, Backend] = {}
        self._shared = False

    def take(self, backends: Sequence[Backend]) -> None:
        """Route to these backends from the next snapshot on. What others linked to is theirs of the same name."""
        self._backends = backends
        linked = {uri: self._present(backend) for uri, backend in self._linked.items()}
        self._linked = {uri: backend for uri, backend in linked.items() if backend is not None}

    def _present(self, backend: Backend) -> Backend | None:
        """The backend, or the one that took its place."""
        if backend in self._backends:
            return backend
        return next((other for other in self._backends if other.name == backend.name), None)

    def use(self, catalog: Catalog) -> None:
        """Route by this snapshot from now on."""
        self._catalog = catalog
        routes = catalog.resource_templates.routes
        templates = [(compile_template(template), route.backend) for template, route in routes.items()]
        self._templates = sorted(templates, key=lambda pair: -pair[0].specificity)
        self.recount()

    def recount(self) -> None:
        """Look again whether more than one backend has resources: only then is a link's owner worth knowing."""
        having = [b for b in self._backends if b.hello is not None and b.hello.capabilities.resources]
        self._shared = len(having) > 1

    def named(self, kind: str, name: str) -> Route:
        """The route of a tool or prompt. Raises: UnknownName."""
        assert self._catalog is not None
        route = self._catalog.of(kind).routes.get(name)
        if route is None:
            waiting = [each.name for each in self._backends if each.state not in USABLE and not each.asleep]
            hint = f" (not ready yet: {', '.join(waiting)})" if waiting else ""
            raise UnknownName(INVALID_PARAMS, f"Unknown {_WORDS[kind]}: {name}{hint}")
        return route

    def owner(self, uri: str) -> Backend | None:
        """The backend that gave a reason to own this URI: it lists it, has a template for it, or linked to it."""
        assert self._catalog is not None
        route = self._catalog.resources.routes.get(uri)
        if route is not None:
            return route.backend
        for matcher, backend in self._templates:
            if matcher.match(uri):
                return backend
        return self._linked.get(uri)

    def resource(self, uri: str) -> Backend:
        """The backend that a URI belongs to (rule 2). Raises: UnknownName."""
        owner = self.owner(uri)
        if owner is not None:
            return owner
        having = [b for b in self._backends if b.hello is not None and b.hello.capabilities.resources]
        if len(having) == 1:
            return having[0]
        raise UnknownName(RESOURCE_NOT_FOUND, f"Resource not found: {uri}", data=msgspec.json.encode({"uri": uri}))

    def template(self, uri: str) -> Backend:
        """The backend that lists this URI template, for completion; a plain URI is routed like a read.

        Raises: UnknownName, as for any unknown reference: INVALID_PARAMS.
        """
        assert self._catalog is not None
        route = self._catalog.resource_templates.routes.get(uri)
        if route is not None:
            return route.backend
        try:
            return self.resource(uri)
        except UnknownName as unknown:
            raise UnknownName(INVALID_PARAMS, f"Unknown resource template: {uri}", data=unknown.data) from None

    def learn(self, result: Buffer, backend: Backend) -> None:
        """Remember the resource links in a tool's result, where more than one backend could own them."""
        if not self._shared or b'"resource_link"' not in bytes(result):
            return
        owner = self._present(backend)  # the call may have outlived its backend's place in the configuration
        if owner is None:
            return
        try:
            for raw in split_array(jsonrpc.members_of(result)["content"]):
                block = jsonrpc.members_of(raw)
                if bytes(block.get("type", b"")) == b'"resource_link"':
                    uri = msgspec.json.decode(block["uri"], type=str)
                    if len(uri) <= URI_MAX:
                        self._linked.pop(uri, None)
                        self._linked[uri] = owner
        except (ProtocolError, KeyError, ValueError, RecursionError):
            pass  # not the shape of a result with links; it passes through as it is
        self._forget_oldest()

    def links(self) -> list[tuple[str, str]]:
        """What was learnt: URIs and the names of their backends, the oldest first."""
        return [(uri, backend.name) for uri, backend in self._linked.items()]

    def learn_links(self, links: Iterable[tuple[str, Backend]]) -> None:
        """Take in what an earlier run learnt."""
        self._linked.update(links)
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        while len(self._linked) > LINKS_MAX:
            del self._linked[next(iter(self._linked))]
