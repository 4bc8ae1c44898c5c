"""What operators are shown of the gateway, wherever they ask: over HTTP or on the control socket."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

import msgspec
import trio

if TYPE_CHECKING:
    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session

KEYS: Final = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}
"""By what the entries of each list are told apart."""


def servers(gateway: Gateway) -> list[dict[str, object]]:
    """Every configured server with its true state, in the order of the configuration."""
    running = {backend.name: backend.describe() for backend in gateway.backends}
    return [running.get(spec.name) or {"name": spec.name, "state": "disabled"} for spec in gateway.config.servers]


def server(gateway: Gateway, name: str) -> dict[str, object] | None:
    """One configured server with its true state; None if there is no such server."""
    return next((each for each in servers(gateway) if each["name"] == name), None)


def entries(gateway: Gateway, kind: str, *, server: str | None = None) -> list[dict[str, object]]:
    """One list as clients see it, or one server's part of it: each entry with its server, the server's own name for it,
    and the definition as JSON."""
    gateway.notices.flush()  # a server is "ready" before changes were collected for long enough
    listing, key = gateway.catalog.of(kind), KEYS[kind]
    found: list[dict[str, object]] = []
    for raw, (name, route) in zip(listing.raws, listing.routes.items(), strict=True):
        if server is None or route.backend.name == server:
            found.append(
                {key: name, "server": route.backend.name, "own_name": route.name, "definition": msgspec.Raw(raw)}
            )
    return found


def sessions(gateway: Gateway, key: bytes) -> dict[str, object]:
    """The sessions in memory, the one used last first. Their ids are their clients' secrets: what is shown instead is
    made of them with `key`."""
    now = gateway.sessions.clock()
    by_use = sorted(gateway.sessions, key=lambda session: (not session.idle, session.last_used), reverse=True)
    return {"sessions": [_session(each, key, now) for each in by_use], "listening": len(gateway.listens)}


def _session(session: Session, key: bytes, now: float) -> dict[str, object]:
    caller = session.caller
    about: dict[str, object] = {
        "tag": hmac.digest(key, caller.key.encode(), "sha256").hex()[:12],
        "client": session.client_name,
        "principal": caller.principal,
        "protocol_version": caller.version.text,
        "connection": "http" if session.claims is not None else "channel",
        "idle": 0.0 if not session.idle else round(trio.current_time() - session.last_used, 3),
        "calls": len(session.calls),
        "questions": len(session.questions or ()),
        "subscriptions": len(session.subscriptions or ()),
        "listens": session.outlet is not None,
    }
    if session.claims is not None:
        about["age"] = max(0.0, round(now - session.claims.begun, 3))
    return about
