"""What operators are shown of the gateway, wherever they ask: over HTTP or on the control socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcpd.gateway.gateway import Gateway


def servers(gateway: Gateway) -> list[dict[str, object]]:
    """Every configured server with its true state, in the order of the configuration."""
    running = {backend.name: backend.describe() for backend in gateway.backends}
    return [running.get(spec.name) or {"name": spec.name, "state": "disabled"} for spec in gateway.config.servers]


def server(gateway: Gateway, name: str) -> dict[str, object] | None:
    """One configured server with its true state; None if there is no such server."""
    return next((each for each in servers(gateway) if each["name"] == name), None)
